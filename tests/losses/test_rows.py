"""Pieces of the closed forms."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.losses.rows import BLOCK, largest


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(0, 4), width=st.integers(1, 4 * BLOCK + 3), seed=st.integers(0, 1000), ties=st.booleans())
def test_largest_entry_and_its_place(rows: int, width: int, seed: int, ties: bool) -> None:
    values = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    values = values.round() if ties else values
    top, place = largest(values)
    assert torch.equal(top, values.amax(-1, keepdim=True))
    assert torch.equal(values.gather(-1, place), top)
