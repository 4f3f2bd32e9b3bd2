"""A rate for each part, no decay for vectors, warm-up and half cosine."""

import math
from pathlib import Path

import pytest

from taid_vlm.models.assemble import build_student
from taid_vlm.recipe import Recipe
from taid_vlm.training.optimizer import make_optimizer, make_schedule
from tests.tiny.recipes import tiny_recipe


@pytest.fixture
def recipe(language_model: Path, easy_vqa: Path) -> Recipe:
    training = {"steps": 20, "batch_size": 4, "lr": 5e-3, "warmup_steps": 4, "weight_decay": 0.1}
    return tiny_recipe(language_model, easy_vqa, training=training)


def test_every_learning_parameter_is_in_one_group(recipe: Recipe) -> None:
    student, _ = build_student(recipe.student)
    optimizer = make_optimizer(student, recipe)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in student.parameters() if p.requires_grad)
    for group in optimizer.param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])
        assert (
            group["initial_lr" if "initial_lr" in group else "lr"]
            == {"projector": 1e-2, "language_model": 2e-2}[group["name"]]
        )


def test_rates_rise_then_fall_to_zero(recipe: Recipe) -> None:
    student, _ = build_student(recipe.student)
    optimizer = make_optimizer(student, recipe)
    schedule = make_schedule(optimizer, recipe)
    factors = []
    for _ in range(21):
        factors.append(optimizer.param_groups[0]["lr"] / 1e-2)
        optimizer.step()
        schedule.step()
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5 * (1 + math.cos(math.pi * 8 / 16)))
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[20] == pytest.approx(0.0, abs=1e-12)


def test_constant_means_constant_after_the_warm_up(recipe: Recipe) -> None:
    changed = recipe.model_copy(update={"training": recipe.training.model_copy(update={"schedule": "constant"})})
    student, _ = build_student(changed.student)
    optimizer = make_optimizer(student, changed)
    schedule = make_schedule(optimizer, changed)
    for _ in range(15):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)
