"""Which parameters learn: parts frozen, free or with adapters."""

from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.lora import adapted_layers, add_lora, linears_of_language_model, linears_of_vision_encoder
from taid_vlm.models.specs import TrainedParts
from taid_vlm.models.student import Student

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
        else:
            student.vision_encoder.requires_grad_(parts.vision_encoder.mode == "full")
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
    changing: dict[str, Tensor] = {name: p for name, p in student.named_parameters() if p.requires_grad}
    for part in PARTS:
        module: nn.Module | None = getattr(student, part)
        if module is not None and any(p.requires_grad for p in module.parameters()):
            kept = module.state_dict().keys()
            changing |= {f"{part}.{name}": b for name, b in module.named_buffers() if name in kept}
    return changing
