"""The paper's kind of pair, in small: a released InternVL2 teaches another, both with its pictures, tokens and template; planned and trained."""

from pathlib import Path
from typing import Any

import pytest

from taid_vlm.models.native.parts import split_into_parts
from taid_vlm.models.saved import load_student
from taid_vlm.planning.plan import make_plan
from taid_vlm.recipe import Recipe
from taid_vlm.recipe.source import read_source
from taid_vlm.training import train
from tests.tiny.internvl2 import save_original
from tests.tiny.recipes import logged_steps


@pytest.mark.slow
def test_taid_from_one_internvl2_to_another(tmp_path: Path, easy_vqa: Path) -> None:
    longer = {"max_position_embeddings": 1024}
    save_original(tmp_path / "large", text={**longer, "num_hidden_layers": 3}, seed=1)
    save_original(tmp_path / "small", text=longer)
    split_into_parts(str(tmp_path / "small"), tmp_path / "parts")
    student = read_source(tmp_path / "parts" / "student.yaml").content["student"]
    data: dict[str, Any] = {
        "train": [{"kind": "easy_vqa", "path": str(easy_vqa)}],
        "validation": [{"kind": "easy_vqa", "path": str(easy_vqa), "split": "test"}],
    }
    content: dict[str, Any] = {
        "student": student,
        "data": data,
        "loss": {"name": "taid", "alpha_total": 20.0},
        "training": {"steps": 3, "batch_size": 4, "lr": 1e-3, "precision": "fp32"},
    }
    figures = {}
    for cache in (False, True):
        teacher = {"checkpoint": str(tmp_path / "large"), "cache": {"enabled": cache}}
        recipe = Recipe.model_validate({**content, "teacher": teacher})
        plan = make_plan(recipe, process=0)
        assert plan.vocabulary is not None
        assert plan.vocabulary.shared == len(load_tokenizer(tmp_path / "parts"))
        load_student(train(recipe, tmp_path / str(cache)))
        figures[cache] = logged_steps(tmp_path / str(cache))
    assert len(figures[False]) == 3
    for online, cached in zip(figures[False], figures[True], strict=True):
        assert online["kl_teacher"] > 0
        assert cached["loss"] == pytest.approx(online["loss"], rel=1e-4)


def load_tokenizer(parts: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(parts / "language_model")
