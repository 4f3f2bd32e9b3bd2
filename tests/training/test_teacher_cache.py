"""The teacher's states on disk: exact, reused without the teacher, rebuilt for changed samples and other teachers."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import make_loader
from taid_vlm.models.chat_template import template_text
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe import Recipe
from taid_vlm.training import train
from taid_vlm.training.cache import fill as filling
from taid_vlm.training.cache import identity
from taid_vlm.training.cache.forms import HiddenStates
from taid_vlm.training.cache.keys import folder_name
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.setup import Setup, prepare
from tests.tiny.language_model import save_tiny_llama
from tests.tiny.native import save_native, save_native_tokenizer_llama
from tests.tiny.recipes import tiny_recipe
from tests.training.cache_cases import distil, language_recipe, set_up, taken, write_varied_vqa


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_varied_vqa(tmp_path_factory.mktemp("varied"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    return train(tiny_recipe(language_model, easy_vqa), tmp_path_factory.mktemp("teacher") / "run")


def shards(setup: Setup) -> list[Path]:
    assert setup.cache is not None
    return sorted(path for path in setup.cache.folder.glob("*.safetensors") if not path.name.startswith("head-"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples the teacher reads from now on."""
    read: list[int] = []
    states = filling.states

    def counting(order: list[list[int]], *others: Any) -> Any:
        read.append(sum(map(len, order)))
        return states(order, *others)

    monkeypatch.setattr(filling, "states", counting)
    return read


def test_states_are_those_of_the_teacher(language_model: Path, varied: Path, checkpoint: Path) -> None:
    cached = set_up(distil(language_model, varied, checkpoint, dtype="float32"))
    online = set_up(distil(language_model, varied, checkpoint, enabled=False))
    assert cached.cache is not None
    ids = [record.id for record in cached.train.records[:3]]
    (batch,) = make_loader(online.train, [[0, 1, 2]], 2)
    truth = online.teacher_hidden(batch, torch.device("cpu"))
    assert truth is not None
    assert batch.ids == ids
    torch.testing.assert_close(taken(cached, ids), truth, rtol=1e-5, atol=1e-5)
    pairs = [online.train.pairer.pair(record) for record in online.train.records[:3]]
    first = len(pairs[0].labels)
    torch.testing.assert_close(taken(cached, ids[::-1])[-first:], truth[:first], rtol=1e-5, atol=1e-5)


