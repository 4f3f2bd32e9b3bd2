"""Drawn tokens have the distribution that was asked for, and depend on their own numbers alone."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from taid_vlm.models import build_student
from taid_vlm.models.generate import continued_ids, left_padded
from taid_vlm.models.sampling import Draws, Sampling, drawn
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs
from tests.tiny.language_model import save_chatty_llama

LAST = 1 - 2**-53
LOGITS = st.lists(st.floats(-6, 6), min_size=2, max_size=12)


def warped(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities as transformers' own warpers make them."""
    nothing = torch.zeros(1, 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(sampling.temperature)(nothing, logits.unsqueeze(0))
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(nothing, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(nothing, scores)
    return scores.softmax(-1)[0]


@settings(deadline=None)
@given(
    logits=LOGITS,
    temperature=st.floats(0.3, 3),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.01]),
)
def test_evenly_spread_numbers_give_each_token_its_probability(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    count = 2000
    sampling = Sampling(temperature, top_k, top_p)
    numbers = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    row = torch.tensor(logits)
    found = torch.bincount(drawn(row.expand(count, -1), numbers, sampling), minlength=len(logits)) / count
    expected = warped(row, sampling)
    # Tokens of equal logits may be cut off by one and kept by the other; what is drawn has the same probabilities.
    torch.testing.assert_close(found.sort().values, expected.sort().values, rtol=0, atol=2 / count)
    if len(set(row.tolist())) == len(logits):
        torch.testing.assert_close(found, expected, rtol=0, atol=2 / count)


@given(logits=LOGITS, number=st.sampled_from([0.0, LAST]))
def test_a_token_that_cannot_come_is_never_drawn(logits: list[float], number: float) -> None:
    row = torch.tensor([-torch.inf, *logits, -torch.inf])
    (token,) = drawn(row.unsqueeze(0), torch.tensor([number], dtype=torch.float64), Sampling()).tolist()
    assert 0 < token <= len(logits)


def test_temperature_0_is_greedy_and_logits_without_sense_do_not_fail() -> None:
    numbers = torch.tensor([LAST, 0.0], dtype=torch.float64)
    assert drawn(torch.tensor([[0.0, 3, 1], [5, 3, 1]]), numbers, Sampling(temperature=0)).tolist() == [1, 0]
    assert max(drawn(torch.full((2, 3), torch.nan), numbers, Sampling()).tolist()) < 3


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, top_k=20), Sampling(1.5, top_p=0.8), Sampling(0)])
def test_a_generation_is_that_of_a_loop_without_cache_and_padding(tmp_path: Path, sampling: Sampling) -> None:
    source = save_chatty_llama(tmp_path / "llama")
    spec = StudentSpec.model_validate({"language_model": {"source": str(source)}})
    student, processor = build_student(spec, 0)
    student.eval()
    with torch.no_grad():
        student.language_model.lm_head.weight.mul_(0.05)  # type: ignore[union-attr,operator]
    prompts = [[1, *range(20, 30)], [7], [9, 8, 7]]
    numbers = torch.rand(3, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = ModelInputs(*left_padded(prompts, processor.end_of_turn_id), torch.zeros(0, dtype=torch.long))
    with torch.no_grad():
        embedded = student.embed(inputs)
        draws = Draws(numbers, sampling)
        together = continued_ids(student, processor, embedded, inputs.attention_mask, 8, draws).tolist()
    for ids, own, found in zip(prompts, numbers, together, strict=True):
        written: list[int] = []
        for place in range(8):
            if processor.end_of_turn_id in written:
                written.append(processor.end_of_turn_id)  # padding
                continue
            row = torch.tensor([len(ids) + place - 1])
            text = torch.tensor([[*ids, *written]])
            with torch.no_grad():
                logits = student(ModelInputs(text, torch.ones_like(text), row))
            written += drawn(logits, own[place : place + 1], sampling).tolist()
        assert found == written[: len(found)]
    assert len({tuple(found) for found in together}) == 3
