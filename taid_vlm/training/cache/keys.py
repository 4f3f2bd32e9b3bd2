"""What decides a sample's states, as a key: its words, its pictures' bytes, and which of its tokens are learnt."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.data.pairing import Pairer
from taid_vlm.data.pictures import PictureDigests
from taid_vlm.data.record import Record
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.cache.forms import Form

FORMAT = 4
DIGITS = 32  # 128 bits of a hash


def keys_of(records: Iterable[Record], pairer: Pairer, pictures: PictureDigests) -> dict[str, str]:
    """The key of each sample by its id.

    Raises:
        UserError: different samples have one id.
    """
    keys: dict[str, str] = {}
    for record in records:
        key = sample_key(record, pairer, pictures)
        if keys.setdefault(record.id, key) != key:
            raise UserError(
                f"two different samples have one id ({record.id}), so the teacher cache cannot tell them apart; make ids unique"
            )
    return keys


def sample_key(record: Record, pairer: Pairer, pictures: PictureDigests) -> str:
    """Changes with everything about the sample that changes its states; what is the same for all is in the folder's name."""
    digest = hashlib.sha256(record.text_digest().encode())
    if pairer.ends_differ:  # fewer rows of the same words
        digest.update(b"ends left out")
    if record.text is not None:  # which of its tokens are said depends on the student's tokenizer, too
        side = pairer.pair(record).teacher
        digest.update(repr(side and side.rows).encode())
    for picture in record.images:
        digest.update(pictures[picture].encode())
    return digest.hexdigest()[:DIGITS]


def folder_name(teacher: Teacher, form: Form, precision: str) -> str:
    """One for each teacher, form and way to compute; ``precision`` is the autocast the teacher runs under."""
    about = [
        FORMAT,
        teacher.fingerprint,
        tokenizer_digest(teacher.processor.tokenizer),
        form.name,
        precision,
    ]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def tokenizer_digest(tokenizer: Any) -> str:
    """Of a fast tokenizer: all that decides which ids a text becomes."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    for passing in ("padding", "truncation"):  # as it was called last
        rules.pop(passing, None)
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
