"""One placement after its name in the recipe."""

from collections.abc import Callable

import torch

from taid_vlm.models.casts import cast_layers
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training.placement.in_step import InStep
from taid_vlm.training.placement.offload import offload_layers
from taid_vlm.training.placement.quantized import quantize_layers
from taid_vlm.training.placement.sharded import shard_teacher

Say = Callable[[str], None]


def place_teacher(
    teacher: Teacher, spec: TeacherSpec, device: torch.device, say: Say, dtype: torch.dtype = torch.float32
) -> None:
    """Put the weights where the recipe wants them, in place, and say what follows from it.

    Args:
        dtype: of the run's autocast; a copied teacher's layers are kept in it.

    A teacher that is to be sharded stays where it is: what looks at its weights or runs parts of it comes first, and
    then :func:`share_teacher`.

    Raises:
        UserError: a missing package, or a model that cannot be placed so.
    """
    if spec.placement == "sharded":
        return
    if spec.placement == "offload":
        if device.type != "cpu":
            offload_layers(teacher.model, device)
            return
        say("note: teacher.placement: offload does nothing on a CPU: there is no accelerator to bring layers to")
    if spec.quantization is not None:
        quantize_layers(teacher, spec.quantization, device)
        say(
            f"note: the teacher's layers are in {spec.quantization}: its hidden states are approximate, and so is every figure that is "
            f"taken against it. Its embeddings, head and vision encoder are not quantized"
        )
    if spec.placement == "replicated" and dtype != torch.float32:
        cast_layers(teacher.model, dtype)
    teacher.model.to(device)


def share_teacher(
    teacher: Teacher, spec: TeacherSpec, device: torch.device, world: int, say: Say, *, looks: bool
) -> None:
    """Shard a teacher that the recipe wants sharded over all processes, in place; others are left as they are.

    Args:
        looks: whether it is given pictures, rather than features of them.

    Afterwards all processes must ask it equally often; see :class:`InStep`.
    """
    if spec.placement != "sharded":
        return
    if world == 1:
        say("note: teacher.placement: sharded does nothing on one process: there is no other to share it with")
        teacher.model.to(device)
        return
    shard_teacher(teacher.model, device, world)
    if isinstance(teacher.model, Student):
        teacher.model.in_shards = True
    teacher.complete = InStep(teacher, device, looks)
