"""CTKD: the temperature rises against the student, by an optimizer, and survives a checkpoint."""

import math

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import CurriculumTemperature, LossSpec, distillation_loss, reversal_at, tempered_kl
from tests.losses.cases import case

CTKD = LossSpec.of("ctkd")


def loss_at(temperature: torch.Tensor, arguments: dict) -> torch.Tensor:
    return distillation_loss(**arguments, spec=CTKD, temperature=temperature).loss


def test_temperature_starts_where_the_paper_does() -> None:
    assert CurriculumTemperature()(0.5).item() == pytest.approx(1 + 20 / (1 + math.exp(-1)))
    assert list(CurriculumTemperature().state_dict()) == ["theta"]


@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_gradient_of_theta_is_reversed_and_scaled(implementation: str) -> None:
    arguments, module = case(), CurriculumTemperature().double()
    plain = module.low + module.span * module.theta.sigmoid()
    (unreversed,) = torch.autograd.grad(loss_at(plain, arguments), module.theta)
    loss = distillation_loss(**arguments, spec=CTKD, temperature=module(0.25), implementation=implementation).loss
    (found,) = torch.autograd.grad(loss, module.theta)
    torch.testing.assert_close(found, -0.25 * unreversed)


def test_an_optimizer_moves_theta_so_as_to_raise_the_loss() -> None:
    arguments, module = case(), CurriculumTemperature(start=-2.0).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_at(module(1.0), arguments)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses)
    assert losses[-1] > losses[0]


def test_no_reversal_leaves_theta_alone() -> None:
    module = CurriculumTemperature().double()
    loss_at(module(0.0), case()).backward()
    assert module.theta.grad == 0


def test_the_slope_of_the_temperature_agrees_with_finite_differences() -> None:
    arguments = case(rows=4)
    temperature = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: loss_at(value, arguments), temperature)


def test_reversal_is_a_half_cosine() -> None:
    assert [reversal_at(step, 10) for step in (0, 5, 10, 99)] == pytest.approx([0, 0.5, 1, 1])
    ramp = [reversal_at(step, 10) for step in range(12)]
    assert ramp == sorted(ramp)
    assert reversal_at(0, 0) == 1
    with pytest.raises(UserError, match="ramp_steps is -1"):
        reversal_at(0, -1)


def test_a_temperature_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"'ctkd' got no temperature.*CurriculumTemperature"):
        distillation_loss(**case(), spec=CTKD)
    with pytest.raises(UserError, match="temperature of ctkd is 0"):
        tempered_kl(torch.zeros(1, 2), torch.zeros(1, 2), 0.0)
