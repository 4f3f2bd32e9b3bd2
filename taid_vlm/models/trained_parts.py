"""Which parameters learn: parts frozen, free or with adapters."""

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.lora import adapted_layers, add_lora, linears_of_language_model, linears_of_vision_encoder
from taid_vlm.models.specs import TrainedParts
from taid_vlm.models.student import Student
from taid_vlm.models.vision_encoder import VisionEncoder

PARTS = ("vision_encoder", "projector", "language_model")


def apply_trained_parts(student: Student, parts: TrainedParts) -> None:
    """Freeze, free or adapt each part in place.

    Raises:
        UserError: a LoRA target that a part does not have, or nothing left to train.
    """
    student.requires_grad_(False)
    if student.vision_encoder is not None:
        if parts.vision_encoder.mode == "lora":
            found = linears_of_vision_encoder(student.vision_encoder)
            add_lora(student.vision_encoder, "vision encoder", parts.vision_encoder.lora, found)
        elif parts.vision_encoder.mode == "full":
            for _, parameter in reached_parameters(student.vision_encoder):
                parameter.requires_grad_(True)
    if student.projector is not None:
        student.projector.requires_grad_(parts.projector.mode == "full")
    language_model = student.language_model
    if parts.language_model.mode == "full":
        language_model.requires_grad_(True)
        if parts.language_model.embeddings == "frozen":
            language_model.get_input_embeddings().requires_grad_(False)  # type: ignore[operator]
    elif parts.language_model.mode == "lora":
        found = linears_of_language_model(language_model)
        add_lora(language_model, "language model", parts.language_model.lora, found)
    if not any(p.requires_grad for p in student.parameters()):
        raise UserError(
            "every part of the student is frozen, so there is nothing to train; set a mode of student.train to full or lora"
        )


def reached_parameters(encoder: VisionEncoder) -> list[tuple[str, nn.Parameter]]:
    """Parameters that the features depend on, by name.

    The others (pooling heads, mask tokens, blocks after the one that is read, CLIP's last norm) would never get a
    gradient, which data-parallel training takes for a mistake or waits for. They are found by sending a black picture
    through. On the meta device, where some towers cannot be run, all are taken for reached then.
    """
    named = list(encoder.named_parameters())
    size, weight, training = encoder.contract.image.size, named[0][1], encoder.training
    learning = [parameter.requires_grad for _, parameter in named]
    try:
        with torch.enable_grad():
            features = encoder.requires_grad_(True).eval()(weight.new_zeros(1, 3, size, size))
            gradients = torch.autograd.grad(features.sum(), [p for _, p in named], allow_unused=True)
    except (RuntimeError, NotImplementedError):
        if not weight.is_meta:
            raise
        return named
    finally:
        encoder.train(training)
        for (_, parameter), learns in zip(named, learning, strict=True):
            parameter.requires_grad_(learns)
    return [one for one, gradient in zip(named, gradients, strict=True) if gradient is not None]


def told_parts(student: Student) -> list[str]:
    """A line for each part: how many of its parameters are trained, and what of a trained encoder is not."""
    lines = []
    for part, (learns, total) in parameters_by_part(student).items():
        line = f"{part}: {learns:,} of {total:,} parameters are trained"
        if part == "vision_encoder" and 0 < learns < total and not adapted_layers(student.vision_encoder):  # type: ignore[arg-type]
            line += f"; the features do not depend on the others ({_unreached(student)})"
        lines.append(line)
    return lines


def _unreached(student: Student) -> str:
    """The modules and parameters of the encoder that are wholly frozen, the outermost of each."""
    found: list[str] = []
    encoder: nn.Module = student.vision_encoder  # type: ignore[assignment]
    for name, module in encoder.named_modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own) and not name.startswith(tuple(f"{f}." for f in found)):
            found.append(name)
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    found += [name for name in frozen if not name.startswith(tuple(f"{f}." for f in found))]
    return ", ".join(found)


def merge_lora(student: Student) -> None:
    """Add the adapters of all parts into the weights and remove them, in place; without adapters nothing changes."""
    for name, layer in adapted_layers(student).items():
        layer.merge()
        parent_name, _, child = name.rpartition(".")
        setattr(student.get_submodule(parent_name), child, layer.get_base_layer())


def parameters_by_part(student: Student) -> dict[str, tuple[int, int]]:
    """For each part that is there: parameters trained, and in all (a tied tensor counted once)."""
    table = {}
    for part in PARTS:
        module = getattr(student, part)
        if module is not None:
            sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
            table[part] = (sum(n for n, learns in sizes if learns), sum(n for n, _ in sizes))
    return table


def trained_state(student: Student) -> dict[str, Tensor]:
    """What training changes, by name: parameters that learn, and the buffers (batch norm) of the parts they are in."""
    buffers: dict[str, Tensor] = {}
    for part in PARTS:
        module: nn.Module | None = getattr(student, part)
        if module is not None and any(p.requires_grad for p in module.parameters()):
            kept = module.state_dict().keys()
            buffers |= {f"{part}.{name}": b for name, b in module.named_buffers() if name in kept}
    # Parameters last: where they are in shards, looking at a state dict frees those that were still gathered.
    return {name: p for name, p in student.named_parameters() if p.requires_grad} | buffers
