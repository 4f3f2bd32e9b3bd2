"""The whole plan of tiny recipes, and the command."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.models.assemble import build_student
from taid_vlm.models.saved import save_student
from taid_vlm.planning import Plan, make_plan, show
from taid_vlm.planning import memory as planned_memory
from taid_vlm.planning.cards import CARDS, verdicts
from taid_vlm.recipe import Recipe
from taid_vlm.training import features
from taid_vlm.training.cache import fill as teacher_cache
from tests.process import run
from tests.tiny.language_model import save_tiny_llama
from tests.tiny.recipes import distil, tiny_recipe

SMALL = {"process": 0}


@pytest.fixture
def weightless(tmp_path: Path, language_model: Path) -> Path:
    """The tiny Llama's folder without its weights."""
    folder = shutil.copytree(language_model, tmp_path / "weightless")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def teacher(tmp_path: Path, language_model: Path, easy_vqa: Path) -> Path:
    """A student saved in full, whose weights are then deleted."""
    spec = tiny_recipe(language_model, easy_vqa).student
    student, processor = build_student(spec)
    save_student(student, processor, spec, tmp_path / "teacher")
    (tmp_path / "teacher" / "model.safetensors").unlink()
    return tmp_path / "teacher"


def phases(plan: Plan, device: str = "cpu") -> dict[str, dict[str, int]]:
    memory = next(one for one in plan.memory if one.device == device)
    return {phase.name: phase.parts for phase in memory.phases}


def test_no_weight_file_is_opened(weightless: Path, teacher: Path, easy_vqa: Path) -> None:
    plan = make_plan(distil(weightless, easy_vqa, teacher), **SMALL)
    assert [part.name for part in plan.parts] == ["vision_encoder", "projector", "language_model", "teacher"]
    encoder, projector, language_model, saved = plan.parts
    assert (encoder.trained, encoder.mode, encoder.lr) == (0, "frozen", None)
    assert (projector.trained, projector.lr) == (projector.parameters, 1e-2)
    assert (language_model.kind, language_model.lr) == ("LlamaForCausalLM", 2e-2)
    assert "LlamaForCausalLM" in saved.kind
    assert plan.vocabulary is not None
    assert plan.vocabulary.shared == 260


def test_lengths_are_those_of_the_rendered_records(weightless: Path, easy_vqa: Path) -> None:
    plan = make_plan(tiny_recipe(weightless, easy_vqa), **SMALL)
    assert plan.grid is not None
    assert plan.tokens_per_tile == plan.grid[0] * plan.grid[1]
    length = plan.lengths
    assert (length.samples, length.context, length.estimated, length.note) == (24, 512, False, "")
    # "red" or "blue", byte by byte, and the end of the turn.
    assert (length.answer_median, length.answer_longest) in [(4, 5), (5, 5)]
    assert plan.tokens_per_tile < length.median <= length.longest <= length.limit


def test_decoded_pictures_are_in_memory_before_their_features_are(weightless: Path, easy_vqa: Path) -> None:
    cached = phases(make_plan(tiny_recipe(weightless, easy_vqa), **SMALL))
    assert cached["encoding the pictures"]["pictures"] == 24 * 16 * 16 * 4 + 8 * 16 * 16 * 4
    assert "pictures" not in cached["forward and backward"]
    data = {"train": [{"kind": "easy_vqa", "path": str(easy_vqa)}]}
    on_demand = phases(make_plan(tiny_recipe(weightless, easy_vqa, data=data), **SMALL))
    assert on_demand["forward and backward"]["pictures"] == 4 * 16 * 16 * 4


def test_data_that_is_not_here_is_estimated(weightless: Path, tmp_path: Path) -> None:
    plan = make_plan(tiny_recipe(weightless, tmp_path / "nowhere"), **SMALL)
    assert plan.lengths.estimated
    assert plan.lengths.longest == plan.lengths.limit == 1024
    assert "cannot be read" in plan.lengths.note
    assert "the language model was made for 512" in plan.warnings[0]


def test_a_cached_teacher_is_in_memory_before_training_and_an_online_one_in_it(
    weightless: Path, teacher: Path, easy_vqa: Path
) -> None:
    cached = make_plan(distil(weightless, easy_vqa, teacher), **SMALL)
    assert "teacher cache" in phases(cached)["forward and backward"]
    assert cached.flops.teacher == 0
    assert cached.flops.before > 0
    online = make_plan(distil(weightless, easy_vqa, teacher, cache=False), **SMALL)
    assert "teacher cache" not in phases(online)["forward and backward"]
    assert "teacher's forward" in phases(online)
    assert 0 < online.flops.teacher_share < 1
    held = [phases(plan, "gpu")["forward and backward"]["teacher weights"] for plan in (cached, online)]
    assert held[0] < held[1]


