"""Checkpoints: everything comes back to the bit, old ones go, damaged and foreign ones are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import trained_state
from taid_vlm.training.checkpoint import Progress, Trained, complete_checkpoints, load_checkpoint, save_checkpoint
from taid_vlm.training.distribution import Distribution
from tests.tiny.language_model import tiny_llama


@pytest.fixture
def alone() -> Distribution:
    return Distribution(Accelerator(cpu=True))


def parts(seed: int = 0, layers: int = 1) -> Trained:
    student = Student(tiny_llama(layers=layers, seed=seed))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return Trained(student, optimizer, schedule, TAIDClock(100))


def work(trained: Trained, steps: int) -> None:
    student, optimizer, schedule, clock = trained.student, trained.optimizer, trained.schedule, trained.clock
    for _ in range(steps):
        ids = torch.randint(4, 200, (2, 8))
        loss = student.language_model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        clock.update(float(loss.detach()), clock.updates)


def test_going_on_equals_never_having_stopped(tmp_path: Path, alone: Distribution) -> None:
    torch.manual_seed(1)
    whole = parts()
    work(whole, steps=3)
    save_checkpoint(
        tmp_path, whole, Progress(step=3, dropped={"other": 2}, log_bytes=7), keep_last=2, distribution=alone
    )
    work(whole, steps=3)
    torch.manual_seed(999)
    again = parts(seed=5)
    (saved,) = complete_checkpoints(tmp_path)
    assert load_checkpoint(saved, again, alone) == Progress(step=3, dropped={"other": 2}, log_bytes=7)
    work(again, steps=3)
    for name, tensor in trained_state(whole.student).items():
        assert torch.equal(tensor, trained_state(again.student)[name]), name
    assert whole.clock.state_dict() == again.clock.state_dict()
    assert whole.schedule.get_last_lr() == again.schedule.get_last_lr()


def test_only_the_last_are_kept_in_the_order_of_steps(tmp_path: Path, alone: Distribution) -> None:
    things = parts()
    for step in (2, 9, 10):
        save_checkpoint(tmp_path, things, Progress(step=step), keep_last=2, distribution=alone)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000009", "step-000010"]


def test_a_half_written_one_does_not_count(
    tmp_path: Path, alone: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = parts()
    save_checkpoint(tmp_path, things, Progress(step=1), keep_last=2, distribution=alone)

    def dies(*arguments: Any) -> None:
        arguments[1].write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, things, Progress(step=2), keep_last=2, distribution=alone)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-000001"]
    save_checkpoint(tmp_path, things, Progress(step=2), keep_last=2, distribution=alone)
    assert len(complete_checkpoints(tmp_path)) == 2


def test_a_damaged_one_is_named(tmp_path: Path, alone: Distribution) -> None:
    things = parts()
    save_checkpoint(tmp_path, things, Progress(step=1), keep_last=2, distribution=alone)
    file = tmp_path / "step-000001" / "state.pt"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-000001 cannot be read.*delete it"):
        load_checkpoint(tmp_path / "step-000001", things, alone)


def test_one_of_another_student_is_refused(tmp_path: Path, alone: Distribution) -> None:
    save_checkpoint(tmp_path, parts(), Progress(step=1), keep_last=2, distribution=alone)
    with pytest.raises(UserError, match="another student"):
        load_checkpoint(tmp_path / "step-000001", parts(layers=2), alone)
