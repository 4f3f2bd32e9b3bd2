"""Which records can be used: each is rendered and lined up once, before anything is trained on or planned."""

from collections.abc import Iterator, Sequence

from taid_vlm.common.errors import UserError
from taid_vlm.data.pairing import MismatchedAnswerError, Pair, Pairer, check_mismatches
from taid_vlm.data.record import BadSampleError, Record


class Screening:
    """Goes once through records, and keeps the messages of those that were left out.

    Args:
        skip_bad: leave bad records out, rather than refuse.

    Attributes:
        bad: records that cannot be used. mismatches: those whose answers differ between teacher and student.
    """

    def __init__(self, pairer: Pairer, skip_bad: bool) -> None:
        self.pairer, self.skip_bad = pairer, skip_bad
        self.bad: list[str] = []
        self.mismatches: list[str] = []

    def usable(self, records: Sequence[Record]) -> Iterator[tuple[Record, Pair]]:
        """Each usable record with its pair.

        Raises:
            UserError: a bad record that is not to be skipped, or at the end too many answers that differ.
        """
        for record in records:
            try:
                yield record, self.pairer.pair(record)
            except MismatchedAnswerError as error:
                self.mismatches.append(str(error))
            except BadSampleError as error:
                self.bad.append(str(error))
                if not self.skip_bad:
                    raise UserError(f"{error}; repair it, or set data.on_bad_sample: skip") from error
        check_mismatches(self.mismatches, len(records))


def refuse_pictures(records: Sequence[Record], sees: bool) -> None:
    """Refuse records with pictures for a student that does not see.

    Raises:
        UserError: what to do.
    """
    if not sees and any(record.images for record in records):
        raise UserError("the data has pictures, but the student has no vision encoder; add one or choose text data")
