"""Stored features of tiles are those that the encoder gives, and training on them is training on pixels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from taid_vlm.data import Pairer, PreparedRecords, Record, make_loader
from taid_vlm.models import Student, build_student, load_student
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import ImagesSpec, StudentSpec, VisionEncoderSpec
from taid_vlm.training import features, train
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import model_inputs
from tests.tiny.recipes import distil, logged_steps, tiny_recipe

ENCODER = VisionEncoderSpec(library="timm", name="test_resnet", weights="random", image_size=64)
TILED = ImagesSpec(tiling="dynamic", style="internvl", max_tiles=4)
SIZES = [(200, 100), (50, 50), (90, 400)]  # 3, 1 and 5 tiles


def built(language_model: Path, images: ImagesSpec) -> tuple[Student, Processor]:
    content = {
        "vision_encoder": ENCODER,
        "projector": {"name": "mlp"},
        "language_model": {"source": str(language_model)},
        "image_token": "<empty_output>",
        "images": images,
    }
    student, processor = build_student(StudentSpec.model_validate(content))
    return student.eval(), processor


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for index, size in enumerate(SIZES):
        image = Image.radial_gradient("L").resize(size).convert("RGB")
        found.append(tmp_path / f"{index}.png")
        image.save(found[-1])
    return found


def test_an_entry_holds_all_tiles_of_a_picture(language_model: Path, paths: list[Path]) -> None:
    student, processor = built(language_model, TILED)
    store = FeatureStore(ENCODER, TILED)
    assert student.vision_encoder is not None
    store.add(student.vision_encoder, paths, skip_bad=False)
    pixels = processor.pixel_values([Image.open(path) for path in paths])
    assert store.tiles(paths) == (3, 1, 5)
    torch.testing.assert_close(store.take(paths), student.vision_encoder(pixels), rtol=1e-4, atol=1e-5)
    assert torch.equal(store.take(paths[::-1])[:5], store.take(paths[2:]))
    assert store.take([]).shape[0] == 0


def test_tiles_are_encoded_in_batches_of_one_size(
    language_model: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, _ = built(language_model, TILED)
    encoder, seen = student.vision_encoder, []
    assert encoder is not None
    encoder.register_forward_hook(lambda _module, args, _out: seen.append(args[0].shape[0]))
    monkeypatch.setattr(features, "BATCH", 4)
    store = FeatureStore(ENCODER, TILED)
    store.add(encoder, paths, skip_bad=False)
    assert seen == [4, 4, 1]
    again = FeatureStore(ENCODER, TILED)
    again.add(encoder, paths, skip_bad=False)
    assert torch.equal(store.take(paths), again.take(paths))


def test_features_of_other_tiles_do_not_fit(language_model: Path) -> None:
    student, _ = built(language_model, TILED)
    store = FeatureStore(ENCODER, TILED)
    other_text = TILED.model_copy(update={"style": "plain"})
    assert store.fits(ENCODER, student.vision_encoder, other_text)
    assert not store.fits(ENCODER, student.vision_encoder, ImagesSpec())
    assert not store.fits(ENCODER, student.vision_encoder, TILED.model_copy(update={"max_tiles": 5}))


def test_pictures_of_several_turns_reach_their_places(language_model: Path, paths: list[Path]) -> None:
    student, processor = built(language_model, TILED)
    image, words = {"type": "image"}, {"type": "text", "text": "and"}
    answer = {"role": "assistant", "content": "yes"}
    turns = [{"role": "user", "content": [image, words, image]}, answer, {"role": "user", "content": [words, image]}]
    looks = Record("looks", [*turns, answer], tuple(paths))
    hears = Record("hears", [{"role": "user", "content": "hi"}, answer])
    prepared = PreparedRecords([looks, hears], Pairer(processor, None, 512), False, decode_pictures=True)
    store = FeatureStore(ENCODER, TILED)
    assert student.vision_encoder is not None
    store.add(student.vision_encoder, paths, skip_bad=False)
    (batch,) = make_loader(prepared, [[1, 0]], 2)
    seen, stored = (model_inputs(batch, batch.student, processor, kept) for kept in (None, store))
    assert seen.tiles == stored.tiles == (3, 1, 5)
    hidden = student.hidden(seen)
    torch.testing.assert_close(student.hidden(stored), hidden, rtol=1e-4, atol=1e-5)
    (alone,) = make_loader(prepared, [[0]], 2)
    rows = len(alone.labels)
    torch.testing.assert_close(
        student.hidden(model_inputs(alone, alone.student, processor, None)), hidden[-rows:], rtol=1e-4, atol=1e-5
    )
    swapped = replace(stored, image_features=store.take(paths[::-1]))
    assert not torch.allclose(student.hidden(swapped), hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cached", [True, False], ids=["stored features", "pixels"])
def test_a_student_of_tiles_learns_from_a_teacher_of_whole_pictures(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, cached: bool
) -> None:
    base = tiny_recipe(language_model, easy_vqa)
    pieces = ImagesSpec(tiling="dynamic", style="internvl", min_tiles=2, max_tiles=2)
    student = base.student.model_copy(update={"images": pieces}).model_dump()
    data = {**base.data.model_dump(), "cache_image_features": cached}
    recipe = distil(language_model, easy_vqa, teacher, cache=cached, student=student, data=data)
    losses = [row["loss"] for row in logged_steps(train(recipe, tmp_path / "run").parent)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_a_student_of_whole_pictures_learns_from_a_teacher_of_tiles(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    base = tiny_recipe(language_model, easy_vqa)
    pieces = ImagesSpec(tiling="split", style="smolvlm")
    cut = base.student.model_copy(update={"images": pieces}).model_dump()
    few = {"steps": 2, "batch_size": 4, "lr": 5e-3, "precision": "fp32"}
    teacher = train(tiny_recipe(language_model, easy_vqa, student=cut, training=few), tmp_path / "teacher")
    loaded = load_student(teacher)
    assert loaded.spec.images == pieces
    look = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what color?"}]}]
    assert len(loaded.generate([look, look], [[Image.new("RGB", size)] for size in SIZES[:2]], 3)) == 2
    saved = distil(language_model, easy_vqa, teacher, training=few)
    assert len(logged_steps(train(saved, tmp_path / "run").parent)) == 2
