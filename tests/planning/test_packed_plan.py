"""A packed batch is planned as it is trained: its rows, its mask, and what it refuses."""

from pathlib import Path

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import LossSpec, distillation_loss
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import ModelInputs
from taid_vlm.planning import make_plan
from taid_vlm.planning.fake import BatchShape
from taid_vlm.planning.loss_memory import loss_buffers
from taid_vlm.planning.models import build_models
from taid_vlm.planning.samples import largest_step, sample_records
from taid_vlm.planning.trace import trace_training
from taid_vlm.planning.tracker import LiveStorages
from taid_vlm.recipe import Recipe
from tests.tiny.language_model import save_tiny_language_model
from tests.tiny.recipes import tiny_recipe

SHAPE = BatchShape(sequences=2, length=512, rows=40, tiles=4, image_tokens=16, packed=True)


def recipe(language_model: Path, easy_vqa: Path, batching: str = "packed") -> Recipe:
    data = {"train": [{"kind": "easy_vqa", "path": str(easy_vqa)}], "batching": batching, "max_length": 256}
    return tiny_recipe(language_model, easy_vqa, data=data)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_planned_peak_is_that_of_real_tensors(language_model: Path, easy_vqa: Path, attention: str) -> None:
    spec = recipe(language_model, easy_vqa).student
    real, empty = (build_student(spec, load_weights=loads)[0] for loads in (True, False))
    for student in (real, empty):
        student.language_model.set_attn_implementation(attention)  # type: ignore[operator]
    vocabulary, width = real.head.weight.shape
    sft = LossSpec.of("sft")
    loss = loss_buffers(SHAPE.rows, (vocabulary, width), None, vocabulary, sft, chunk_mb=None, bf16=False, on_gpu=False)
    planned = trace_training(empty, SHAPE, loss, bf16=False, cached_features=False, micro_batches=1).peak
    real.train()
    tracker = LiveStorages()
    tracker.hold([*real.parameters(), *real.buffers()], "weights")
    ids = torch.full((SHAPE.sequences, SHAPE.length), 5)
    ids[:, 1:9] = real.image_token_id or 0
    positions = torch.arange(SHAPE.length).remainder(100).expand_as(ids)
    with tracker:
        inputs = ModelInputs(
            ids.clone(),
            torch.ones_like(ids),
            torch.arange(SHAPE.rows),
            torch.zeros(SHAPE.tiles, 3, 64, 64),
            position_ids=positions.clone(),
        )
        labels = torch.full((SHAPE.rows,), 5)
        distillation_loss(real.hidden(inputs), real.head.weight, labels, spec=sft).loss.backward()
    assert planned == pytest.approx(tracker.peak, rel=0.05)


def test_the_largest_batch_has_the_rows_of_the_packed_one(language_model: Path, easy_vqa: Path) -> None:
    shapes = {}
    for batching in ("padded", "packed"):
        wanted = recipe(language_model, easy_vqa, batching)
        models = build_models(wanted, LossSpec.of("sft"))
        shapes[batching] = largest_step(wanted, sample_records(wanted, models), models, 1, 4)[0]
    padded, packed = shapes["padded"], shapes["packed"]
    assert (padded.sequences, padded.packed, packed.packed) == (4, False, True)
    assert packed.sequences == -(-4 // (256 // padded.length))
    assert packed.length <= 256
    assert packed.sequences * packed.length <= padded.sequences * padded.length
    assert (packed.rows, packed.tiles, packed.image_tokens) == (padded.rows, padded.tiles, padded.image_tokens)


def test_a_language_model_that_cannot_be_packed_is_refused(tmp_path: Path, easy_vqa: Path) -> None:
    folder = save_tiny_language_model(tmp_path / "lfm2", "lfm2", layers=4)
    with pytest.raises(UserError, match="family 'lfm2' cannot be packed"):
        make_plan(recipe(folder, easy_vqa), process=0)
