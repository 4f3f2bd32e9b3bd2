"""Rows are filled well and never over; a deal gives away each sample of a step once."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.data import StepOrder
from taid_vlm.data.dealing import DEALS
from taid_vlm.data.packing import first_fit_decreasing, pack_rows, split_in_order

LENGTHS = st.lists(st.integers(1, 64), max_size=24)
NEWER = ["grouped", "packed"]


def tokens(lengths: list[int], rows: list[list[int]]) -> list[int]:
    return [sum(lengths[i] for i in row) for row in rows]


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(64, 200))
def test_rows_hold_every_sequence_once_and_never_too_much(lengths: list[int], capacity: int) -> None:
    rows = pack_rows(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    filled = tokens(lengths, rows)
    assert all(0 < used <= capacity for used in filled)
    first_fit = tokens(lengths, first_fit_decreasing(lengths, capacity))
    assert len(filled) == len(first_fit)
    assert max(filled, default=0) <= max(first_fit, default=0)
    # Two rows that are half empty would have been one.
    assert sum(2 * used <= capacity for used in first_fit) <= 1


def test_rows_are_about_equally_long() -> None:
    # First fit alone would make a row of 100 and one of 4, padded to 100.
    assert tokens([4] * 26, pack_rows([4] * 26, 100)) == [52, 52]


def test_a_sequence_longer_than_a_row_gets_one() -> None:
    assert pack_rows([3, 50, 3], 10) == [[1], [0, 2]]
    assert split_in_order([3, 50, 3], 10) == [1, 1, 1]


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(64, 200))
def test_rows_in_order_are_the_fewest_and_the_shortest(lengths: list[int], capacity: int) -> None:
    counts = split_in_order(lengths, capacity)
    starts = [sum(counts[:i]) for i in range(len(counts))]
    filled = [sum(lengths[start : start + count]) for start, count in zip(starts, counts, strict=True)]
    assert sum(counts) == len(lengths)
    assert all(0 < used <= capacity for used in filled)
    # Independently, by dynamic programming: longest[k] is the least longest row when the first sequences take k rows.
    longest = {0: [0.0] + [float("inf")] * len(lengths)}
    for rows in range(1, len(counts) + 1):
        longest[rows] = [float("inf")] * (len(lengths) + 1)
        for end in range(1, len(lengths) + 1):
            longest[rows][end] = min(max(longest[rows - 1][s], sum(lengths[s:end])) for s in range(end))
    assert all(longest[rows][-1] > capacity for rows in range(1, len(counts)))
    assert max(filled, default=0) == longest[len(counts)][-1]


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("batching", NEWER)
def test_a_step_has_the_samples_of_the_padded_step(batching: str, data: st.DataObject) -> None:
    world, micro_batches, micro = (data.draw(st.integers(1, 3)) for _ in range(3))
    batch, seed = world * micro_batches * micro, data.draw(st.integers(0, 3))
    lengths = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=20))

    def steps(named: str, world: int, micro: int, first: int = 0) -> list[Counter[int]]:
        found = [Counter[int]() for _ in range(first, 5)]
        for rank in range(world):
            order = StepOrder(
                len(lengths), batch, micro, seed, first, 5, rank, world, named, lambda index: lengths[index]
            )
            dealt = list(order)
            assert len(dealt) == len(order)
            assert all(len(one) == micro for one in dealt)
            per_step = batch // (micro * world)
            for at, one in enumerate(dealt):
                found[at // per_step].update(one)
        return found

    expected = steps("padded", 1, batch)
    assert steps(batching, world, micro) == expected
    first = data.draw(st.integers(0, 5))
    assert steps(batching, world, micro, first) == expected[first:]


@pytest.mark.parametrize("batching", NEWER)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_resumed_order_is_the_rest_of_the_whole(batching: str, rank: int) -> None:
    def order(first: int) -> list[list[int]]:
        return list(StepOrder(13, 8, 2, 1, first, 6, rank, 2, batching, lambda index: (7 * index) % 11))

    assert order(4) == order(0)[8:]


def test_samples_of_like_length_are_put_together() -> None:
    lengths = [9, 1, 8, 2, 7, 3, 6, 4]
    dealt = DEALS.get("grouped")(lengths, 2, 2)
    assert [[[lengths[i] for i in one] for one in share] for share in dealt] == [[[9, 8], [4, 3]], [[7, 6], [2, 1]]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=12, max_size=12), st.sampled_from([(1, 3), (3, 1), (2, 2), (2, 3)]))
def test_packed_shares_differ_by_less_than_the_longest_sample(lengths: list[int], shape: tuple[int, int]) -> None:
    dealt = DEALS.get("packed")(lengths, *shape)
    totals = [sum(lengths[i] for i in one) for share in dealt for one in share]
    assert max(totals) - min(totals) <= max(lengths)


def test_an_unknown_batching_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"unknown batching 'paked'.*packed"):
        StepOrder(4, 2, 1, 0, 0, 1, batching="paked")
