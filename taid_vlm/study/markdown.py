"""Tables and differences as the page writes them."""

from collections.abc import Iterable, Iterator, Sequence


def line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def heads(names: Sequence[str], figures: int) -> Iterator[str]:
    """The lines above a table; ``figures``: how many columns behind the first one hold figures, which stand at the right."""
    yield line(names)
    yield "|---" + "|---:" * figures + "|---" * (len(names) - 1 - figures) + "|"


def points(mean: float, interval: tuple[float, float] | None) -> str:
    """A difference of shares, in points, with its interval."""
    if interval is None:
        return f"{100 * mean:+.1f} (one seed)"
    low, high = (100 * end for end in interval)
    return f"{100 * mean:+.1f} ({low:+.1f} to {high:+.1f})"
