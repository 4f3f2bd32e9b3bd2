"""LoRA (arXiv 2106.09685) on the linear layers of a part, put into the module tree itself by peft."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.models.specs import LoraSpec
from taid_vlm.models.vision_encoder import VisionEncoder


def add_lora(part: nn.Module, called: str, lora: LoraSpec, found: dict[str, nn.Linear]) -> None:
    """Give adapters to the layers of ``found`` that ``lora.targets`` names; only the adapters learn.

    Args:
        called: the part's name in messages.
        found: the layers that can be adapted, by their full names in ``part``; a target is the last piece of such names.

    Raises:
        UserError: a target that is not among them, or nothing to adapt.
    """
    from peft import LoraConfig, inject_adapter_in_model

    last = {name: name.rpartition(".")[2] for name in found}
    known = sorted(set(last.values()))
    if not known:
        raise UserError(f"the {called} has no linear layer that LoRA could adapt; set its mode to full or frozen")
    if lora.targets == "all":
        chosen = list(found)
    else:
        unknown = [target for target in lora.targets if target not in known]
        if unknown:
            raise UserError(
                f"LoRA targets {unknown} are not linear layers of the {called} that can be adapted; it has {known}; "
                f"{did_you_mean(unknown[0], known)}"
            )
        chosen = [name for name in found if last[name] in lora.targets]
    # The adapters go into the tree itself, so that parameter names do not change with a wrapper. A pattern, because
    # peft takes a list for endings of names, which would catch layers that were left out.
    pattern = "|".join(re.escape(name) for name in chosen)
    inject_adapter_in_model(
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=pattern),  # type: ignore[arg-type]
        part,
    )
    for name, parameter in part.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def adapted_layers(module: nn.Module) -> dict[str, Any]:
    """The layers that carry an adapter, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def linears_of_language_model(model: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer but the head, whose weight the fused loss reads without calling it."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return {name: m for name, m in model.named_modules() if type(m) is nn.Linear and m is not head}


def linears_of_vision_encoder(encoder: VisionEncoder) -> dict[str, nn.Linear]:
    """Every linear layer that a picture passes on its way to the features.

    Not all do: some encoders read a layer's weight without calling it (the output layer of nn.MultiheadAttention, the
    fused projection of EVA and BEiT), and most have layers behind the features (pooling heads, blocks after the one that
    is read). An adapter there would never learn, and data-parallel training would wait for its gradient. So one blank
    picture is sent through, and what it passes is taken.
    """
    linears = {name: m for name, m in encoder.named_modules() if type(m) is nn.Linear}
    outputs: dict[str, Tensor] = {}
    hooks = [
        m.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
        for name, m in linears.items()
    ]
    training = encoder.training
    weight = next(encoder.parameters())
    size = encoder.contract.image.size
    try:
        with torch.enable_grad():
            picture = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype, requires_grad=True)
            features = encoder.eval()(picture)
            reached = torch.autograd.grad(features.sum(), list(outputs.values()), allow_unused=True) if outputs else ()
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    passed = {name for name, gradient in zip(outputs, reached, strict=True) if gradient is not None}
    return {name: m for name, m in linears.items() if name in passed}
