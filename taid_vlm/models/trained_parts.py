"""Which parameters learn, with LoRA where the recipe asks for it."""

from typing import Any

from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.specs import TrainedParts
from taid_vlm.models.student import Student

PARTS = ("vision_encoder", "projector", "language_model")


def apply_trained_parts(student: Student, parts: TrainedParts) -> None:
    """Freeze, free or adapt each part in place.

    Raises:
        UserError: a LoRA target that the language model does not have, or nothing left to train.
    """
    student.requires_grad_(False)
    if student.vision_encoder is not None:
        student.vision_encoder.requires_grad_(parts.vision_encoder.mode == "full")
    if student.projector is not None:
        student.projector.requires_grad_(parts.projector.mode == "full")
    language_model: Any = student.language_model
    if parts.language_model.mode == "full":
        language_model.requires_grad_(True)
        if parts.language_model.embeddings == "frozen":
            language_model.get_input_embeddings().requires_grad_(False)
    elif parts.language_model.mode == "lora":
        _add_lora(language_model, parts)
    if not any(p.requires_grad for p in student.parameters()):
        raise UserError(
            "every part of the student is frozen, so there is nothing to train; set a mode of student.train to full or lora"
        )


def merge_lora(student: Student) -> None:
    """Add the adapters into the weights and remove them, in place; without adapters nothing changes."""
    from peft.tuners.lora import LoraLayer

    adapted = [(name, m) for name, m in student.language_model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in adapted:
        layer.merge()
        parent_name, _, child = name.rpartition(".")
        parent = student.language_model.get_submodule(parent_name)
        setattr(parent, child, layer.get_base_layer())


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
        module = getattr(student, part)
        if module is not None and any(p.requires_grad for p in module.parameters()):
            kept = module.state_dict().keys()
            changing |= {f"{part}.{name}": b for name, b in module.named_buffers() if name in kept}
    return changing


def _add_lora(language_model: nn.Module, parts: TrainedParts) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    lora = parts.language_model.lora
    linear = {name.rpartition(".")[2] for name, m in language_model.named_modules() if isinstance(m, nn.Linear)}
    unknown = [target for target in lora.targets if target not in linear]
    if unknown:
        raise UserError(f"LoRA targets {unknown} are not linear layers of the language model; it has {sorted(linear)}")
    # The adapters go into the tree itself, so that parameter names do not change with a wrapper.
    inject_adapter_in_model(
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets),  # type: ignore[arg-type]
        language_model,
    )
    for name, parameter in language_model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