def test_optimizer_state_is_twice_what_is_trained(weightless: Path, easy_vqa: Path) -> None:
    plan = make_plan(tiny_recipe(weightless, easy_vqa), **SMALL)
    step = phases(plan)["optimizer step"]
    trained = sum(part.trained for part in plan.parts)
    assert (step["gradients"], step["optimizer state"]) == (4 * trained, 8 * trained)


def test_several_gpus_share_the_batch_and_hold_buckets(weightless: Path, easy_vqa: Path) -> None:
    one, two = (make_plan(tiny_recipe(weightless, easy_vqa), gpus=gpus, **SMALL) for gpus in (1, 2))
    assert (one.micro_batch, two.micro_batch) == (4, 2)
    assert "gradient buckets" in phases(two, "gpu")["optimizer step"]
    with pytest.raises(UserError, match="cannot be dealt to 3 processes"):
        make_plan(tiny_recipe(weightless, easy_vqa), gpus=3, **SMALL)


def test_the_schedule_is_judged(weightless: Path, teacher: Path, easy_vqa: Path) -> None:
    plan = make_plan(distil(weightless, easy_vqa, teacher, loss={"name": "taid"}), **SMALL)
    assert any("exactly linear" in warning for warning in plan.warnings)


def test_what_is_not_planned_is_told(weightless: Path, teacher: Path, easy_vqa: Path) -> None:
    recipe = distil(weightless, easy_vqa, teacher, cache=False)
    assert not any("writes answers" in warning for warning in make_plan(recipe, **SMALL).warnings)
    writes = Recipe.model_validate(recipe.model_dump() | {"on_policy": {"sampler": "mixed"}})
    assert any("the student writes answers in training" in told for told in make_plan(writes, **SMALL).warnings)


def test_tokenizers_that_differ_are_refused_as_in_training(
    tmp_path: Path, weightless: Path, easy_vqa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taid_vlm.planning import models

    other = tiny_recipe(weightless, easy_vqa).student.language_model
    recipe = Recipe.model_validate(
        {
            "student": {"language_model": {"source": str(weightless)}},
            "teacher": {"language_model": other.model_dump()},
            "data": {"train": [{"kind": "chatterbot", "path": str(tmp_path)}]},
            "loss": {"name": "kl"},
            "training": {"steps": 2, "batch_size": 2, "lr": 1e-3},
        }
    )
    theirs = dict(enumerate("abc"))
    real = models.shared_vocabulary

    class Foreign:
        def get_vocab(self) -> dict[str, int]:
            return {token: index for index, token in theirs.items()}

    monkeypatch.setattr(models, "shared_vocabulary", lambda ours, _, *rows: real(ours, Foreign(), *rows))
    with pytest.raises(UserError, match="different tokenizers"):
        make_plan(recipe, **SMALL)


def test_constants_are_those_of_training() -> None:
    assert planned_memory.FEATURE_BATCH == features.BATCH
    assert planned_memory.TEACHER_BATCH == teacher_cache.BATCH


def test_cards_keep_a_margin() -> None:
    hours = {card.name: 1.0 for card in CARDS}
    assert next(card.gib for card in verdicts(15 * 2**30, hours) if card.fits) == 24
    assert next(card.gib for card in verdicts(14 * 2**30, hours) if card.fits) == 16
    assert not any(card.fits for card in verdicts(200 * 2**30, hours))


def test_a_plan_is_json_and_text(weightless: Path, easy_vqa: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(tiny_recipe(weightless, easy_vqa), **SMALL)
    content: dict[str, Any] = json.loads(json.dumps(plan.to_json()))
    assert content["first_card"] == CARDS[0].name
    assert content["memory"][0]["peak"] == plan.memory[0].highest.total
    show(plan)
    text = capsys.readouterr().out
    for words in ("vision_encoder", "samples of", "Peak resident memory", "RTX 4070", "TFLOP", "Export:"):
        assert words in text


@pytest.mark.slow
def test_the_command(tmp_path: Path, easy_vqa: Path) -> None:
    recipe = tiny_recipe(save_tiny_llama(tmp_path / "llama"), easy_vqa).model_dump(mode="json")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))

    done = run("plan", "tiny.yaml", "--json", "training.batch_size=8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["micro_batch"] == 8
    done = run("plan", "tiny.yaml", "student.language_model.layers=9", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "9 asked for" in done.stderr
    assert "Traceback" not in done.stderr
