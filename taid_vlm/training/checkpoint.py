"""What a run needs to go on to the same bits: weights, optimizer, schedules, TAID clock, random states, position.

A checkpoint is one file of whole tensors, however the student is spread, so that another number of processes can go on
from it; to the same bits goes the same number.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from torch import nn

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space
from taid_vlm.losses import TAIDClock
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import trained_state
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.sharding import shard_optimizer_state
from taid_vlm.training.zero_state import ZeroOptimizer, fill

FILE = "state.pt"


@dataclass
class Progress:
    """Position of a run: optimizer steps done and what was counted so far.

    Attributes:
        dropped: samples that were left out of their steps, by reason.
        evaluated: the last step after which the student was measured on tasks.
        best: the best value so far of the figure that decides which student is kept, and ``best_step`` its step.
        figures: the held-out ones of the student that would be saved.
    """

    step: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    skipped_in_a_row: int = 0
    log_bytes: int = 0
    evaluated: int = 0
    best: float | None = None
    best_step: int | None = None
    figures: dict[str, float] = field(default_factory=dict)

    def dropped_by_reason(self) -> str:
        """``dropped``, for people."""
        return ", ".join(f"{reason} {count}" for reason, count in self.dropped.items())


class Stateful(Protocol):
    """Something with a state of tensors and plain values."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Put it back."""
        ...


@dataclass
class Trained:
    """All that training changes.

    Attributes:
        shared: further states by name, the same on all processes (their tensors may be sharded).
        own: further states by name, of each process its own.
    """

    student: Student
    optimizer: torch.optim.Optimizer | ZeroOptimizer
    schedule: Any
    clock: TAIDClock
    temperature: nn.Module | None = None
    shared: Mapping[str, Stateful] = field(default_factory=dict)
    own: Mapping[str, Stateful] = field(default_factory=dict)


def save_checkpoint(
    folder: Path, trained: Trained, progress: Progress, keep_last: int, distribution: Distribution
) -> None:
    """Write ``<folder>/step-NNNNNN`` at once and remove older ones beyond ``keep_last``, but for the best.

    Only what training changes is stored; the others come from where the recipe says. All processes must call it.

    Raises:
        UserError: no space left; earlier checkpoints are intact.
    """
    distribution.share_buffers(trained.student)
    temperature = trained.temperature
    state = distribution.whole(
        {
            "weights": trained_state(trained.student),
            "temperature": None if temperature is None else dict(temperature.named_parameters()),
            "optimizer": trained.optimizer.state_dict(),
            "shared": {name: part.state_dict() for name, part in trained.shared.items()},
        }
    )
    own = distribution.gather({"random": _random_state(), **{n: p.state_dict() for n, p in trained.own.items()}})
    if not distribution.main:
        return
    state |= {
        "schedule": trained.schedule.state_dict(),
        "clock": trained.clock.state_dict(),
        "progress": vars(progress),
        "processes": own,
    }
    require_space(folder, 4 * sum(t.nbytes for t in state["weights"].values()), "a checkpoint")
    with new_folder(folder / f"step-{progress.step:06d}") as temporary:
        torch.save(state, temporary / FILE)
    kept = {folder / f"step-{progress.best_step:06d}"} if progress.best_step is not None else set()
    for old in complete_checkpoints(folder)[:-keep_last]:
        if old not in kept:
            shutil.rmtree(old)


def remove_leftovers(folder: Path) -> None:
    """Half-written checkpoints of a run that was killed, which would fill the disk; one process alone may call it."""
    for left in folder.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first; half-written ones have another name."""
    found = [path for path in folder.glob("step-*") if (path / FILE).is_file() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def load_checkpoint(path: Path, trained: Trained, distribution: Distribution) -> Progress:
    """Put everything back as it was. Of another number of processes, further ones take the random state of the first.

    Raises:
        UserError: damaged, or of another student.
    """
    state = _read(path)
    load_weights(path, trained.student, state)
    if isinstance(trained.optimizer, ZeroOptimizer):
        trained.optimizer.load_state_dict(state["optimizer"])
    else:  # its load_state_dict may change the dict that it is given
        trained.optimizer.load_state_dict(shard_optimizer_state(trained.optimizer, state["optimizer"]))
    trained.schedule.load_state_dict(state["schedule"])
    trained.clock.load_state_dict(state["clock"])
    if trained.temperature is not None:
        for name, parameter in trained.temperature.named_parameters():
            fill(parameter, state["temperature"][name])
    for name, part in trained.shared.items():
        part.load_state_dict(state["shared"][name])
    by_rank = state["processes"]
    mine = by_rank[distribution.rank if len(by_rank) == distribution.world else 0]
    for name, part in trained.own.items():
        part.load_state_dict(mine[name])
    _set_random_state(mine["random"])
    return Progress(**state["progress"])


def load_weights(path: Path, student: Student, state: dict[str, Any] | None = None) -> None:
    """The trained weights of a checkpoint alone.

    Raises:
        UserError: damaged, or of another student.
    """
    state = _read(path) if state is None else state
    own = trained_state(student)
    if set(own) != set(state["weights"]):
        raise UserError(f"the checkpoint {path} belongs to another student: other parameters were trained")
    for name, tensor in own.items():
        fill(tensor, state["weights"][name])


def _read(path: Path) -> dict[str, Any]:
    try:
        # Mapped, so that many processes of one machine do not each hold the whole of it.
        state: dict[str, Any] = torch.load(path / FILE, map_location="cpu", weights_only=True, mmap=True)
        _ = state["weights"], state["processes"], state["progress"]
    except Exception as error:  # a damaged one raises many types
        why = "it holds more than tensors and figures, which might be code; it was not run"
        if not isinstance(error, UnpicklingError):
            why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the checkpoint {path} cannot be read ({why}); delete it to go on from the one before"
        ) from error
    return state


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].clone())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].clone())
