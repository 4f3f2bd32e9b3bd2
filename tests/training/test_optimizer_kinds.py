"""Optimizers by name: fused equals plain, a resumed run goes on to the same bits with the kernel it began with."""

import copy
from pathlib import Path

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import Student
from taid_vlm.recipe import Recipe
from taid_vlm.training.optimizer import OPTIMIZERS, make_optimizer
from tests.tiny.recipes import tiny_recipe
from tests.training.option_cases import changed, through_a_file


@pytest.fixture
def recipe(language_model: Path, easy_vqa: Path) -> Recipe:
    return tiny_recipe(language_model, easy_vqa)


def walk(student: Student, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[torch.Tensor]:
    """Some steps on gradients that depend on the step alone; returns the weights."""
    learning = [p for p in student.parameters() if p.requires_grad]
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in learning:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [p.detach().clone() for p in learning]


def test_every_name_of_the_schema_is_there(recipe: Recipe) -> None:
    asked = type(recipe.training).model_fields["optimizer"].annotation
    assert set(OPTIMIZERS) == set(asked.__args__)  # type: ignore[union-attr]


def test_fused_equals_plain_and_is_chosen_where_there_is_a_kernel(recipe: Recipe) -> None:
    found = {}
    for fused in (None, True, False):
        student, _ = build_student(recipe.student)
        optimizer = make_optimizer(student, changed(recipe, fused_optimizer=fused, weight_decay=0.1))
        assert optimizer.param_groups[0]["fused"] == (fused is not False)
        found[fused] = walk(student, optimizer, 0, 5)
    for chosen, asked, plain in zip(*found.values(), strict=True):
        torch.testing.assert_close(chosen, asked, rtol=0, atol=0)
        torch.testing.assert_close(chosen, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "adafactor"])
def test_a_resumed_optimizer_goes_on_to_the_same_bits(recipe: Recipe, name: str) -> None:
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is an optional package")
    asked = changed(recipe, optimizer=name)
    student, _ = build_student(recipe.student)
    optimizer = make_optimizer(student, asked)
    walk(student, optimizer, 0, 3)
    weights, state = copy.deepcopy(student.state_dict()), through_a_file(optimizer.state_dict())
    whole = walk(student, optimizer, 3, 6)
    again, _ = build_student(recipe.student)
    again.load_state_dict(weights)
    second = make_optimizer(again, asked)
    second.load_state_dict(state)
    for one, other in zip(whole, walk(again, second, 3, 6), strict=True):
        assert torch.equal(one, other)


def test_a_run_that_began_without_the_fused_kernel_goes_on_without_it(recipe: Recipe) -> None:
    student, _ = build_student(recipe.student)
    plain = make_optimizer(student, changed(recipe, fused_optimizer=False))
    walk(student, plain, 0, 3)
    weights, state = copy.deepcopy(student.state_dict()), through_a_file(plain.state_dict())
    whole = walk(student, plain, 3, 6)
    again, _ = build_student(recipe.student)
    again.load_state_dict(weights)
    chosen = make_optimizer(again, recipe)
    chosen.load_state_dict(state)
    for one, other in zip(whole, walk(again, chosen, 3, 6), strict=True):
        assert torch.equal(one, other)


def test_adafactor_keeps_little(recipe: Recipe) -> None:
    sizes = {}
    for name in ("adamw", "adafactor"):
        student, _ = build_student(recipe.student)
        optimizer = make_optimizer(student, changed(recipe, optimizer=name))
        walk(student, optimizer, 0, 1)
        sizes[name] = sum(v.numel() for state in optimizer.state.values() for v in state.values() if v is not None)
    assert sizes["adafactor"] < 0.1 * sizes["adamw"]


def test_fused_is_of_adamw_alone(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="fused_optimizer is of optimizer: adamw, not of adafactor"):
        changed(recipe, optimizer="adafactor", fused_optimizer=True)


def test_a_missing_package_is_named(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    student, _ = build_student(recipe.student)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        make_optimizer(student, changed(recipe, optimizer="adamw_8bit"))


def test_shards_are_refused_by_optimizers_that_need_whole_matrices(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taid_vlm.training import optimizer as module

    monkeypatch.setattr(module, "DTensor", torch.Tensor)  # every weight counts as a shard
    student, _ = build_student(recipe.student)
    for name in ("adamw_8bit", "adafactor"):
        with pytest.raises(UserError, match=f"{name} does not work on weights in shards"):
            make_optimizer(student, changed(recipe, optimizer=name))
    make_optimizer(student, recipe)
