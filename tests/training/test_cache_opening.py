"""How a run's cache is opened: filled to the same bits after a kill, known without the teacher, and alone in memory afterwards."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import Recipe
from taid_vlm.training import teachers, train
from taid_vlm.training.cache import fill, identity, store
from taid_vlm.training.cache import open as opening
from taid_vlm.training.cache.forms import HiddenStates, MostLikely
from taid_vlm.training.cache.measure import Loss, measured, table
from taid_vlm.training.cache.open import Opening
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.placement import quantized
from tests.tiny.language_model import save_tiny_language_model, save_tiny_llama
from tests.tiny.recipes import tiny_recipe
from tests.training.cache_cases import distil, language_recipe, set_up, taken, write_varied_vqa


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    return train(tiny_recipe(language_model, easy_vqa), tmp_path_factory.mktemp("teacher") / "run")


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("shards", [2, 5])
def test_a_broken_picture_does_not_shift_the_batches_after_a_kill(
    tmp_path: Path, language_model: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.setattr(fill, "BATCH", 4)
    monkeypatch.setattr(store, "SHARD_SAMPLES", 4)
    data = write_varied_vqa(tmp_path / "data")
    (data / "easy_vqa" / "data" / "train" / "images" / "3.png").write_bytes(b"broken")
    content = distil(language_model, data, checkpoint, dtype="float32").model_dump()
    content["data"] |= {"on_bad_sample": "skip", "cache_image_features": False}
    recipe = Recipe.model_validate(content)
    batches: list[frozenset[str]] = []
    collect = store.TeacherCache.collect

    def noting(self: Any, samples: dict[str, Any]) -> None:
        batches.append(frozenset(samples))
        collect(self, samples)

    monkeypatch.setattr(store.TeacherCache, "collect", noting)
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "quiet"))
    quiet = set_up(recipe)
    assert quiet.cache is not None
    undisturbed, names = list(batches), [name for name in quiet.cache.keys if name in quiet.cache]
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "killed"))
    batches.clear()
    write, count = store.write_shard, [0]

    def killing(*arguments: Any) -> Any:
        shard = write(*arguments)
        count[0] += 1
        if count[0] == shards:
            raise KilledError
        return shard

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_shard", killing)
        with pytest.raises(KilledError):
            set_up(recipe)
    resumed = set_up(recipe)
    assert batches == undisturbed  # each batch once, with the samples that it had
    assert torch.equal(taken(resumed, names), taken(quiet, names))
    set_up(recipe)
    assert batches == undisturbed


def test_a_quantized_teacher_is_not_loaded_twice(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SETTLED", -1e12)
    monkeypatch.setattr(quantized.QUANTIZATIONS, "get", lambda name: lambda layer: None)
    content = language_recipe(language_model, save_tiny_llama(tmp_path / "teacher", seed=3)).model_dump()
    plain = Recipe.model_validate(content)
    content["teacher"] |= {"placement": "quantized", "quantization": "int8"}
    recipe = Recipe.model_validate(content)
    first = set_up(recipe)
    with monkeypatch.context() as patch:
        patch.setattr(teachers, "teacher_from_language_model", lambda *_: pytest.fail("loaded"))
        second = set_up(recipe)
    assert torch.equal(taken(first), taken(second))
    assert first.cache is not None
    assert (other := set_up(plain).cache) is not None
    assert other.folder != first.cache.folder


def test_another_scaling_is_not_taken_from_the_old_head(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SETTLED", -1e12)
    folder = save_tiny_language_model(tmp_path / "teacher", "granite")
    recipe = language_recipe(language_model, folder)
    before = set_up(recipe)
    config = folder / "config.json"
    assert '"logits_scaling": 2.0' in config.read_text()
    config.write_text(config.read_text().replace('"logits_scaling": 2.0', '"logits_scaling": 8.0'))
    after, again = set_up(recipe), set_up(recipe)  # loaded, and from what was stored
    scales = [one.teacher.model.logit_scaling.scale for one in (before, after, again) if one.teacher is not None]
    assert scales == [1 / 2, 1 / 8, 1 / 8]


def test_a_saved_student_that_taught_leaves_its_head_alone(
    tmp_path: Path, language_model: Path, checkpoint: Path
) -> None:
    content = distil(language_model, write_varied_vqa(tmp_path / "data"), checkpoint).model_dump()
    content["data"]["cache_image_features"] = False
    setup = set_up(Recipe.model_validate(content))
    assert setup.teacher is not None
    assert {name for name, _ in setup.teacher.model.named_parameters()} == {"language_model.lm_head.weight"}
    assert not list(setup.teacher.model.buffers())
    assert setup.teacher.head_weight.shape[1] == setup.cache.width  # type: ignore[union-attr]
    assert not setup.teacher_looks


def test_a_cache_that_processes_do_not_share_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two machines: what the other process wrote is never seen here."""
    monkeypatch.setattr(opening, "PATIENCE", 0.0)
    monkeypatch.setattr(opening, "as_main", lambda value, distribution: value)
    theirs: list[Any] = [{"a" * 64}, False]
    alone = SimpleNamespace(world=2, main=True, accelerator=SimpleNamespace(wait_for_everyone=lambda: None))
    alone.gather = lambda value: [value, theirs.pop(0)]
    cache = store.TeacherCache(tmp_path, HiddenStates("float32"), 4)
    check: Any = Opening(*([None] * 2), alone, *([None] * 5))._check_shared  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"do not see the same files in {tmp_path}: .*set TAID_VLM_CACHE to a folder"):
        check(cache, set())
    theirs += [set(), False]
    check(cache, set())


def test_forms_that_do_not_hold_a_teacher_are_measured_as_such(tmp_path: Path, language_model: Path) -> None:
    content = language_recipe(language_model, save_tiny_llama(tmp_path / "teacher", seed=3)).model_dump()
    content["teacher"]["cache"]["enabled"] = False
    setup = set_up(Recipe.model_validate(content))
    assert setup.teacher is not None
    real = setup.teacher.hidden
    setup.teacher.hidden = lambda inputs: real(inputs) * 1e7  # type: ignore[method-assign]
    loss = Loss(setup.student, setup.processor, None, setup.spec, setup.vocabulary or 0)
    forms = [HiddenStates("bfloat16"), HiddenStates("float16"), MostLikely(10**6, "uniform", "float16")]
    rows = measured(forms, loss, setup.teacher, setup.train, None, "fp32")
    _, whole, half, most, _ = table(rows).splitlines()
    assert "does not fit" not in whole
    assert "does not fit: a hidden state of the teacher is" in half
    assert "does not fit: the vocabulary has" in most
    assert "0.00" not in most


def test_one_process_has_its_own_lists() -> None:
    assert fill.as_main(["a"], Distribution(Accelerator(cpu=True))) == ["a"]
