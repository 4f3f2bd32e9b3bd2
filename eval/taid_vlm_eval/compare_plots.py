"""Where differences and their intervals lie, for small plots beside the rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from taid_vlm_eval.compare import Difference

MARGIN = 4.0  # percent of the width that stays free at either side


@dataclass(frozen=True)
class Plot:
    """Places in percent of the width, 0 to 100; a difference of 0 is in the middle."""

    low: float
    at: float
    high: float


def plots(rows: Sequence[Difference]) -> list[Plot]:
    """One for each row. Rows with the same largest value share a scale, which the widest interval among them fills."""
    widest: dict[float, float] = {}
    for one in rows:
        widest[one.top] = max(widest.get(one.top, 0.0), *(abs(value) for value in (one.low, one.high, one.difference)))

    def place(value: float, top: float) -> float:
        return round(50 + (50 - MARGIN) * (value / widest[top] if widest[top] else 0.0), 2)

    return [Plot(*(place(value, one.top) for value in (one.low, one.difference, one.high))) for one in rows]
