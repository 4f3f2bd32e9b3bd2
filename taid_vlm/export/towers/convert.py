"""Which towers an encoder can become, and the conversion itself."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.export.towers.plain_vit import NotConvertible, PlainViT
from taid_vlm.export.towers.read_vit import read_open_clip, read_timm
from taid_vlm.export.towers.same import read_siglip, same_tower
from taid_vlm.export.towers.timm_wrapper import timm_wrapper
from taid_vlm.export.towers.write import WRITERS
from taid_vlm.models.encoders.from_transformers import TOWERS
from taid_vlm.models.vision_encoder import VisionEncoder

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SIGLIPS = ("siglip_vision_model", "smolvlm_vision", "idefics3_vision", "siglip2_vision_model")
TIMM = "timm_wrapper"

# Reader of each family as a plain ViT; families without one become only themselves.
READERS = {
    **dict.fromkeys(SIGLIPS, read_siglip),
    "timm_vit": read_timm,
    "open_clip_timm": read_timm,
    "open_clip_vit": read_open_clip,
}
# What each family may become; the encoder itself decides.
TARGETS: dict[str, tuple[str, ...]] = {
    **{family: (family,) for family in TOWERS},
    **{family: (family, *(name for name in SIGLIPS if name != family)) for family in SIGLIPS},
    "timm_vit": (*WRITERS, TIMM),
    "timm_cnn": (TIMM,),
    "timm_other": (TIMM,),
    "open_clip_vit": tuple(name for name in WRITERS if name not in SIGLIPS),
    "open_clip_timm": (*WRITERS, TIMM),
    "open_clip_other": (),
}


def conversions(encoder: VisionEncoder | str) -> tuple[str, ...]:
    """Tower model_types of transformers that the encoder can become exactly.

    Args:
        encoder: built, with or without weights (also on the meta device); or the name of a family, for what encoders of
            that family may become.

    Raises:
        UserError: an unknown family.
    """
    family = encoder if isinstance(encoder, str) else encoder.contract.family
    if family not in TARGETS:
        if not isinstance(encoder, str):
            return ()  # of a plug-in
        raise UserError(f"unknown family of vision encoders {family!r}: {did_you_mean(family, TARGETS)}")
    if isinstance(encoder, str):
        return TARGETS[family]
    return tuple(target for target in TARGETS[family] if why_not(encoder, target) is None)


def why_not(encoder: VisionEncoder, target: str) -> str | None:
    """Why the encoder cannot become ``target``, as a sentence; None if it can."""
    try:
        _fields_and_state(encoder, target)
    except NotConvertible as reason:
        return f"a vision encoder of family {encoder.contract.family} cannot become {target}: {reason}"
    return None


def feature_survives(encoder: VisionEncoder, target: str) -> bool:
    """Whether the feature that the encoder was trained with can be read from the tower it becomes.

    ``normed`` is read from ``last_hidden_state``, a block from ``hidden_states``. Two towers are exceptions:

    - clip_vision_model gives ``last_hidden_state`` before its final norm: ``normed`` of timm and open_clip, which is
      after it, cannot be read; that of transformers' own CLIP can.
    - timm_wrapper gives ``hidden_states`` as maps without prefix tokens: only ``normed`` can be read.
    """
    contract = encoder.contract
    if contract.family == target:
        return True
    if target == TIMM:
        return contract.feature == "normed"
    return target != "clip_vision_model" or contract.feature != "normed"


def convert_tower(encoder: VisionEncoder, target: str) -> tuple["PretrainedConfig", dict[str, Tensor]]:
    """The encoder as a tower of transformers.

    Args:
        encoder: with weights, LoRA merged.
        target: exact model_type of the tower, one of ``conversions(encoder)``. Whether the trained feature can be read
            from it is another question: :func:`feature_survives`.

    Returns:
        Config, and weights by the names of the class that ``AutoModel.from_config`` makes of it, copied; loading is
        strict. Class and register tokens are in front of the cells, in the encoder's order.

    Raises:
        UserError: why it cannot be converted, and what it can become; or a release of transformers that names
            parameters otherwise.
    """
    from transformers import AutoConfig

    try:
        found = _fields_and_state(encoder, target)
    except NotConvertible as reason:
        others = ", ".join(conversions(encoder)) or "none"
        raise UserError(
            f"a vision encoder of family {encoder.contract.family} cannot become {target}: {reason}. Towers that it can become: "
            f"{others}"
        ) from reason
    trouble = ""
    for made, state in found:
        config = AutoConfig.for_model(target, **made) if isinstance(made, dict) else made
        trouble = _difference(config, state)
        if not trouble:
            return config, {name: tensor.clone() for name, tensor in state.items()}
    import transformers

    raise UserError(
        f"the tower {target} of transformers {transformers.__version__} has other parameters than expected: {trouble}. Install "
        f"the release that this package was tested with, 5.24"
    )


def _fields_and_state(encoder: VisionEncoder, target: str) -> list[tuple[Any, dict[str, Tensor]]]:
    """Candidates: fields of the config (or the config itself) and weights.

    Raises:
        NotConvertible: there is none.
    """
    family = encoder.contract.family
    if target not in TARGETS.get(family, ()):
        may = ", ".join(TARGETS.get(family, ())) or "none"
        raise NotConvertible(f"the towers for it are {may}")
    if target == family:
        return [same_tower(encoder.backbone, encoder.contract)]
    if target == TIMM:
        return list(timm_wrapper(encoder))
    plain: PlainViT = READERS[family](encoder.backbone, encoder.contract)
    return [WRITERS[target](plain)]


def _difference(config: "PretrainedConfig", state: dict[str, Tensor]) -> str:
    """What differs in names and shapes from the class of ``config``; empty if nothing."""
    from transformers import AutoModel

    with torch.device("meta"):
        expected = AutoModel.from_config(config, trust_remote_code=False).state_dict()
    missing = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    wrong = [name for name, tensor in state.items() if name in expected and tensor.shape != expected[name].shape]
    parts = [("missing", missing), ("unknown", surplus), ("of another shape", wrong)]
    return ", ".join(f"{len(names)} {what} {names[:3]}" for what, names in parts if names)
