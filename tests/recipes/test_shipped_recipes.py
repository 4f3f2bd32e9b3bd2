"""Every shipped experiment from start to finish over stand-ins: a step, a kill, the second step, the evaluation, the export."""

from pathlib import Path
from typing import Any

import pytest

from taid_vlm.export import export_student
from taid_vlm.export.gate import FreshProcess
from taid_vlm.models import load_student
from taid_vlm.recipe import list_recipes, load_recipe, recipes_folder
from taid_vlm.recipe.source import read_source
from taid_vlm.run import train_and_evaluate
from taid_vlm.training import loop
from tests.recipes.shrunk import Hub, shrunk
from tests.tiny.recipes import logged_steps

# The class that a student is exported as, by the word that recipes/README.md has for it.
CLASSES = {"own class": "language_model", "SmolVLM": "smolvlm", "Lfm2Vl": "lfm2_vl", "InternVL": "internvl"}
METHODS = ["sft", "kl", "rkl", "tvd", "adaptive_kl", "gkd", "distillm", "ctkd", "dkd", "taid_linear", "taid"]
PAIRS = ["phi3-tinyllama", "llama2-tinyllama", "stablelm-pythia"]
ALL = [name for name in list_recipes() if name.startswith(("paper/", "modern/"))]


def exports_as(name: str) -> list[str]:
    """The last cell of a recipe's row."""
    (line,) = (line for line in (recipes_folder() / "README.md").read_text().splitlines() if f"| `{name}` |" in line)
    return line.strip("| ").split("|")[-1].strip().split(", ")


def killed_after_a_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    step = loop._Run._step

    def dies(self: Any, batches: Any) -> None:
        if self.progress.step == 1:
            raise KeyboardInterrupt
        step(self, batches)

    patch = monkeypatch.context()
    patch.__enter__().setattr(loop._Run, "_step", dies)
    return patch


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_from_start_to_finish(
    name: str, hub: Hub, tmp_path: Path, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = shrunk(name, hub)
    patch = killed_after_a_step(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(recipe, tmp_path / "run")
    patch.__exit__(None, None, None)
    assert not (tmp_path / "run" / "student").exists()
    student = train_and_evaluate(recipe, tmp_path / "run")
    steps = logged_steps(tmp_path / "run")
    assert [row["step"] for row in steps] == [1, 2]
    assert all(row["loss"] > 0 for row in steps)
    assert all(("kl_teacher" in row) == (recipe.teacher is not None) for row in steps)
    assert all(row["kl_teacher"] > 0 for row in steps if "kl_teacher" in row)
    sampled = recipe.on_policy.sampler != "none"  # the sampler is there, whatever it drew
    assert all(("on_policy_written" in row) == sampled for row in steps)
    results = sorted(path.name for path in (tmp_path / "run" / "evaluation").glob("*.result.json"))
    assert results == sorted(f"{Path(task).stem}.result.json" for task in recipe.evaluation.tasks)
    assert results
    exported = export_student(load_student(student), tmp_path / "export", process=fresh)
    assert exported.kind == CLASSES[exports_as(name)[0]]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_table_of_the_paper_has_eleven_methods(pair: str) -> None:
    found = {name.rsplit("/", 1)[1] for name in ALL if name.startswith(f"paper/ultrachat/{pair}/")}
    assert found == set(METHODS)
    assert load_recipe(f"paper/ultrachat/{pair}/taid").loss.t_start == (0.4 if pair == "phi3-tinyllama" else 0.2)
    skewed = load_recipe(f"paper/ultrachat/{pair}/distillm").loss.name
    assert skewed == ("srkl" if pair == "llama2-tinyllama" else "sfkl")


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("paper/ultrachat/")])
def test_instruction_runs_have_the_published_settings(name: str) -> None:
    training = load_recipe(name).training
    assert (training.lr, training.batch_size, training.weight_decay, training.warmup_steps) == (1e-4, 64, 0.01, 0)
    assert (training.schedule, training.max_grad_norm, training.precision) == ("cosine", 1.0, "bf16")
    assert load_recipe(name).seed == 42


@pytest.mark.parametrize(
    ("name", "parts"), [("paper/taid-vlm/taid", "InternVL2-2B"), ("modern/internvl3", "InternVL3-1B")]
)
def test_a_recipe_for_a_converted_student_says_what_the_conversion_says(name: str, parts: str, hub: Hub) -> None:
    hub.converted(f"cache:students/{parts}/language_model")
    written = read_source(hub.cache / "students" / parts / "student.yaml").content["student"]
    ours = load_recipe(name).student.model_dump(mode="json")
    for key in ("chat_template", "image_token", "added_tokens"):
        assert ours[key] == written[key]
    assert ours["projector"]["name"] == written["projector"]["name"]
    assert ours["projector"]["options"] == written["projector"]["options"]
    for key in ("library", "feature", "interpolation"):
        assert ours["vision_encoder"][key] == written["vision_encoder"].get(key, "normed")
    assert ours["images"]["style"] == written["images"]["style"]
    assert ours["images"]["tiling"] == written["images"]["tiling"]
