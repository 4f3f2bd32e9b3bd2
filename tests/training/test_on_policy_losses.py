"""What teacher and student make of an answer that the student wrote, and the loss of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.data import Record, open_image
from taid_vlm.models.student import ModelInputs, Student
from taid_vlm.training.step import DistillationStep, loss_of
from tests.training.on_policy_cases import (
    CPU,
    answers,
    batches_of,
    changed,
    on_policy_of,
    recipe_for,
    setup_of,
    written_rows,
)
from tests.training.test_native_teacher import recipe_for as native_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("on-policy")


@pytest.mark.parametrize("changes", [{}, {"data": {"cache_image_features": False}}])
def test_what_the_models_see_of_a_new_answer(folder: Path, language_model: Path, changes: dict[str, Any]) -> None:
    """The loss of a replaced batch is that of the two models run on each question and answer alone, by hand."""
    recipe = recipe_for(folder, language_model, **changes)
    setup = setup_of(recipe)
    assert setup.teacher is not None
    assert isinstance(setup.teacher.model, Student)
    with torch.no_grad():  # random models all say about the same
        for seed, model in enumerate((setup.student, setup.teacher.model)):
            model.head.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
    own = on_policy_of(recipe, setup)
    module = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss)
    dealt = own.replaced(batches_of(setup, own, 1), 1)
    found = sum(float(loss_of(setup, module, batch, CPU, 1.0).loss.detach()) for batch in dealt)
    labels, expected = answers(dealt), 0.0
    assert any(record.images for record in setup.train.records if record.id in labels)
    for record in setup.train.records:
        if record.id not in labels:
            continue
        ids = labels[record.id]
        logits = []
        for model, processor in ((setup.student, setup.processor), (setup.teacher.model, setup.teacher.processor)):
            prompt = processor.render(record.messages[:-1], add_generation_prompt=True).ids
            logits.append(alone(model, processor, record, prompt, ids)[:, :260].log_softmax(-1))
        expected += float((logits[1].exp() * (logits[1] - logits[0])).sum())
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 1


@torch.no_grad()
def alone(model: Any, processor: Any, record: Record, prompt: list[int], ids: list[int]) -> torch.Tensor:
    """Logits before each token of an answer."""
    text = torch.tensor([[*prompt, *ids[:-1]]])
    rows = torch.arange(len(prompt) - 1, len(prompt) + len(ids) - 1)
    pixels = processor.pixel_values([open_image(p) for p in record.images]) if record.images else None
    model.eval()
    logits: torch.Tensor = model(ModelInputs(text, torch.ones_like(text), rows, pixels))
    return logits


@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl", "smolvlm"])
def test_a_stock_teacher_reads_the_same_answers(tmp_path: Path, easy_vqa: Path, family: str) -> None:
    recipe = native_recipe(
        tmp_path, family, easy_vqa, on_policy={"sampler": "mixed", "share": 1.0, "max_new_tokens": 6}
    )
    setup = setup_of(recipe)
    own = on_policy_of(recipe, setup)
    module = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss)
    (batch,) = own.replaced(batches_of(setup, own, 0), 0)
    assert own.counts["written"] >= 3
    assert batch.teacher is not None
    assert batch.teacher.input_ids.shape[1] != batch.student.input_ids.shape[1]
    for side in (batch.student, batch.teacher):
        following = side.input_ids.flatten()[side.rows + 1]
        # The last token of an answer may be one that a model cannot read; then it reads its end.
        end = setup.processor.end_of_turn_id
        assert all(one in (label, end) for one, label in zip(following.tolist(), batch.labels.tolist(), strict=True))
    out = loss_of(setup, module, batch, CPU, 1.0)
    assert torch.isfinite(out.loss)
    assert out.rows == len(batch.labels) > 4


def test_rows_of_the_student_are_marked_for_the_loss_in_padded_and_packed_rows(
    folder: Path, language_model: Path
) -> None:
    losses, loss = {}, {"name": "distillm2", "options": {"student_weight": 1.5}}
    for batching in ("padded", "packed"):
        recipe = recipe_for(folder, language_model, loss=loss, data={"batching": batching})
        recipe = changed(recipe, draw="sample", share=0.5)
        setup = setup_of(recipe)
        own = on_policy_of(recipe, setup)
        module = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss)
        seen = [own.replaced(batches_of(setup, own, step), step)[0] for step in range(3)]
        assert 0 < sum(int(written_rows(batch).sum()) for batch in seen) < sum(len(batch.labels) for batch in seen)
        losses[batching] = [float(loss_of(setup, module, batch, CPU, 1.0).loss.detach()) for batch in seen]
        if batching == "packed":
            assert any(batch.student.position_ids is not None for batch in seen)
        unmarked = [
            float(loss_of(setup, module, replace(batch, student_written=None), CPU, 1.0).loss.detach())
            for batch in seen
        ]
        assert losses[batching] != pytest.approx(unmarked, rel=0.05)
    assert losses["padded"] == pytest.approx(losses["packed"], rel=1e-3)
