"""A stock vision-language teacher: the stock processor's ids and pixels, the stock model's logits, alone and in a batch."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from taid_vlm.data import Pairer, Record
from taid_vlm.data.collate import pad_sides
from taid_vlm.data.pairing import Side
from taid_vlm.models.chat_template import template_text
from taid_vlm.models.native.families import FAMILIES
from taid_vlm.models.processor import ImageTokens, Processor
from taid_vlm.models.rendering import render_text
from taid_vlm.models.teacher import Teacher, teacher_from_checkpoint
from taid_vlm.models.vision_encoder import ImageInput
from tests.tiny.native import MAKERS, native_tokenizer, save_native

ONE = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": "a cat"},
]
TWO = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "image"},
            {"type": "text", "text": "or "},
            {"type": "image"},
            {"type": "text", "text": "?"},
        ],
    },
    {"role": "assistant", "content": "the first"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "yes, très sûr"},
]
WORDS = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "yo"}]
SIZES = {"one": [(70, 33)], "wide": [(64, 32)], "small": [(17, 20)], "two": [(40, 24), (24, 61)], "words": []}
MESSAGES = {"one": ONE, "wide": ONE, "small": ONE, "two": TWO, "words": WORDS}


@pytest.fixture(scope="module", params=MAKERS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_native(tmp_path_factory.mktemp(family) / "teacher", family)


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Teacher:
    return teacher_from_checkpoint(str(folder))


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def pictures(name: str) -> list[Image.Image]:
    return [noise(size, seed) for seed, size in enumerate(SIZES[name])]


def by_the_stock_processor(folder: Path, template: str, name: str) -> Any:
    """Ids and tensors of the same conversation, its pictures left to the stock processor to expand."""
    stock = AutoProcessor.from_pretrained(folder)
    shown = pictures(name)
    text, _ = render_text(
        stock.tokenizer,
        template,
        MESSAGES[name],
        add_generation_prompt=False,
        image_blocks=[stock.image_token] * len(shown),
    )
    opened = text.startswith(stock.tokenizer.bos_token)
    return stock(text=[text], images=[shown] if shown else None, return_tensors="pt", add_special_tokens=not opened)


def rows_of(mask: list[bool]) -> list[int]:
    return [i - 1 for i, said in enumerate(mask) if said]


def inputs_of(teacher: Teacher, names: list[str]) -> Any:
    rendered = [teacher.processor.render(MESSAGES[name], sizes=SIZES[name]) for name in names]
    side = pad_sides([Side(one.ids, rows_of(one.answer_mask)) for one in rendered], pad_id=0)
    return teacher.processor.inputs(  # type: ignore[union-attr]
        side.input_ids, side.attention_mask, side.rows, [pictures(name) for name in names]
    )


def logits_of(teacher: Teacher, names: list[str]) -> torch.Tensor:
    hidden = teacher.hidden(inputs_of(teacher, names))
    return teacher.model.logit_scaling(hidden @ teacher.head_weight.T)


@pytest.mark.parametrize("name", MESSAGES)
def test_ids_and_pixels_are_those_of_the_stock_processor(folder: Path, teacher: Teacher, name: str) -> None:
    expected = by_the_stock_processor(folder, teacher.processor.template, name)
    inputs = inputs_of(teacher, [name])
    assert inputs.input_ids.tolist() == expected["input_ids"].tolist()
    assert inputs.attention_mask.all()
    for key, tensor in inputs.tensors.items():
        if key in expected:
            torch.testing.assert_close(tensor, torch.as_tensor(expected[key]).to(tensor.dtype), rtol=0, atol=0)
    missing = set(expected) - set(inputs.tensors) - {"input_ids", "attention_mask", "mm_token_type_ids"}
    assert not missing


@pytest.mark.parametrize("name", MESSAGES)
def test_hidden_times_head_are_the_stock_models_logits(folder: Path, teacher: Teacher, name: str) -> None:
    stock = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        whole = stock(**by_the_stock_processor(folder, teacher.processor.template, name)).logits[0]
    rendered = teacher.processor.render(MESSAGES[name], sizes=SIZES[name])
    expected = whole[rows_of(rendered.answer_mask)]
    found = logits_of(teacher, [name])
    assert len(expected) > 2
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("names", [["words", "two", "one"], ["small", "words", "wide"], ["words", "words"]])
def test_a_batch_gives_what_its_samples_give(teacher: Teacher, names: list[str]) -> None:
    alone = torch.cat([logits_of(teacher, [name]) for name in names])
    together = logits_of(teacher, names)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.tuples(st.integers(9, 130), st.integers(9, 130)), min_size=1, max_size=3))
def test_pictures_of_any_size_have_the_tokens_that_stock_processor_and_model_expect(
    teacher: Teacher, sizes: list[tuple[int, int]]
) -> None:
    stock: Any = teacher.processor.stock  # type: ignore[union-attr]
    shown = [noise(size, seed) for seed, size in enumerate(sizes)]
    parts = [{"type": "image"} for _ in sizes]
    rendered = teacher.processor.render(
        [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}, WORDS[1]], sizes=sizes
    )
    side = pad_sides([Side(rendered.ids, rows_of(rendered.answer_mask))], pad_id=0)
    inputs = teacher.processor.inputs(side.input_ids, side.attention_mask, side.rows, [shown])  # type: ignore[union-attr]
    text = " ".join([stock.image_token] * len(sizes))
    expected = stock(text=[text], images=[shown], add_special_tokens=False)["input_ids"][0]
    pictured = teacher.processor.image_token_id
    assert rendered.ids.count(pictured) == list(expected).count(pictured)
    assert teacher.hidden(inputs).isfinite().all()  # the model compares the tokens with its features


def test_pictures_show_in_the_logits(teacher: Teacher) -> None:
    inputs = inputs_of(teacher, ["one"])
    other = {**inputs.tensors, "pixel_values": inputs.tensors["pixel_values"].flip(-1)}
    changed = teacher.hidden(type(inputs)(inputs.input_ids, inputs.attention_mask, inputs.rows, other))
    assert (changed - teacher.hidden(inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("name", MESSAGES)
def test_what_the_assistant_says_and_its_end_is_marked(teacher: Teacher, name: str) -> None:
    rendered = teacher.processor.render(MESSAGES[name], sizes=SIZES[name])
    said = [token for token, flag in zip(rendered.ids, rendered.answer_mask, strict=True) if flag]
    end = teacher.processor.tokenizer.decode([teacher.processor.end_of_turn_id])
    answers = [m["content"] for m in MESSAGES[name] if m["role"] == "assistant"]
    text = teacher.processor.tokenizer.decode(said)
    assert [part.strip() for part in text.split(end)] == [*answers, ""]


def test_answer_rows_of_a_student_of_another_architecture_say_the_same_ids(
    family: str, teacher: Teacher, tmp_path: Path
) -> None:
    own = FAMILIES.get(family).templates.values()
    template = "chatml" if family in ("internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl") else next(iter(own))
    eyes = ImageTokens("<empty_output>", 5, ImageInput(8, (0.5,) * 3, (0.5,) * 3, "bicubic"))
    student = Processor(native_tokenizer(family), template_text(template), eyes)
    pairer = Pairer(student, teacher.processor, max_length=2000)
    for name in MESSAGES:
        paths = []
        for index, picture in enumerate(pictures(name)):
            paths.append(tmp_path / f"{name}{index}.png")
            picture.save(paths[-1])
        pair = pairer.pair(Record(name, MESSAGES[name], tuple(paths)))
        assert pair.teacher is not None
        assert [pair.teacher.ids[row + 1] for row in pair.teacher.rows] == pair.labels
        assert [pair.student.ids[row + 1] for row in pair.student.rows] == pair.labels
    assert pairer.end_tokens_left_out == 0


def test_a_typed_picture_token_stays_text(teacher: Teacher) -> None:
    token = teacher.processor.tokenizer.decode([teacher.processor.image_token_id])
    typed = [{"role": "user", "content": f"what is {token} {teacher.processor.stock.image_token}?"}, WORDS[1]]  # type: ignore[union-attr]
    assert teacher.processor.image_token_id not in teacher.processor.render(typed).ids


def test_its_processor_can_be_sent_to_a_worker(teacher: Teacher) -> None:
    sent = pickle.loads(pickle.dumps(teacher.processor))
    assert sent.render(TWO, sizes=SIZES["two"]) == teacher.processor.render(TWO, sizes=SIZES["two"])


def test_the_teacher_is_frozen_and_sees(teacher: Teacher) -> None:
    assert teacher.sees
    assert teacher.encoder_spec is None
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training
