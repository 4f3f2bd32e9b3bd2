"""Loss scaling, the average of the weights and their place around a step: recomputed, skipped where they must be, resumed to the bit."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from taid_vlm.losses import LossSpec, distillation_loss
from taid_vlm.models import Student, build_student
from taid_vlm.models.saved import load_student, save_student
from taid_vlm.models.trained_parts import trained_state
from taid_vlm.recipe import Recipe
from taid_vlm.training.ema import WeightAverage, averaged_student
from taid_vlm.training.loss_scale import LossScale
from taid_vlm.training.optimizer import make_optimizer
from taid_vlm.training.options import Options
from taid_vlm.training.precision import autocast
from tests.tiny.recipes import tiny_recipe
from tests.training.option_cases import changed, through_a_file

CPU = torch.device("cpu")


@pytest.fixture
def recipe(language_model: Path, easy_vqa: Path) -> Recipe:
    return tiny_recipe(language_model, easy_vqa)


class Run:
    """Steps as the loop takes them, on a loss that depends on the step alone."""

    def __init__(self, recipe: Recipe) -> None:
        self.student = build_student(recipe.student)[0].train()
        self.options = Options(recipe, self.student, CPU)
        assert self.options.prepare_model() == []
        self.options.begin()
        self.optimizer = make_optimizer(self.student, recipe)
        self.learning = [p for p in self.student.parameters() if p.requires_grad]

    def step(self, number: int, factor: float = 1.0) -> bool:
        generator = torch.Generator().manual_seed(number)
        loss = sum((p * torch.randn(p.shape, generator=generator)).sum() for p in self.learning) * 0.1
        assert isinstance(loss, Tensor)
        self.options.scale(loss).backward()
        for parameter in self.learning[:1]:
            assert parameter.grad is not None
            parameter.grad *= factor
        self.options.unscale(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.learning, 1.0))
        stepped = self.options.step(self.optimizer, 5.0, float(loss.detach()), norm)
        self.optimizer.zero_grad()
        return stepped

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.learning]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_scaled_run_has_the_bits_of_one_without(recipe: Recipe) -> None:
    plain, scaled = Run(recipe), Run(changed(recipe, precision="fp16"))
    for number in range(3):
        assert plain.step(number)
        assert scaled.step(number)
    assert equal(plain.weights(), scaled.weights())
    assert plain.options.figures() == {}
    assert scaled.options.figures() == {"loss_scale": 2.0**16, "overflowed": 0.0}


def test_an_overflow_lowers_the_scale_and_leaves_everything_else_as_it_was(recipe: Recipe) -> None:
    run = Run(changed(recipe, precision="fp16", ema=0.9))
    assert run.step(0)
    before = run.weights()
    average = run.options.average
    assert average is not None
    assert not run.step(1, factor=math.inf)
    assert run.options.overflowed
    assert equal(before, run.weights())
    assert average.updates == 1
    assert run.options.figures() == {"loss_scale": 2.0**15, "overflowed": 1.0}
    assert run.step(2)
    assert not run.options.overflowed
    assert not equal(before, run.weights())


def test_gradients_that_are_too_large_without_a_scale_are_no_overflow(recipe: Recipe) -> None:
    run = Run(changed(recipe, precision="fp16"))
    told = []
    for number in range(20):
        assert not run.step(number, factor=math.inf)
        told.append(run.options.overflowed)
    assert told == [True] * 16 + [False] * 4
    plain = Run(recipe)
    assert not plain.step(0, factor=math.nan)
    assert not plain.options.overflowed


def test_the_scale_rises_as_pytorch_s_own(recipe: Recipe) -> None:
    run = Run(changed(recipe, precision="fp16"))
    scale = run.options.loss_scale
    assert scale is not None
    reference = torch.amp.GradScaler("cpu", growth_interval=3)
    scale.scaler.set_growth_interval(3)
    weight = torch.nn.Parameter(torch.ones(1))
    other = torch.optim.SGD([weight], lr=0.0)
    for number, overflow in enumerate([0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]):
        run.step(number, factor=math.inf if overflow else 1.0)
        reference.scale(weight.sum() * (math.inf if overflow else 1.0)).backward()
        reference.unscale_(other)
        reference.step(other)
        reference.update()
        other.zero_grad()
        assert scale.scaler.get_scale() == reference.get_scale()


@pytest.mark.parametrize(("rows", "loss", "norm"), [(0.0, 0.0, 0.0), (3.0, math.nan, 1.0), (3.0, math.inf, math.nan)])
def test_what_cannot_be_stepped_on_leaves_the_scale(recipe: Recipe, rows: float, loss: float, norm: float) -> None:
    for precision in ("fp32", "fp16"):
        run = Run(changed(recipe, precision=precision))
        before = run.weights()
        run.options.scale(sum(p.sum() for p in run.learning)).backward()  # type: ignore[arg-type]
        run.options.unscale(run.optimizer)
        assert not run.options.step(run.optimizer, rows, loss, norm)
        assert not run.options.overflowed
        assert equal(before, run.weights())
        assert run.options.figures().get("loss_scale", 2.0**16) == 2.0**16


def test_a_resumed_run_goes_on_to_the_same_bits(recipe: Recipe) -> None:
    asked = changed(recipe, precision="fp16", ema=0.8)
    whole = Run(asked)
    for number in range(4):
        whole.step(number, factor=math.inf if number == 1 else 1.0)
    state = through_a_file({"options": whole.options.state_dict(), "optimizer": whole.optimizer.state_dict()})
    weights = whole.weights()
    again = Run(asked)
    with torch.no_grad():
        for parameter, weight in zip(again.learning, weights, strict=True):
            parameter.copy_(weight)
    again.optimizer.load_state_dict(state["optimizer"])
    again.options.load_state_dict(state["options"])
    for number in range(4, 7):
        assert whole.step(number)
        assert again.step(number)
    assert equal(whole.weights(), again.weights())
    assert whole.options.figures() == again.options.figures()
    one, other = whole.options.average, again.options.average
    assert one is not None
    assert other is not None
    assert one.updates == other.updates == 6
    assert equal(list(one.weights.values()), list(other.weights.values()))


def test_without_options_there_is_no_state(recipe: Recipe) -> None:
    run = Run(recipe)
    assert run.options.state_dict() == {}
    run.options.load_state_dict({})


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(0.05, 0.99999), st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=12))
def test_the_average_is_what_its_formula_says(recipe: Recipe, decay: float, moves: list[float]) -> None:
    student = built(recipe)
    average = WeightAverage(student, decay)
    expected = {n: p.detach().double() for n, p in student.named_parameters() if p.requires_grad}
    for number, move in enumerate(moves, start=1):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(move)
        average.update()
        kept = min(decay, (1 + number) / (10 + number))
        for name, parameter in student.named_parameters():
            if name in expected:
                expected[name] = kept * expected[name] + (1 - kept) * parameter.detach().double()
    for name, value in expected.items():
        assert average.weights[name].dtype == torch.float32
        torch.testing.assert_close(average.weights[name].double(), value, rtol=1e-5, atol=1e-5)


_STUDENT: dict[str, Student] = {}


def built(recipe: Recipe) -> Student:
    """One student for all examples; they add to its weights, whatever these are."""
    if "student" not in _STUDENT:
        _STUDENT["student"] = build_student(recipe.student)[0]
    return _STUDENT["student"]


@pytest.mark.parametrize("save", ["full", "trained"])
def test_the_averaged_student_is_saved_beside_the_trained(tmp_path: Path, recipe: Recipe, save: Any) -> None:
    content = recipe.model_dump()
    content["student"]["train"]["language_model"] = {"mode": "lora", "lora": {"rank": 2, "alpha": 4}}
    content["training"]["ema"] = 0.9
    asked = Recipe.model_validate(content)
    run = Run(asked)
    run.student.load_state_dict(build_student(asked.student, asked.seed)[0].state_dict())
    run.options.begin()
    for number in range(5):
        run.step(number)
    average = run.options.average
    assert average is not None
    processor = build_student(asked.student, asked.seed)[1]
    made = averaged_student(asked, average.weights)
    for name, tensor in trained_state(made).items():
        torch.testing.assert_close(tensor, average.weights[name], rtol=0, atol=0)
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = made.eval().language_model(ids).logits.detach()
    save_student(made, processor, asked.student, tmp_path / "student-ema", weights=save)
    opened = load_student(tmp_path / "student-ema").student
    torch.testing.assert_close(opened.language_model(ids).logits, expected, rtol=1e-4, atol=1e-5)
    trained = run.student.eval().language_model(ids).logits.detach()
    assert float((trained - expected).abs().max()) > 1e-4


def test_buffers_are_the_last_ones(language_model: Path, easy_vqa: Path) -> None:
    content = tiny_recipe(language_model, easy_vqa).model_dump()
    content["student"]["train"]["vision_encoder"] = {"mode": "full"}
    content["data"]["cache_image_features"] = False
    student = build_student(Recipe.model_validate(content).student)[0]
    average = WeightAverage(student, 0.9)
    named = dict(student.named_buffers())
    means = [name for name in average.weights if name.endswith("running_mean")]
    assert means
    with torch.no_grad():
        for name in average.weights:
            if name in named:
                named[name].add_(3)
    average.update()
    for name in average.weights:
        if name in named:
            assert torch.equal(average.weights[name], named[name])
            assert average.weights[name].dtype == named[name].dtype


def test_the_loss_in_fp16_is_that_in_fp32_but_for_rounding() -> None:
    torch.manual_seed(0)
    states, head, known, wide = torch.randn(6, 16), torch.randn(40, 16), torch.randn(6, 24), torch.randn(40, 24)
    labels = torch.arange(6)
    found = {}
    for precision in ("fp32", "fp16"):
        hidden = states.clone().requires_grad_(True)
        scale = LossScale(CPU)
        with autocast(CPU, precision):
            out = distillation_loss(
                hidden,
                head,
                labels,
                spec=LossSpec.of(name="taid"),
                t=0.5,
                teacher_hidden_ND=known,
                teacher_head_UD=wide,
                vocabulary=40,
            )
        scale.scale(out.loss).backward()
        assert hidden.grad is not None
        found[precision] = (out.loss.detach().float(), hidden.grad / 2.0**16)
    torch.testing.assert_close(found["fp16"][0], found["fp32"][0], rtol=1e-2, atol=0)
    torch.testing.assert_close(found["fp16"][1], found["fp32"][1], rtol=2e-2, atol=2e-2)
    assert autocast(CPU, "fp16").fast_dtype == torch.float16
