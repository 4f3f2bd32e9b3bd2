"""``taid-vlm new``: what it writes loads strictly, says what each key is, and passes the plan."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models.assemble import build_student
from taid_vlm.models.saved import save_student
from taid_vlm.new import Answers, write_new
from taid_vlm.new.answers import asked
from taid_vlm.new.content import kind_of
from taid_vlm.new.models_asked import projector_of
from taid_vlm.planning import make_plan
from taid_vlm.recipe import load_recipe
from tests.tiny.recipes import tiny_recipe


def test_a_text_recipe_loads_and_passes_the_plan(tmp_path: Path, language_model: Path) -> None:
    data = tmp_path / "talk.jsonl"
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    data.write_text("\n".join(json.dumps({"messages": talk}) for _ in range(16)))
    model = str(language_model)
    out = write_new(tmp_path / "r.yaml", Answers(model, model, str(data), images=False, gpus=0))
    recipe = load_recipe(out)
    assert recipe.teacher is not None
    assert recipe.teacher.language_model is not None
    assert recipe.student.vision_encoder is None
    assert make_plan(recipe, process=0).lengths.samples == 16
    with pytest.raises(UserError, match="exists"):
        write_new(out, Answers(model, model, str(data), images=False, gpus=0))


def test_a_recipe_with_pictures_passes_the_plan_and_each_key_has_a_comment(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    spec = tiny_recipe(language_model, easy_vqa).student
    student, processor = build_student(spec)
    save_student(student, processor, spec, tmp_path / "teacher")
    given = Answers(str(tmp_path / "teacher"), str(language_model), str(easy_vqa), "easy_vqa", True, 0, "timm:test_vit")
    out = write_new(tmp_path / "r.yaml", given)
    recipe = load_recipe(out, ["student.vision_encoder.weights=random"])
    plan = make_plan(recipe, process=0)
    assert {part.name for part in plan.parts} == {"vision_encoder", "projector", "language_model", "teacher"}
    lines = [line for line in out.read_text().splitlines() if line.strip()]
    for before, line in pairwise(lines):
        if not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#") or line.lstrip().startswith("- "), line
    assert torch.is_grad_enabled()


def test_five_questions_with_defaults() -> None:
    said: list[str] = []

    def ask(question: str) -> str:
        said.append(question)
        return "data.jsonl" if "Data" in question else ""

    answers = asked(Answers(), ask)
    assert [one[:3] for one in said] == [f"{n}/5" for n in range(1, 6)]
    assert answers.images is True
    assert None not in (answers.teacher, answers.student, answers.data, answers.gpus)
    said.clear()
    assert asked(Answers("t", "s", "d", None, False, 2), ask) == Answers("t", "s", "d", None, False, 2)
    assert said == []


def test_without_a_terminal_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--student and --data"):
        write_new(tmp_path / "r.yaml", Answers(teacher="t"))
    assert not list(tmp_path.glob("r*"))


def test_kinds_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    names = ["x.jsonl", "x.JSON", "notes.txt", "HuggingFaceM4/the_cauldron", "me/set", str(tmp_path), "asset:easy-vqa"]
    kinds = ["jsonl", "json", "text", "cauldron", "huggingface", "parquet", "easy_vqa"]
    assert [kind_of(name) for name in names] == kinds
    with pytest.raises(UserError, match="--kind"):
        kind_of("./nowhere")


@pytest.mark.parametrize(("size", "name"), [(512, "x-patch16-512"), (384, "x-patch14-384"), (224, "resnet50")])
def test_a_projector_divides_the_grid(size: int, name: str) -> None:
    projector = projector_of({"name": name, "image_size": size})
    factor = projector.get("options", {}).get("factor", 1)
    patch = 16 if "patch16" in name else 14
    assert (size // patch) % factor == 0
    assert factor == {"x-patch16-512": 4, "x-patch14-384": 3, "resnet50": 1}[name]
