"""The teacher's head, kept once beside its hidden states, so that training from a complete cache needs no teacher."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from taid_vlm.models.logit_scaling import LogitScaling
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.cache.shards import damaged, verify, write_named

PREFIX = "head-"


def head_file(folder: Path) -> Path | None:
    """Where it is, if it is there."""
    return next(iter(sorted(folder.glob(f"{PREFIX}*.safetensors"))), None)


def write_head(folder: Path, teacher: Teacher) -> None:
    """Weight, bias and what is done to the logits; nothing to do where it is there."""
    if head_file(folder) is not None:
        return
    tensors = {"weight": teacher.head_weight.detach().cpu()}
    if teacher.head_bias is not None:
        tensors["bias"] = teacher.head_bias.detach().cpu()
    scaling = teacher.model.logit_scaling
    about = {"scale": scaling.scale, "softcap": scaling.softcap}
    # A copy: a view (tied or memory-mapped weights) may be part of a larger storage.
    write_named(
        folder, {name: tensor.clone() for name, tensor in tensors.items()}, PREFIX, {"scaling": json.dumps(about)}
    )


def give_head(folder: Path, teacher: Teacher, device: torch.device) -> None:
    """Put the stored head into a teacher without weights, and drop the rest of it.

    Raises:
        UserError: the file is damaged.
    """
    file = head_file(folder)
    assert file is not None
    verify(file, file.stem.removeprefix(PREFIX))
    try:
        with safe_open(file, framework="pt") as stored:
            scaling = LogitScaling(**json.loads(stored.metadata()["scaling"]))
            tensors = {name: stored.get_tensor(name).to(device) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, error) from error
    teacher.keep_head()
    head = teacher.model.head
    head.weight = nn.Parameter(tensors["weight"], requires_grad=False)
    if "bias" in tensors:
        head.bias = nn.Parameter(tensors["bias"], requires_grad=False)
    teacher.model.logit_scaling = scaling