def test_a_second_run_computes_nothing_and_loads_no_weights(
    language_model: Path, varied: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = distil(language_model, varied, checkpoint)
    read = counted(monkeypatch)
    first = set_up(recipe)
    assert sum(read) == 24 + 8
    monkeypatch.setattr("taid_vlm.training.teachers.teacher_from_checkpoint", lambda *_: pytest.fail("loaded"))
    second = set_up(recipe)
    assert sum(read) == 24 + 8
    assert torch.equal(taken(first), taken(second))
    for setup in (first, second):
        assert setup.teacher is not None
    assert torch.equal(first.teacher.head_weight, second.teacher.head_weight)
    assert first.teacher.fingerprint == second.teacher.fingerprint
    assert first.teacher.model.logit_scaling == second.teacher.model.logit_scaling
    there = {name for name, value in second.teacher.model.named_parameters() if not value.is_meta}
    assert there == {"language_model.lm_head.weight"}


def test_another_precision_or_type_has_a_folder_of_its_own(
    language_model: Path, varied: Path, checkpoint: Path
) -> None:
    teacher = set_up(distil(language_model, varied, checkpoint)).teacher
    assert isinstance(teacher, Teacher)
    variants = [(HiddenStates(dtype), precision) for dtype in ("bfloat16", "float32") for precision in ("bf16", "fp32")]
    assert len({folder_name(teacher, *variant) for variant in variants}) == 4


@pytest.mark.parametrize("same_time", [False, True])
def test_changed_weights_are_never_served_from_the_old_cache(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, same_time: bool
) -> None:
    monkeypatch.setattr(identity, "SETTLED", -1e12)  # remember files however young they are
    folder = tmp_path / "teacher"
    save_tiny_llama(folder)
    weights = folder / "model.safetensors"
    long_ago = os.stat(weights).st_mtime_ns - 3600 * 10**9
    recipe = language_recipe(language_model, folder)
    for file in folder.iterdir():
        os.utime(file, ns=(long_ago, long_ago))
    before = set_up(recipe)
    other = save_tiny_llama(tmp_path / "other", seed=5) / "model.safetensors"
    content = other.read_bytes()
    assert len(content) == weights.stat().st_size
    weights.write_bytes(content)  # the same inode and size
    if same_time:
        os.utime(weights, ns=(long_ago, long_ago))
    after = set_up(recipe)
    assert before.teacher is not None
    assert after.teacher is not None
    assert before.teacher.fingerprint != after.teacher.fingerprint
    assert not torch.equal(taken(before), taken(after))


def test_a_changed_picture_is_computed_anew(
    tmp_path: Path, language_model: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_varied_vqa(tmp_path / "data")
    recipe = distil(language_model, data, checkpoint)
    set_up(recipe)
    images = data / "easy_vqa" / "data" / "train" / "images"
    Image.new("RGB", (16, 16), (1, 2, 3)).save(images / "0.png")
    read = counted(monkeypatch)
    set_up(recipe)
    assert read == [1]


def test_a_damaged_shard_is_named_and_can_be_deleted(language_model: Path, varied: Path, checkpoint: Path) -> None:
    recipe = distil(language_model, varied, checkpoint)
    (shard,) = shards(set_up(recipe))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    setup = set_up(recipe)
    with pytest.raises(UserError, match=f"damaged: .*{shard.name}.*delete the file"):
        taken(setup)
    shard.write_bytes(content[:-1])
    with pytest.raises(UserError, match=f"damaged: .*{shard.name}.*bytes.*delete the file"):
        set_up(recipe)
    shard.unlink()
    again = set_up(recipe)
    assert shards(again) == [shard]
    assert shard.read_bytes() == content
    assert len(taken(again)) > 0


def test_a_damaged_head_is_named(language_model: Path, varied: Path, checkpoint: Path) -> None:
    recipe = distil(language_model, varied, checkpoint)
    setup = set_up(recipe)
    assert setup.cache is not None
    (head,) = setup.cache.folder.glob("head-*.safetensors")
    content = head.read_bytes()
    head.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"damaged: .*{head.name}.*delete the file"):
        set_up(recipe)
    head.unlink()
    set_up(recipe)
    assert head.read_bytes() == content


def test_two_samples_of_one_id_are_refused(language_model: Path, varied: Path, checkpoint: Path) -> None:
    setup = set_up(distil(language_model, varied, checkpoint))
    assert setup.cache is not None
    twin = setup.train.records[1]
    object.__setattr__(twin, "id", setup.train.records[0].id)
    with pytest.raises(UserError, match="make ids unique"):
        setup.cache.know(setup.train)


def test_a_student_that_ends_its_turns_otherwise_has_states_of_its_own(
    tmp_path: Path, language_model: Path, varied: Path, checkpoint: Path
) -> None:
    alike = set_up(distil(language_model, varied, checkpoint))
    recipe = distil(language_model, varied, checkpoint)
    other = template_text("chatml").replace(
        "+ '<|im_end|>' -}}{%- endgeneration", "+ '<|endoftext|>' -}}{%- endgeneration"
    )
    (tmp_path / "other.jinja").write_text(other)
    student = recipe.student.model_copy(update={"chat_template": str(tmp_path / "other.jinja")})
    told: list[str] = []
    setup = prepare(recipe.model_copy(update={"student": student}), Accelerator(cpu=True), None, "fp32", told.append)
    for one, left_out in ((alike, 0), (setup, 1)):
        pairs = [one.train.pairer.pair(record) for record in one.train.records]
        assert len(taken(one, [pair.id for pair in pairs])) == sum(len(pair.labels) for pair in pairs)
        assert one.train.pairer.ends_differ == left_out
    assert any("when to stop is not" in text for text in told)


def test_a_sample_that_comes_twice_is_read_once(
    language_model: Path, varied: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = distil(language_model, varied, checkpoint, dtype="bfloat16")
    twice = [source.model_copy(update={"weight": 2.0}) for source in recipe.data.train]
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": twice})})
    read = counted(monkeypatch)
    setup = set_up(recipe)
    assert len(setup.train) == 48
    assert sum(read) == 24 + 8


def test_equal_samples_are_read_once(
    language_model: Path, easy_vqa: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted(monkeypatch)
    setup = set_up(distil(language_model, easy_vqa, checkpoint))
    assert sum(read) == 2  # red and blue, of 32
    assert setup.cache is not None
    pairs = [setup.train.pairer.pair(record) for record in setup.train.records]
    assert len(taken(setup, [pair.id for pair in pairs])) == sum(len(pair.labels) for pair in pairs)


def test_what_is_drawn_later_does_not_depend_on_the_cache(language_model: Path, varied: Path, checkpoint: Path) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        set_up(distil(language_model, varied, checkpoint, dtype="bfloat16"))
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_a_stock_teacher_is_not_loaded_twice(tmp_path: Path, varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_native(tmp_path / "teacher", "internvl")
    save_native_tokenizer_llama(tmp_path / "student", "internvl")
    recipe = distil(tmp_path / "student", varied, tmp_path / "teacher")
    first = set_up(recipe)
    monkeypatch.setattr("taid_vlm.training.teachers.teacher_from_checkpoint", lambda *_: pytest.fail("loaded"))
    second = set_up(recipe)
    assert torch.equal(taken(first), taken(second))
    assert first.teacher is not None
    assert second.teacher is not None
    assert torch.equal(first.teacher.head_weight, second.teacher.head_weight)
    assert not any(not one.is_meta for name, one in second.teacher.model.named_parameters() if "lm_head" not in name)


def test_a_teacher_whose_encoder_is_drawn_anew_has_no_identity(
    tmp_path: Path, language_model: Path, varied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are not told by its files alone, so they are loaded and looked at."""
    saved = train(tiny_recipe(language_model, varied, save="trained"), tmp_path / "run")
    recipe = distil(language_model, varied, saved)
    assert recipe.teacher is not None
    assert identity.identity_of(recipe.teacher) is None
    read = counted(monkeypatch)
    first, second = set_up(recipe), set_up(recipe)
    assert sum(read) == 24 + 8
    assert torch.equal(taken(first), taken(second))


def test_a_sample_that_cannot_be_read_is_no_reason_to_load_the_teacher(
    tmp_path: Path, language_model: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_varied_vqa(tmp_path / "data")
    (data / "easy_vqa" / "data" / "train" / "images" / "3.png").write_bytes(b"broken")
    recipe = distil(language_model, data, checkpoint)
    content = recipe.model_dump()
    content["data"] |= {"on_bad_sample": "skip", "cache_image_features": False}
    recipe = Recipe.model_validate(content)
    first = set_up(recipe)
    assert first.cache is not None
    (lost,) = first.cache.missing()
    assert lost == first.train.records[3].id
    monkeypatch.setattr("taid_vlm.training.teachers.teacher_from_checkpoint", lambda *_: pytest.fail("loaded"))
    set_up(recipe)


def test_a_meeting_ends_the_first_epoch(language_model: Path, varied: Path, checkpoint: Path) -> None:
    setup = set_up(distil(language_model, varied, checkpoint, fill="first_epoch"))
    cache, alone = setup.cache, Distribution(Accelerator(cpu=True))
    assert cache is not None
    assert setup.validation is not None
    for part, half in ((setup.train, True), (setup.validation, False)):
        for batch in make_loader(part, [list(range(len(part)))], 2):
            setup.teacher_hidden(batch, torch.device("cpu"))
        cache.meet(alone)
        assert cache.online == half
        assert (cache.folder / "index.json").is_file()
    assert len(shards(setup)) == 2
    complete = set_up(distil(language_model, varied, checkpoint, fill="first_epoch"))
    assert complete.cache is not None
    assert not complete.cache.online
    assert complete.teacher is not None
    assert {name for name, _ in complete.teacher.model.named_parameters()} == {"language_model.lm_head.weight"}
    assert torch.equal(taken(complete), taken(setup))
