"""The teacher's states on disk: exact, reused, rebuilt for changed samples and other teachers, and refused when damaged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.models.chat_template import template_text
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe import Recipe
from taid_vlm.training import train
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.teacher_cache import TeacherCache
from tests.tiny.data import write_easy_vqa
from tests.tiny.recipes import tiny_recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    return train(tiny_recipe(language_model, easy_vqa), tmp_path_factory.mktemp("teacher") / "run")


def distil(language_model: Path, data: Path, checkpoint: Path, **cache: Any) -> Recipe:
    teacher = {"checkpoint": str(checkpoint), "cache": {"enabled": True, **cache}}
    return tiny_recipe(language_model, data, teacher=teacher, loss={"name": "kl"})


def set_up(recipe: Recipe) -> Setup:
    return prepare(recipe, Accelerator(cpu=True), None, "fp32", lambda text: None)


def shards(setup: Setup) -> list[Path]:
    assert setup.cache is not None
    return sorted(setup.cache.folder.glob("*.safetensors"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples the teacher reads from now on."""
    read: list[int] = []
    compute = TeacherCache._compute

    def counting(self: TeacherCache, prepared: Any, part: Any, store: Any) -> Any:
        read.append(len(part))
        return compute(self, prepared, part, store)

    monkeypatch.setattr(TeacherCache, "_compute", counting)
    return read


def test_states_are_those_of_the_teacher(language_model: Path, easy_vqa: Path, checkpoint: Path) -> None:
    cached = set_up(distil(language_model, easy_vqa, checkpoint, dtype="float32"))
    online = set_up(distil(language_model, easy_vqa, checkpoint, enabled=False))
    assert cached.cache is not None
    ids = [record.id for record in cached.train.records[:3]]
    from taid_vlm.data import make_loader

    (batch,) = make_loader(online.train, [[0, 1, 2]], 2)
    truth = online.teacher_hidden(batch, torch.device("cpu"))
    assert truth is not None
    assert batch.ids == ids
    torch.testing.assert_close(cached.cache.take(ids), truth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cached.cache.take(ids[::-1])[-1], truth[int(len(truth) / 3) - 1], rtol=1e-5, atol=1e-5)


def test_a_second_run_computes_nothing(
    language_model: Path, easy_vqa: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = distil(language_model, easy_vqa, checkpoint)
    read = counted(monkeypatch)
    first = set_up(recipe)
    assert sum(read) == 24 + 8
    second = set_up(recipe)
    assert sum(read) == 24 + 8
    assert first.cache is not None
    assert second.cache is not None
    ids = [record.id for record in first.train.records]
    assert torch.equal(first.cache.take(ids), second.cache.take(ids))


def test_another_precision_or_type_has_a_folder_of_its_own(
    language_model: Path, easy_vqa: Path, checkpoint: Path
) -> None:
    setup = set_up(distil(language_model, easy_vqa, checkpoint))
    teacher = setup.teacher
    assert isinstance(teacher, Teacher)
    variants = [(dtype, precision) for dtype in ("bfloat16", "float32") for precision in ("bf16", "fp32")]
    assert len({TeacherCache(teacher, *variant).folder for variant in variants}) == 4


def test_a_changed_picture_is_computed_anew(
    tmp_path: Path, language_model: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_easy_vqa(tmp_path / "data")
    recipe = distil(language_model, data, checkpoint)
    set_up(recipe)
    images = data / "easy_vqa" / "data" / "train" / "images"
    (images / "0.png").write_bytes((images / "1.png").read_bytes())
    read = counted(monkeypatch)
    set_up(recipe)
    assert read == [1]


def test_a_damaged_shard_is_named_and_can_be_deleted(language_model: Path, easy_vqa: Path, checkpoint: Path) -> None:
    recipe = distil(language_model, easy_vqa, checkpoint)
    (shard,) = shards(set_up(recipe))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"damaged: .*{shard.name}.*delete the file"):
        set_up(recipe)
    shard.unlink()
    assert shards(set_up(recipe)) == [shard]
    assert shard.read_bytes() == content


def test_two_samples_of_one_id_are_refused(language_model: Path, easy_vqa: Path, checkpoint: Path) -> None:
    setup = set_up(distil(language_model, easy_vqa, checkpoint))
    assert setup.cache is not None
    twin = setup.train.records[1]
    object.__setattr__(twin, "id", setup.train.records[0].id)
    with pytest.raises(UserError, match="make ids unique"):
        setup.cache.fill(setup.train, setup.store)


def test_a_student_that_ends_its_turns_otherwise_has_states_of_its_own(
    tmp_path: Path, language_model: Path, easy_vqa: Path, checkpoint: Path
) -> None:
    alike = set_up(distil(language_model, easy_vqa, checkpoint))
    recipe = distil(language_model, easy_vqa, checkpoint)
    other = template_text("chatml").replace(
        "+ '<|im_end|>' -}}{%- endgeneration", "+ '<|endoftext|>' -}}{%- endgeneration"
    )
    (tmp_path / "other.jinja").write_text(other)
    student = recipe.student.model_copy(update={"chat_template": str(tmp_path / "other.jinja")})
    told: list[str] = []
    setup = prepare(recipe.model_copy(update={"student": student}), Accelerator(cpu=True), None, "fp32", told.append)
    for one, left_out in ((alike, 0), (setup, 1)):
        assert one.cache is not None
        pairs = [one.train.pairer.pair(record) for record in one.train.records]
        assert len(one.cache.take([pair.id for pair in pairs])) == sum(len(pair.labels) for pair in pairs)
        assert one.train.pairer.ends_differ == left_out
    assert any("when to stop is not" in text for text in told)


def test_a_sample_that_comes_twice_is_read_once(
    language_model: Path, easy_vqa: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = distil(language_model, easy_vqa, checkpoint, dtype="bfloat16")
    twice = [source.model_copy(update={"weight": 2.0}) for source in recipe.data.train]
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": twice})})
    read = counted(monkeypatch)
    setup = set_up(recipe)
    assert len(setup.train) == 48
    assert sum(read) == 24 + 8
