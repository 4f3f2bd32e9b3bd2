"""What a run needs to go on to the same bits: weights, optimizer, schedules, TAID clock, random state, position."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space
from taid_vlm.losses import TAIDClock
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import trained_state

FILE = "state.pt"


@dataclass
class Progress:
    """Position of a run: optimizer steps done and what was counted so far."""

    step: int = 0
    dropped: int = 0
    skipped_in_a_row: int = 0
    log_bytes: int = 0


def save_checkpoint(
    folder: Path,
    student: Student,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    clock: TAIDClock,
    progress: Progress,
    keep_last: int,
    temperature: nn.Module | None = None,
) -> None:
    """Write ``<folder>/step-NNNNNN`` at once and remove older ones beyond ``keep_last``.

    Only what training changes is stored; the others come from where the recipe says.

    Raises:
        UserError: no space left; earlier checkpoints are intact.
    """
    weights = {name: tensor.detach() for name, tensor in trained_state(student).items()}
    state = {
        "weights": weights,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "clock": clock.state_dict(),
        "temperature": None if temperature is None else temperature.state_dict(),
        "progress": vars(progress),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    require_space(folder, 4 * sum(t.nbytes for t in weights.values()), "a checkpoint")
    with new_folder(folder / f"step-{progress.step:06d}") as temporary:
        torch.save(state, temporary / FILE)
    for old in complete_checkpoints(folder)[:-keep_last]:
        shutil.rmtree(old)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first; half-written ones have another name."""
    found = [path for path in folder.glob("step-*") if (path / FILE).is_file() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def load_checkpoint(
    path: Path,
    student: Student,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    clock: TAIDClock,
    temperature: nn.Module | None = None,
) -> Progress:
    """Put everything back as it was.

    Raises:
        UserError: damaged, or of another student.
    """
    try:
        state = torch.load(path / FILE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"the checkpoint {path} cannot be read ({error}); delete it to go on from the one before"
        ) from error
    own = trained_state(student)
    if set(own) != set(state["weights"]):
        raise UserError(f"the checkpoint {path} belongs to another student: other parameters were trained")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    clock.load_state_dict(state["clock"])
    if temperature is not None:
        temperature.load_state_dict(state["temperature"])
    torch.set_rng_state(state["torch_rng"])
    if state["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return Progress(**state["progress"])
