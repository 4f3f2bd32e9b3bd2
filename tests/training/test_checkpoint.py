"""Checkpoints: everything comes back to the bit, old ones go, damaged and foreign ones are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import trained_state
from taid_vlm.training.checkpoint import Progress, complete_checkpoints, load_checkpoint, save_checkpoint
from tests.tiny.language_model import tiny_llama


def parts(seed: int = 0, layers: int = 1) -> tuple[Student, torch.optim.Optimizer, Any, TAIDClock]:
    student = Student(tiny_llama(layers=layers, seed=seed))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return student, optimizer, schedule, TAIDClock(100)


def work(student: Student, optimizer: torch.optim.Optimizer, schedule: Any, clock: TAIDClock, steps: int) -> None:
    for _ in range(steps):
        ids = torch.randint(4, 200, (2, 8))
        loss = student.language_model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        clock.update(float(loss.detach()), clock.updates)


def test_going_on_equals_never_having_stopped(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = parts()
    work(*whole, steps=3)
    save_checkpoint(tmp_path, *whole, Progress(step=3, dropped=2, log_bytes=7), keep_last=2)
    work(*whole, steps=3)
    torch.manual_seed(999)
    again = parts(seed=5)
    (saved,) = complete_checkpoints(tmp_path)
    assert load_checkpoint(saved, *again) == Progress(step=3, dropped=2, log_bytes=7)
    work(*again, steps=3)
    for name, tensor in trained_state(whole[0]).items():
        assert torch.equal(tensor, trained_state(again[0])[name]), name
    assert whole[3].state_dict() == again[3].state_dict()
    assert whole[2].get_last_lr() == again[2].get_last_lr()


def test_only_the_last_are_kept_in_the_order_of_steps(tmp_path: Path) -> None:
    things = parts()
    for step in (2, 9, 10):
        save_checkpoint(tmp_path, *things, Progress(step=step), keep_last=2)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000009", "step-000010"]


def test_a_half_written_one_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    things = parts()
    save_checkpoint(tmp_path, *things, Progress(step=1), keep_last=2)

    def dies(*arguments: Any) -> None:
        arguments[1].write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, *things, Progress(step=2), keep_last=2)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000001"]
    save_checkpoint(tmp_path, *things, Progress(step=2), keep_last=2)
    assert len(complete_checkpoints(tmp_path)) == 2


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    things = parts()
    save_checkpoint(tmp_path, *things, Progress(step=1), keep_last=2)
    file = tmp_path / "step-000001" / "state.pt"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-000001 cannot be read.*delete it"):
        load_checkpoint(tmp_path / "step-000001", *things)


def test_one_of_another_student_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *parts(), Progress(step=1), keep_last=2)
    with pytest.raises(UserError, match="another student"):
        load_checkpoint(tmp_path / "step-000001", *parts(layers=2))
