"""Ways to deal the samples of an optimizer step to processes and micro-batches.

A deal takes the lengths of a step's samples and gives, for each micro-batch of each process, positions in the step:
``dealt[process][micro_batch]``, all of one size. Which samples the step has is not its business, so whichever way they are
dealt, the gradient of the step is the same.
"""

from collections.abc import Callable, Sequence

from taid_vlm.common.registry import Registry
from taid_vlm.data.packing import decreasing

Dealt = list[list[list[int]]]
Deal = Callable[[Sequence[int], int, int], Dealt]

DEALS: Registry[Deal] = Registry("batching")


@DEALS.register("padded")
def in_order(lengths: Sequence[int], processes: int, micro_batches: int) -> Dealt:
    """As they come."""
    size = len(lengths) // (processes * micro_batches)
    groups = [list(range(start, start + size)) for start in range(0, len(lengths), size)]
    return [groups[process * micro_batches : (process + 1) * micro_batches] for process in range(processes)]


@DEALS.register("grouped")
def alike(lengths: Sequence[int], processes: int, micro_batches: int) -> Dealt:
    """Samples of about the same length together; processes that work at the same time have about the same work."""
    order = decreasing(lengths)
    size = len(lengths) // (processes * micro_batches)
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return [groups[process::processes] for process in range(processes)]


@DEALS.register("packed")
def balanced(lengths: Sequence[int], processes: int, micro_batches: int) -> Dealt:
    """About as many tokens to each: long and short samples together, to fill rows."""
    count = processes * micro_batches
    groups: list[list[int]] = [[] for _ in range(count)]
    for turn, index in enumerate(decreasing(lengths)):
        # There and back again: who gets the longest of one round gets the shortest of the next.
        place = turn % (2 * count)
        groups[place if place < count else 2 * count - 1 - place].append(index)
    return [groups[process::processes] for process in range(processes)]
