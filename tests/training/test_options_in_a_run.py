"""Options in the loop: a checkpointed run logs and ends in the bits of a plain one, and a run with all of them can be cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taid_vlm.training import loop, train, update
from tests.tiny.recipes import distil, logged_steps

TRAINING = {"steps": 6, "batch_size": 4, "micro_batch_size": 2, "lr": 5e-3, "checkpoint_every": 2, "trackers": []}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradient_checkpointing_changes_no_bit(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, precision: str
) -> None:
    for name, option in (("plain", False), ("checkpointed", True)):
        training = {**TRAINING, "steps": 3, "precision": precision, "gradient_checkpointing": option}
        train(distil(language_model, easy_vqa, teacher, training=training), tmp_path / name)
    plain, checkpointed = tmp_path / "plain", tmp_path / "checkpointed"
    assert (plain / "metrics.jsonl").read_text() == (checkpointed / "metrics.jsonl").read_text()
    weights = [(run / "student" / "model.safetensors").read_bytes() for run in (plain, checkpointed)]
    assert weights[0] == weights[1]


def test_a_run_with_a_scale_and_an_average_is_cut_and_ends_in_the_same_bits(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {**TRAINING, "precision": "fp16", "ema": 0.9, "gradient_checkpointing": True}
    recipe = distil(language_model, easy_vqa, teacher, training=training)
    train(recipe, tmp_path / "whole")
    step = loop._Run._step

    def dies_at_5(run: Any, batches: Any) -> None:
        if run.progress.step == 4:
            raise KeyboardInterrupt
        step(run, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_step", dies_at_5)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut")
    train(recipe, tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    found = {}
    for name in ("student", "student-ema"):
        files = [tmp_path / run / name / "model.safetensors" for run in ("cut", "whole")]
        assert files[0].read_bytes() == files[1].read_bytes()
        found[name] = load_file(files[0])
    assert any(not torch.equal(value, found["student-ema"][name]) for name, value in found["student"].items())
    assert all("loss_scale" in figures for figures in logged_steps(tmp_path / "whole"))


def test_overflowing_steps_are_counted_and_leave_t_alone(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = update.Update._forward_backward

    def overflows(step: Any, batch: Any, rows: float) -> Any:
        figures = backward(step, batch, rows)
        if step.state.progress.step in (1, 2):
            next(p for p in step._learning() if p.grad is not None).grad.fill_(torch.inf)
        return figures

    training = {**TRAINING, "steps": 5, "precision": "fp16", "max_skipped": 1}
    monkeypatch.setattr(update.Update, "_forward_backward", overflows)
    recipe = distil(
        language_model,
        easy_vqa,
        teacher,
        training=training,
        loss={"name": "taid", "schedule": "linear", "t_start": 0.1},
    )
    train(recipe, tmp_path / "run")
    steps = logged_steps(tmp_path / "run")
    assert [figures["overflowed"] for figures in steps] == [0, 1, 2, 2, 2]
    assert [figures["loss_scale"] for figures in steps] == [2.0**16, 2.0**15, 2.0**14, 2.0**14, 2.0**14]
    # t of a step is that before it: two steps did not move it.
    assert steps[1]["t"] == steps[2]["t"] == steps[3]["t"] < steps[4]["t"]
