"""Figures that a protocol makes of several tasks."""

from collections.abc import Sequence
from statistics import fmean

from taid_vlm_eval.protocols.loading import DEFAULT, load_protocol
from taid_vlm_eval.result import Result


def averages(results: Sequence[Result], protocol: str) -> dict[str, tuple[float, list[str]]]:
    """Each figure whose tasks are all there: the mean of theirs, as shares of the largest value possible, and their names."""
    if protocol == DEFAULT:
        return {}
    shares = {one.task: one.value / one.top for one in results}
    wanted = load_protocol(protocol).averages
    return {
        name: (fmean(shares[part] for part in parts), parts)
        for name, parts in wanted.items()
        if set(parts) <= set(shares)
    }
