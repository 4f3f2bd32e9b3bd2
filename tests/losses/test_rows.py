"""Pieces of the closed forms."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.losses.rows import BLOCK, Rows, Scratch, largest


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(0, 4), width=st.integers(1, 4 * BLOCK + 3), seed=st.integers(0, 1000), ties=st.booleans())
def test_largest_entry_and_its_place(rows: int, width: int, seed: int, ties: bool) -> None:
    values = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    values = values.round() if ties else values
    top, place = largest(values)
    assert torch.equal(top, values.amax(-1, keepdim=True))
    assert torch.equal(values.gather(-1, place), top)


def test_target_is_lowered_once_however_many_share_it() -> None:
    generator = torch.Generator().manual_seed(0)
    log_q, log_p = (torch.randn(3, 40, generator=generator).log_softmax(-1) for _ in range(2))
    scratch = Scratch(3, 40, torch.float32, torch.device("cpu"))
    nowhere = torch.full((3,), -1)
    rows = Rows(log_q, log_q.exp(), log_p, log_p.exp(), scratch.take(3), scratch, nowhere)
    expected = (0.7 * log_q + 0.3 * log_p).log_softmax(-1)
    target, entropy = rows.towards(0.3)
    both = target, target.with_(gradient=scratch.take(3))
    for some in both:
        torch.testing.assert_close(some.log_p, expected)
        torch.testing.assert_close(some.p, expected.exp())
    torch.testing.assert_close(target.forward_kl, (expected.exp() * (expected - log_q)).sum(-1))
    torch.testing.assert_close(entropy, -(expected.exp() * expected).sum())
