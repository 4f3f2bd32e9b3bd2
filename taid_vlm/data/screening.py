"""Which records can be used: each is rendered and lined up once, before anything is trained on or planned."""

from collections import Counter
from collections.abc import Iterator, Sequence

from taid_vlm.common.errors import UserError
from taid_vlm.data.pairing import MismatchedAnswerError, Pair, Pairer, check_mismatches
from taid_vlm.data.record import BadSampleError, Reason, Record
from taid_vlm.data.text import blocks


class Screening:
    """Goes once through records, and keeps the messages of those that were left out.

    Args:
        skip_bad: leave bad records out, rather than refuse.

    Attributes:
        bad: records that cannot be used. mismatches: those whose answers differ between teacher and student.
        by_reason: how many there are of both, by reason.
    """

    def __init__(self, pairer: Pairer, skip_bad: bool) -> None:
        self.pairer, self.skip_bad = pairer, skip_bad
        self.bad: list[str] = []
        self.mismatches: list[str] = []
        self.by_reason: Counter[Reason] = Counter()

    def usable(self, records: Sequence[Record]) -> Iterator[tuple[Record, Pair]]:
        """Each usable record with its pair; a trimmed one as it is used from here on, a long text as several.

        Raises:
            UserError: a bad record that is not to be skipped, or at the end too many answers that differ.
        """
        seen = 0
        for whole in records:
            for record in blocks(whole, self.pairer.models, self.pairer.max_length):
                seen += 1
                try:
                    yield self.pairer.fit(record)
                except BadSampleError as error:
                    self._count(error)
        check_mismatches(self.mismatches, seen)

    def table(self) -> str:
        """What was left out, a reason a line, the most frequent first."""
        return "\n".join(f"{count:>8,}  {reason}" for reason, count in self.by_reason.most_common())

    def _count(self, error: BadSampleError) -> None:
        self.by_reason[error.reason] += 1
        if isinstance(error, MismatchedAnswerError):
            self.mismatches.append(str(error))
            return
        self.bad.append(str(error))
        if not self.skip_bad:
            raise UserError(f"{error}; repair it, or set data.on_bad_sample: skip") from error


def refuse_pictures(records: Sequence[Record], sees: bool) -> None:
    """Refuse records with pictures for a student that does not see.

    Raises:
        UserError: what to do.
    """
    if not sees and any(record.images for record in records):
        raise UserError("the data has pictures, but the student has no vision encoder; add one or choose text data")
