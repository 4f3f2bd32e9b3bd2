"""Answers that the teacher writes once, to learn from as labels: sequence-level distillation (arXiv 1606.07947, section 3.2).

The teacher's words take the place of each record's last answer. Words need no shared vocabulary, so teacher and student may have any two
tokenizers. Answers are kept on disk by what they depend on: the words and pictures asked about, the teacher, and how it was run.

An answer that the teacher did not end within the limit is not learnt from: cut off, it would teach to stop in the middle.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from PIL.Image import Image

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.shared import PATIENCE, PAUSE
from taid_vlm.data.images import open_image
from taid_vlm.data.pictures import PictureDigests
from taid_vlm.data.record import BadSampleError, Record
from taid_vlm.models.generate import Answer
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.cache.keys import tokenizer_digest
from taid_vlm.training.precision import autocast

BATCH = 16
SHARD = 16 * BATCH
FORMAT = 4  # an answer, and why it is left out

LeftOut = Literal["cut", "no words", "long question", "picture"]
WHY: dict[LeftOut, str] = {
    "cut": "the teacher's answer is longer than data.answer_tokens; raise it to keep them",
    "no words": "the teacher has no answer",
    "long question": "the question is longer than data.max_length",
    "picture": "the teacher cannot be asked that",
}


class Outcome(NamedTuple):
    """What came of a question: an answer, or why its sample is left out."""

    answer: str
    left_out: LeftOut | None = None


@dataclass(frozen=True)
class Answered:
    """Records with the teacher's words as their last answer.

    Attributes:
        left_out: how many records are not among them, by reason.
        kept: how many have the answers that they came with, for they do not end with a question and its answer.
        refused: why the teacher could not be asked the first of those that it could not be asked.
    """

    records: list[Record]
    left_out: Counter[LeftOut]
    kept: int
    refused: str = ""

    def told(self) -> list[str]:
        """A line for each thing that a person should know."""
        total = len(self.records) + self.left_out.total()
        lines = []
        for why, count in self.left_out.most_common():
            first = f"; the first: {self.refused}" if why == "picture" else ""
            lines.append(f"{count} of {total} samples are left out: {WHY[why]}{first}")
        if self.kept:
            lines.append(
                f"{self.kept} of {total} samples keep their own answers: they do not end with one to a question"
            )
        return lines


class WrittenAnswers:
    """The answers of one teacher.

    Args:
        max_tokens: longest answer, the token that ends it included. precision: the autocast the teacher runs under.
        max_length: tokens of the longest question, pictures included; to a longer one there is no answer.
        All three are part of the key.
    """

    def __init__(self, teacher: Teacher, max_tokens: int, precision: str, max_length: int) -> None:
        self.teacher, self.max_tokens, self.precision, self.max_length = teacher, max_tokens, precision, max_length
        tokenizer = tokenizer_digest(teacher.processor.tokenizer)
        about = f"{FORMAT} {teacher.fingerprint} {tokenizer} {max_tokens} {precision} {max_length}"
        name = hashlib.sha256(about.encode()).hexdigest()[:24]
        self.folder = cache_folder() / "answers" / name
        self._pictures = PictureDigests()

    def replaced(
        self,
        records: Sequence[Record],
        progress: Callable[[int, int], None] | None = None,
        share: tuple[int, int] = (0, 1),
        wait: Callable[[], None] = lambda: None,
    ) -> Answered:
        """The records with the teacher's words as their last answer.

        What is on disk is read, the rest is written a shard at a time; stopped, it goes on at the batch it was at, killed at the shard. Records that
        do not end with a question and its answer (texts, broken ones) and those whose pictures cannot be read stay as they are, for
        screening to judge.

        Args:
            share: rank and number of processes, each of which writes its part. wait: returns when all have come to it.

        Raises:
            UserError: pictures for a teacher that takes none, damaged answers, or answers of other processes that are not seen.
        """
        keys = [self._key(record) if _asks(record) else "" for record in records]
        self._refuse_pictures([record for record, key in zip(records, keys, strict=True) if key])
        known = self._read()
        missing = [i for i, key in enumerate(keys) if key and key not in known]
        missing = list({keys[i]: i for i in missing}.values())  # one of equal questions
        rank, world = share
        # By key: what is on disk may be seen at other moments by other processes.
        missing = [i for i in missing if int(keys[i][:8], 16) % world == rank]
        # Prompts of like length share a batch.
        missing.sort(key=lambda i: (len(records[i].images), sum(len(str(m["content"])) for m in records[i].messages)))
        for start in range(0, len(missing), SHARD):
            part = missing[start : start + SHARD]
            written = self._write([records[i] for i in part], [keys[i] for i in part])
            known.update(written)
            if progress is not None:
                progress(min(start + SHARD, len(missing)), len(missing))
        if world > 1:
            wait()
            known = self._read()
        answered: list[Record] = []
        left_out: Counter[LeftOut] = Counter()
        kept, refused = 0, ""
        for record, key in zip(records, keys, strict=True):
            outcome = known.get(key)
            if key and outcome is None:
                outcome, why = self._unanswered(record, key, known)
                refused = refused or why
            if outcome is not None and outcome.left_out is not None:
                left_out[outcome.left_out] += 1
                continue
            kept += not key and _is_conversation(record)
            answered.append(record if outcome is None else _with_answer(record, outcome.answer))
        return Answered(answered, left_out, kept, refused)

    def _refuse_pictures(self, asked: list[Record]) -> None:
        shown = next((record for record in asked if record.images), None)
        if shown is not None and not self.teacher.sees:
            raise UserError(
                f"the teacher takes no pictures, and is to answer about one (sample {shown.id}): choose a teacher that sees, or data "
                f"without pictures"
            )

    def _unanswered(self, record: Record, key: str, known: dict[str, Outcome]) -> tuple[Outcome | None, str]:
        """What becomes of a record without a known outcome, and why: left out, or as it is for screening to judge.

        Raises:
            UserError: it can be asked, and another process has its answer where this one does not see it.
        """
        try:
            self._question(record)
        except BadSampleError:
            return None, ""
        except UserError as error:
            return Outcome("", "picture"), str(error)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            time.sleep(PAUSE)
            known.update(self._read())
            if key in known:
                return known[key], ""
        raise UserError(
            f"the processes do not see one folder of written answers: there is none for sample {record.id} in {self.folder}, after all "
            f"processes have written theirs. On several machines set TAID_VLM_CACHE to a folder on a disk that all of them share"
        )

    def _question(self, record: Record) -> tuple[int, list[Image]]:
        """How many tokens the question has, and its pictures.

        Raises:
            BadSampleError: a picture that cannot be read.
            UserError: what this teacher cannot be asked; a picture of a shape that it does not take.
        """
        pictures = [open_image(picture) for picture in record.images]
        asks = self.teacher.processor.render(record.messages[:-1], True, [picture.size for picture in pictures])
        return len(asks.ids), pictures

    def _write(self, records: list[Record], keys: list[str]) -> dict[str, Outcome]:
        written: dict[str, Outcome] = {}
        try:
            for start in range(0, len(records), BATCH):
                written |= self._batch(records[start : start + BATCH], keys[start : start + BATCH])
        finally:  # a signal may end the loop: what is answered by then is kept
            if written:
                content = json.dumps(written, ensure_ascii=False, indent=0).encode()
                write_atomic(self.folder / f"{hashlib.sha256(content).hexdigest()[:24]}.json", content)
        return written

    def _batch(self, records: list[Record], keys: list[str]) -> dict[str, Outcome]:
        written: dict[str, Outcome] = {}
        good = []
        for record, key in zip(records, keys, strict=True):
            try:
                length, pictures = self._question(record)
            except (BadSampleError, UserError):  # what becomes of it is seen in the end
                continue
            if length <= self.max_length:
                good.append((key, record.messages[:-1], pictures))
            else:
                written[key] = Outcome("", "long question")
        if good:
            with autocast(self.teacher.head_weight.device, self.precision), torch.no_grad():
                answers = self.teacher.answers([m for _, m, _ in good], [p for _, _, p in good], self.max_tokens)
            written.update(zip((key for key, _, _ in good), map(_outcome, answers), strict=True))
        return written

    def _read(self) -> dict[str, Outcome]:
        known: dict[str, Outcome] = {}
        for file in sorted(self.folder.glob("*.json")):
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:24] != file.stem:
                raise UserError(
                    f"the teacher's written answers are damaged: {file} does not have the hash that its name says; delete the file, "
                    f"they will be written again"
                )
            known.update({key: Outcome(*value) for key, value in json.loads(content).items()})
        return known

    def _key(self, record: Record) -> str:
        digest = hashlib.sha256(json.dumps(record.messages[:-1], sort_keys=True).encode())
        for picture in record.images:
            digest.update(self._pictures[picture].encode())
        return digest.hexdigest()


def _outcome(answer: Answer) -> Outcome:
    if not answer.ended:
        return Outcome("", "cut")
    return Outcome(answer.text) if answer.text else Outcome("", "no words")


def _is_conversation(record: Record) -> bool:
    """Whether screening would not refuse the record as it is, and it is no text."""
    try:
        record.check()
    except BadSampleError:
        return False
    return record.text is None


def _asks(record: Record) -> bool:
    """Whether there is a question before a last answer, in a sound record."""
    last = [message["role"] for message in record.messages[-2:]]
    return last == ["user", "assistant"] and _is_conversation(record)


def _with_answer(record: Record, answer: str) -> Record:
    return replace(record, messages=[*record.messages[:-1], {**record.messages[-1], "content": answer}])
