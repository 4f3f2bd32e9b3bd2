"""A teacher whose decoder layers have weights of 8 or 4 bits: int8 and int4 by torchao, nf4 (arXiv 2305.14314) by bitsandbytes.

Only the linear layers of the language model's decoder layers are quantized. Embeddings and head decide the logits directly, and
a vision encoder is small beside the language model.
"""

from collections.abc import Callable

import torch
from torch import nn

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry
from taid_vlm.models.repeated import language_layers
from taid_vlm.models.teacher import Teacher

Quantize = Callable[[nn.Module], None]  # the linear layers of one decoder layer, in place
QUANTIZATIONS: Registry[Quantize] = Registry("quantization")
INT4_GROUP = 128  # weights that share a scale


def quantize_layers(teacher: Teacher, quantization: str, device: torch.device) -> None:
    """Quantize in place, a layer at a time on ``device``; the fingerprint becomes that of another teacher.

    Raises:
        UserError: the package is missing, or cannot do it on this device.
    """
    quantize = QUANTIZATIONS.get(quantization)
    layers = language_layers(teacher.model)
    if not layers:
        raise UserError("teacher.placement: quantized goes layer by layer, and the teacher has no list of layers")
    for layer in layers:
        layer.to(device)
        try:
            quantize(layer)
        except ImportError as error:
            package = "bitsandbytes" if quantization == "nf4" else "torchao"
            raise UserError(
                f"teacher.quantization: {quantization} needs what is not installed ({(str(error) or type(error).__name__).splitlines()[0]}): pip install {package} and "
                f"what it names, or choose another quantization"
            ) from error
        except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
            raise UserError(
                f"teacher.quantization: {quantization} does not work for this teacher on {device}: {(str(error) or type(error).__name__).splitlines()[0]}; choose "
                f"another quantization"
            ) from error
    teacher.fingerprint = placed_fingerprint(teacher.fingerprint, quantization)


def placed_fingerprint(fingerprint: str, quantization: str | None) -> str:
    """That of the teacher with its layers quantized."""
    return fingerprint if quantization is None else f"{fingerprint} {quantization}"


@QUANTIZATIONS.register("int8")
def _int8(layer: nn.Module) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(layer, Int8WeightOnlyConfig())


@QUANTIZATIONS.register("int4")
def _int4(layer: nn.Module) -> None:
    from torchao.quantization import Int4WeightOnlyConfig, quantize_

    quantize_(layer, Int4WeightOnlyConfig(group_size=INT4_GROUP))


@QUANTIZATIONS.register("nf4")
def _nf4(layer: nn.Module) -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, linear in [(n, m) for n, m in layer.named_modules() if type(m) is nn.Linear]:
        weight, biased = linear.weight, linear.bias is not None
        made = Linear4bit(
            linear.in_features, linear.out_features, biased, quant_type="nf4", compute_dtype=weight.dtype, device="meta"
        )
        made.weight = Params4bit(weight.data, requires_grad=False, quant_type="nf4", module=made)
        if biased:
            made.bias = linear.bias
        parent, _, child = name.rpartition(".")
        # Moving it is what quantizes it.
        setattr(layer.get_submodule(parent), child, made.requires_grad_(False).to(weight.device))
