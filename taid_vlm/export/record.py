"""``export.json`` in an export: which student it was made of and what was proven, so that it can be uploaded another day."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.export.gate import Proof

NAME = "export.json"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        kind: name of the target. proofs: of the checkpoint, and of the plain language model beside it.
    """

    kind: str
    folder: Path
    proofs: tuple[Proof, ...]
    notes: tuple[str, ...]


def fingerprint(weights_sha256: str, spec: Mapping[str, Any]) -> str:
    """Of a student: its weights, and the spec that completes them where only trained ones are saved."""
    return hashlib.sha256(json.dumps([weights_sha256, spec], sort_keys=True).encode()).hexdigest()


def write_record(done: Exported, folder: Path, student: str) -> None:
    """Into ``folder``, which becomes that of ``done``. ``student`` is its fingerprint."""
    content = {
        "kind": done.kind,
        "student": student,
        "proofs": [asdict(one) for one in done.proofs],
        "notes": done.notes,
    }
    (folder / NAME).write_text(json.dumps(content, indent=2) + "\n")


def read_record(folder: Path, student: str, to: str) -> Exported:
    """What ``folder`` holds, if it is an export of this student.

    Args:
        student: its fingerprint. to: the kind that is wanted, or ``auto``.

    Raises:
        UserError: it is something else, an export of other weights, or of another kind.
    """
    otherwise = "delete it to export anew, or name another folder"
    try:
        content = json.loads((folder / NAME).read_text())
        proofs = tuple(Proof(**one) for one in content["proofs"])
        kind, made_of, notes = content["kind"], content["student"], tuple(content["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} exists and holds no export that could be uploaded ({NAME}: {error}); {otherwise}"
        ) from error
    if made_of != student:
        raise UserError(f"{folder} holds an export of another student, perhaps of an earlier training; {otherwise}")
    if to not in ("auto", kind):
        raise UserError(f"{folder} holds an export to {kind}, and {to} is wanted; {otherwise}")
    return Exported(kind, folder, proofs, notes)
