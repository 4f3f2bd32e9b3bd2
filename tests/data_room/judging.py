"""Whether a record can be used."""

from taid_vlm.data import BadSampleError, Record


def judged(record: Record) -> BadSampleError | None:
    """Why it cannot; None where it can."""
    try:
        record.check()
    except BadSampleError as error:
        return error
    return None
