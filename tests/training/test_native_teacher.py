"""Stock vision-language teachers in training: end to end, cached or not, planned, with heads that are longer than tokenizers."""

from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.models.saved import load_student
from taid_vlm.planning.plan import make_plan
from taid_vlm.recipe import Recipe
from taid_vlm.training import train
from tests.tiny.native import HEAD, MAKERS, VOCABULARY, save_native, save_native_tokenizer_llama
from tests.tiny.recipes import logged_steps, tiny_recipe


def recipe_for(folder: Path, family: str, easy_vqa: Path, cache: bool = False, **changes: Any) -> Recipe:
    """TAID from a teacher of a family to a student with its tokenizer."""
    teacher, student = folder / family, folder / f"{family}-student"
    if not teacher.exists():
        save_native(teacher, family)
        save_native_tokenizer_llama(student, family)
    base = tiny_recipe(student, easy_vqa).student.model_dump()
    template = {"smolvlm": "smolvlm", "llava": "llava_vicuna"}.get(family, "chatml")
    content: dict[str, Any] = {
        "student": {**base, "chat_template": template},
        "teacher": {"checkpoint": str(teacher), "cache": {"enabled": cache}},
        "loss": {"name": "taid", "alpha_total": 20.0},
        "training": {"steps": 2, "batch_size": 4, "micro_batch_size": 2, "lr": 5e-3, "precision": "fp32"},
    }
    return tiny_recipe(student, easy_vqa, **{**content, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("natives")


@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl", "smolvlm", "llava"])
def test_taid_from_a_stock_teacher_with_and_without_its_cache(
    folder: Path, tmp_path: Path, easy_vqa: Path, family: str
) -> None:
    runs = {}
    for cache in (False, True):
        run = tmp_path / str(cache)
        load_student(train(recipe_for(folder, family, easy_vqa, cache), run))
        runs[cache] = logged_steps(run)
    assert len(runs[False]) == 2
    for online, cached in zip(runs[False], runs[True], strict=True):
        for name in ("loss", "kl_teacher", "teacher_entropy", "rows"):
            assert cached[name] == pytest.approx(online[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("family", MAKERS)
def test_the_plan_counts_a_stock_teacher(folder: Path, easy_vqa: Path, family: str) -> None:
    recipe = recipe_for(folder, family, easy_vqa)
    if family not in ("internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm", "llava"):
        content = recipe.model_dump()
        content["teacher"]["chat_template"] = "chatml"
        recipe = Recipe.model_validate(content)
    plan = make_plan(recipe, process=0)
    (part,) = (part for part in plan.parts if part.name == "teacher")
    assert part.kind.endswith("ForConditionalGeneration")
    held = plan.memory[0].highest.parts["teacher weights"]
    assert held >= 4 * part.parameters
    assert any("vision tower" in warning for warning in plan.warnings)
    assert plan.vocabulary is not None
    assert (plan.vocabulary.shared, plan.vocabulary.teacher) == (VOCABULARY, HEAD)
    assert plan.flops.teacher > 0


def test_a_teacher_in_bfloat16_takes_half_the_memory_and_needs_a_run_in_bf16(
    folder: Path, tmp_path: Path, easy_vqa: Path
) -> None:
    whole = recipe_for(folder, "internvl", easy_vqa)
    content = whole.model_dump()
    content["teacher"]["dtype"] = "bfloat16"
    with pytest.raises(UserError, match=r"teacher\.dtype: bfloat16 goes with training in bf16"):
        train(Recipe.model_validate(content), tmp_path / "refused")
    content["training"]["precision"] = "bf16"
    half = Recipe.model_validate(content)
    held = [make_plan(recipe, process=0).memory[0].highest.parts["teacher weights"] for recipe in (whole, half)]
    assert held[1] / held[0] == pytest.approx(0.5, abs=0.01)
    train(half, tmp_path / "half")
    content["teacher"]["dtype"] = "float32"
    train(Recipe.model_validate(content), tmp_path / "whole")
    for one, other in zip(logged_steps(tmp_path / "half"), logged_steps(tmp_path / "whole"), strict=True):
        assert one["kl_teacher"] == pytest.approx(other["kl_teacher"], rel=0.2)
        assert one["loss"] > 0


def test_packed_rows_of_the_student_meet_the_same_teacher(folder: Path, tmp_path: Path, easy_vqa: Path) -> None:
    figures = {}
    for batching in ("padded", "packed"):
        recipe = recipe_for(folder, "qwen2_5_vl", easy_vqa)
        content = recipe.model_dump()
        content["data"] |= {"batching": batching, "workers": int(batching == "packed"), "max_length": 256}
        train(Recipe.model_validate(content), tmp_path / batching)
        figures[batching] = logged_steps(tmp_path / batching)
    for one, other in zip(figures["padded"], figures["packed"], strict=True):
        for name in ("loss", "kl_teacher", "teacher_entropy"):
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6)
