"""Units are those that training shards, and together they are the whole model."""

from pathlib import Path

import pytest
import torch

from taid_vlm.models.assemble import build_student
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.repeated import language_layers, repeated_layers
from taid_vlm.models.student import Student, count_parameters
from taid_vlm.planning.units import units_of
from tests.tiny.native import tiny_native
from tests.tiny.recipes import tiny_recipe


@pytest.fixture
def student(language_model: Path, easy_vqa: Path) -> Student:
    spec = tiny_recipe(language_model, easy_vqa).student.model_dump()
    spec["vision_encoder"] |= {"name": "test_vit", "image_size": 160}
    return build_student(type(tiny_recipe(language_model, easy_vqa).student).model_validate(spec))[0]


def check(model: Student | NativeModel) -> None:
    cut = units_of(model)
    assert [layer.parameters for layer in cut.layers] == [count_parameters(m) for m in repeated_layers(model)]
    assert cut.parameters == count_parameters(model)
    assert cut.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert cut.bytes == sum(p.nbytes for p in model.parameters())
    inside = {id(p) for layer in repeated_layers(model) for p in layer.parameters()}
    assert cut.names == {name for name, p in model.named_parameters() if id(p) in inside}
    words = {id(p) for layer in language_layers(model) for p in layer.parameters()}
    assert cut.decoder == sum(p.nbytes for p in model.parameters() if id(p) in words) > 0
    assert cut.head == model.head.weight.nbytes <= cut.root.bytes


@pytest.mark.parametrize("family", ["internvl", "qwen2_vl", "smolvlm"])
def test_of_a_stock_teacher(family: str) -> None:
    check(NativeModel(tiny_native(family).to(torch.bfloat16)).requires_grad_(False))


def test_of_a_student(student: Student) -> None:
    check(student)


def test_a_frozen_encoder_runs_forward_alone_and_a_cached_one_not_at_all(student: Student) -> None:
    online, cached = units_of(student), units_of(student, cached_features=True)
    eyes = [(layer.forward, layer.backward) for layer in online.layers if not layer.language]
    assert eyes
    assert set(eyes) == {(True, False)}
    assert {(layer.forward, layer.backward) for layer in online.layers if layer.language} == {(True, True)}
    assert not any(layer.forward for layer in cached.layers if not layer.language)


def test_embeddings_that_are_tied_to_the_head_are_none_of_their_own(student: Student) -> None:
    tied = student.language_model.get_input_embeddings().weight is student.head.weight  # type: ignore[operator]
    assert (units_of(student).embeddings == 0) == tied
