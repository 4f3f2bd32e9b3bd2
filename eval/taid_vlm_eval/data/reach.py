"""Is there a network? Asked once a process, not for each data set anew."""

from functools import cache

from taid_vlm.common import reach

SECONDS = 5.0


@cache
def why_unreachable(address: str) -> str:
    """Why a server cannot be reached, "" when it can. Known after ``SECONDS`` at the latest, and kept for the whole process."""
    why = reach.why_unreachable(address, SECONDS)
    return why and f"{address} cannot be reached: {why}"
