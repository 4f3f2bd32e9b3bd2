"""What the TAID authors' code gives for fixed inputs, recorded, and those inputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = json.loads((Path(__file__).parent.parent / "data" / "loss_cases.json").read_text())["losses"]


def golden_inputs(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """``student`` and ``teacher`` [B, L, V], ``mask`` and ``labels`` [B, L]."""
    spec = case["inputs"]
    rng = np.random.default_rng(spec["seed"])
    shape = (spec["batch"], spec["seq"], spec["vocab"])
    student = (rng.standard_normal(shape) * spec["scale_student"]).astype(np.float32)
    teacher = (rng.standard_normal(shape) * spec["scale_teacher"]).astype(np.float32)
    mask = rng.random(shape[:2]) < spec["mask_p"]
    mask[0, 0] = True
    labels = rng.integers(0, spec["vocab"], shape[:2])
    arrays = {"student": student, "teacher": teacher, "mask": mask, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
