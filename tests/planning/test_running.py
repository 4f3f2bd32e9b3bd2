"""Checkpointed and offloaded layers on fake tensors against training's own on real ones."""

from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.losses import LossSpec
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import Student
from taid_vlm.planning import running as planned_running
from taid_vlm.planning.fake import BatchShape
from taid_vlm.planning.loss_memory import loss_buffers
from taid_vlm.planning.running import Running, trained_layers
from taid_vlm.planning.trace import Trace, trace_training
from taid_vlm.planning.units import units_of
from taid_vlm.training import layer_options
from tests.planning.test_trace import SHAPE, real_peak
from tests.tiny.language_model import save_tiny_llama
from tests.tiny.recipes import tiny_recipe

LONG = BatchShape(sequences=4, length=512, rows=40)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    return save_tiny_llama(tmp_path / "deep", layers=8, hidden=64)


def build(language_model: Path, easy_vqa: Path, weights: bool) -> Student:
    spec = tiny_recipe(language_model, easy_vqa).student.model_dump()
    spec["language_model"]["layers"] = None
    made = type(tiny_recipe(language_model, easy_vqa).student).model_validate(spec)
    return build_student(made, load_weights=weights)[0]


def traced(student: Student, running: Running, shape: BatchShape = SHAPE, bf16: bool = False) -> Trace:
    vocabulary, width = student.head.weight.shape
    head = (vocabulary, width)
    loss = loss_buffers(shape.rows, head, None, vocabulary, LossSpec.of("sft"), chunk_mb=None, bf16=bf16, on_gpu=False)
    return trace_training(
        student, shape, loss, bf16=bf16, cached_features=shape.tiles == 0, micro_batches=2, running=running
    )


def test_the_planned_peak_of_checkpointed_layers_is_that_of_real_ones(deep: Path, easy_vqa: Path) -> None:
    real, empty = (build(deep, easy_vqa, weights) for weights in (True, False))
    plain = traced(empty, Running()).peak
    for layer in layer_options.language_layers(real):
        layer.forward = layer_options.checkpointed(layer.forward)
    planned = traced(empty, Running(checkpointing=True))
    assert planned.peak == pytest.approx(real_peak(real, False, 2), rel=0.05)
    assert planned.peak < 0.8 * plain


def test_layers_run_again_and_are_then_as_before(deep: Path, easy_vqa: Path) -> None:
    student = build(deep, easy_vqa, False)
    before = traced(student, Running())
    kept = traced(student, Running(checkpointing=True, offload=True, half=frozenset(units_of(student).names)))
    assert 1.1 * before.flops < kept.flops < 4 / 3 * before.flops  # at most one forward more
    assert traced(student, Running()) == before
    assert {p.dtype for p in student.parameters()} == {torch.float32}


def test_offloaded_activations_are_elsewhere(deep: Path, easy_vqa: Path) -> None:
    student = build(deep, easy_vqa, False)
    plain, away = (traced(student, Running(offload=offload), LONG) for offload in (False, True))
    assert plain.away == 0
    assert away.away > 0.3 * plain.of("activations")
    assert away.of("activations") < plain.of("activations") - 0.5 * away.away
    assert planned_running.SMALL == layer_options.SMALL


def test_gathered_layers_in_half_precision_need_no_copies(deep: Path, easy_vqa: Path) -> None:
    student = build(deep, easy_vqa, False)
    names = units_of(student).names
    plain = traced(student, Running(), LONG, bf16=True)
    half = traced(student, Running(half=names, leaving=names), LONG, bf16=True)
    layers = sum(p.numel() for name, p in student.named_parameters() if name in names)
    assert plain.of("activations") - half.of("activations") == pytest.approx(2 * layers, rel=0.1)
    left = 4 * sum(p.numel() for name, p in student.named_parameters() if p.requires_grad and name not in names)
    assert half.of("gradients") <= left


def test_the_layers_are_those_of_training(language_model: Path, easy_vqa: Path) -> None:
    student = build(language_model, easy_vqa, False)
    assert trained_layers(student) == layer_options.language_layers(student)
    assert student.vision_encoder is not None
    next(student.vision_encoder.parameters()).requires_grad_(True)
    eyes: list[Any] = [v for v in layer_options.vision_layers(student) if not layer_options.learns_statistics(v)]
    assert trained_layers(student) == [*layer_options.language_layers(student), *eyes]
