"""A smaller language model cut out of a larger one: some of its decoder layers, and a config that agrees."""

from typing import Any

from torch import nn

from taid_vlm.common.errors import UserError

# Lists in a config that may be as long as the model is deep, and say nothing about its layers.
NOT_PER_LAYER = frozenset(
    {
        "architectures",
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "suppress_tokens",
    }
)
# Lists that name layers by their index.
LAYER_INDICES = ("full_attn_idxs", "mlp_only_layers")


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers of a causal language model.

    Raises:
        UserError: the architecture keeps its layers elsewhere.
    """
    backbone: Any = model.base_model
    layers = getattr(backbone, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError(
            f"{type(model).__name__} has no list of decoder layers named 'layers', so no layers can be cut from it; "
            f"leave 'layers' out or choose a Llama-like model"
        )
    return layers


def layers_to_keep(wanted: int | list[int], available: int) -> list[int]:
    """Indices of the layers to keep; a number means evenly spaced with the first and the last.

    >>> layers_to_keep(4, 30)
    [0, 10, 19, 29]

    Raises:
        UserError: an index out of range or given twice, or more layers than there are.
    """
    if isinstance(wanted, int):
        if not 1 <= wanted <= available:
            raise UserError(
                f"layers: {wanted} asked for, but the language model has {available}; give 1 to {available}"
            )
        if wanted == 1:
            return [0]
        return [round(i * (available - 1) / (wanted - 1)) for i in range(wanted)]
    if not wanted or len(set(wanted)) != len(wanted) or any(not 0 <= i < available for i in wanted):
        raise UserError(
            f"layers: {wanted} asked for; expected different numbers from 0 to {available - 1}, in the order they shall run"
        )
    return list(wanted)


def cut_layers(model: nn.Module, keep: list[int]) -> None:
    """Keep only the decoder layers ``keep``, in place, and make the config agree (cache indices, per-layer lists)."""
    layers = decoder_layers(model)
    backbone: Any = model.base_model
    kept = nn.ModuleList(layers[i] for i in keep)
    for index, layer in enumerate(kept):
        own: list[Any] = list(layer.modules())
        for module in own:
            if hasattr(module, "layer_idx"):
                module.layer_idx = index  # the key-value cache is addressed by it
    backbone.layers = kept
    cut_config(model.config, keep)


def cut_config(config: Any, keep: list[int]) -> None:
    """Make a config that of a model with only the layers ``keep``, in place.

    A field is per layer if it is a list as long as there are layers (``layer_types`` of Gemma and Qwen,
    ``no_rope_layers`` of SmolLM3, ...), but for the names in NOT_PER_LAYER: the lists differ by family, and one that is
    forgotten would be found only when the saved model is opened again, as another one. Fields that count or name
    layers follow.
    """
    depth = config.num_hidden_layers
    config.num_hidden_layers = len(keep)
    for name, value in list(vars(config).items()):
        if name in LAYER_INDICES and value is not None:
            setattr(config, name, [new for new, old in enumerate(keep) if old in value])
        elif isinstance(value, list) and len(value) == depth and name not in NOT_PER_LAYER:
            setattr(config, name, [value[i] for i in keep])
    if getattr(config, "max_window_layers", None) is not None:  # how many layers, from the first on, have no window
        config.max_window_layers = sum(i < config.max_window_layers for i in keep)
