"""Training on fake tensors against training on real ones: the same storages live, the same peak."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from taid_vlm.losses import LossSpec, distillation_loss
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import ModelInputs, Student
from taid_vlm.planning.fake import BatchShape
from taid_vlm.planning.loss_memory import loss_buffers
from taid_vlm.planning.trace import Trace, trace_training
from taid_vlm.planning.tracker import LiveStorages
from tests.tiny.recipes import tiny_recipe

SHAPE = BatchShape(sequences=4, length=96, rows=40, tiles=4, image_tokens=16)
MODES = {
    "all": {"vision_encoder": {"mode": "full"}},
    "frozen encoder": {},
    "lora": {"language_model": {"mode": "lora", "embeddings": "frozen"}},
    "projector alone": {"language_model": {"mode": "frozen"}},
}


def real_peak(student: Student, bf16: bool, micro_batches: int) -> int:
    """The same counter around the real forward, loss and backward."""
    student.train()
    tracker = LiveStorages()
    tracker.hold([*student.parameters(), *student.buffers()], "weights")
    ids = torch.full((SHAPE.sequences, SHAPE.length), 5)
    ids[:, 1 : 1 + SHAPE.image_tokens // SHAPE.tiles] = student.image_token_id
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    rows = torch.arange(SHAPE.rows)
    for _ in range(micro_batches):
        with tracker:
            inputs = ModelInputs(ids.clone(), mask.clone(), rows.clone(), torch.zeros(SHAPE.tiles, 3, 64, 64))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                out = distillation_loss(
                    student.hidden(inputs), student.head.weight, torch.full((SHAPE.rows,), 5), spec=LossSpec.of("sft")
                )
            out.loss.backward()
            del out, inputs
    return tracker.peak


def planned(student: Student, bf16: bool, micro_batches: int) -> Trace:
    vocabulary, width = student.head.weight.shape
    loss = loss_buffers(
        SHAPE.rows,
        (vocabulary, width),
        None,
        vocabulary,
        LossSpec.of("sft"),
        chunk_mb=None,
        bf16=bf16,
        on_gpu=False,
    )
    return trace_training(student, SHAPE, loss, bf16=bf16, cached_features=False, micro_batches=micro_batches)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_planned_peak_is_that_of_real_tensors(language_model: Path, easy_vqa: Path, mode: str, bf16: bool) -> None:
    spec = tiny_recipe(language_model, easy_vqa).student.model_dump()
    spec["train"] = MODES[mode]
    spec = type(tiny_recipe(language_model, easy_vqa).student).model_validate(spec)
    real, _ = build_student(spec)
    empty, _ = build_student(spec, load_weights=False)
    micro_batches = 2
    expected = real_peak(real, bf16, micro_batches)
    assert planned(empty, bf16, micro_batches).peak == pytest.approx(expected, rel=0.05)


def test_a_second_micro_batch_finds_gradients(language_model: Path, easy_vqa: Path) -> None:
    spec = tiny_recipe(language_model, easy_vqa).student
    peaks = [planned(build_student(spec, load_weights=False)[0], False, n).peak for n in (1, 2, 8)]
    assert peaks[0] <= peaks[1] == peaks[2]


def test_no_memory_is_taken(language_model: Path, easy_vqa: Path) -> None:
    student, _ = build_student(tiny_recipe(language_model, easy_vqa).student, load_weights=False)
    assert all(p.is_meta for p in student.parameters())
    huge = BatchShape(sequences=1000, length=512, rows=100_000)
    vocabulary, width = student.head.weight.shape
    loss = loss_buffers(
        huge.rows, (vocabulary, width), None, vocabulary, LossSpec.of("sft"), chunk_mb=None, bf16=False, on_gpu=True
    )
    trace = trace_training(student, huge, loss, bf16=False, cached_features=True, micro_batches=1)
    assert trace.peak > 2**30
    assert isinstance(student.head.weight, Tensor)
