"""Config of a vision-language model made of an encoder, a projector and a causal language model."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


def _as_config(given: Any, default: str | None) -> Any:
    """A config of transformers from what its JSON says; None stays None without a default."""
    if isinstance(given, dict):
        fields = dict(given)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    return AutoConfig.for_model(default) if given is None and default is not None else given


class TaidVlmVisionConfig(PreTrainedConfig):
    """How the encoder is built, and what is read from it.

    Attributes:
        library: transformers, timm, open_clip, or one that an installed package brings.
        tower_config: of the tower, if it is transformers'.
        source: what builds it otherwise. timm: ``architecture`` and ``model_args`` of ``timm.create_model``; open_clip:
            ``embed_dim``, ``vision_cfg`` and ``quick_gelu`` of a model config; a package's: the recipe's ``vision_encoder``.
        feature: "normed" (the final output), or -1, -2, ... (the output of the last block, of the one before it, ...).
        prefix_tokens: class and register tokens that the encoder puts before the grid. dropped_tokens: how many of them are left
            out.
        layout: of the encoder's output: NLC (tokens), NCHW or NHWC (a map).
        hidden_size: width of a token. grid: rows and columns of tokens. image_size: side of a picture in pixels.
    """

    model_type = "taid_vlm_vision"
    sub_configs = {"tower_config": AutoConfig}  # noqa: RUF012  # transformers reads it from the class

    def __init__(
        self,
        library: str = "transformers",
        tower_config: Any = None,
        source: dict[str, Any] | None = None,
        feature: str | int = "normed",
        prefix_tokens: int = 0,
        dropped_tokens: int = 0,
        layout: str = "NLC",
        hidden_size: int = 768,
        grid: list[int] | None = None,
        image_size: int = 224,
        **kwargs: Any,
    ) -> None:
        self.library = library
        self.tower_config = _as_config(tower_config, None)
        self.source = source or {}
        self.feature = feature
        self.prefix_tokens = prefix_tokens
        self.dropped_tokens = dropped_tokens
        self.layout = layout
        self.hidden_size = hidden_size
        self.grid = list(grid or (14, 14))
        self.image_size = image_size
        super().__init__(**kwargs)


class TaidVlmConfig(PreTrainedConfig):
    """The whole model.

    Attributes:
        projector: its name. projector_options: all of them.
        image_token_id: placeholder of one visual token. tokens_per_tile: how many stand for a tile.
        logit_scale, logit_softcap: logits = softcap * tanh(u / softcap) with u = scale * head(hidden); None is no cap.
        head_bias: whether the head has one.
    """

    model_type = "taid_vlm"
    sub_configs = {"vision_config": TaidVlmVisionConfig, "text_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        vision_config: Any = None,
        text_config: Any = None,
        projector: str = "mlp",
        projector_options: dict[str, Any] | None = None,
        image_token_id: int = 0,
        tokens_per_tile: int = 196,
        logit_scale: float = 1.0,
        logit_softcap: float | None = None,
        head_bias: bool = False,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        if vision_config is None or isinstance(vision_config, dict):
            vision_config = TaidVlmVisionConfig(**(vision_config or {}))
        self.vision_config = vision_config
        self.text_config = _as_config(text_config, "llama")
        self.projector = projector
        self.projector_options = projector_options or {}
        self.image_token_id = image_token_id
        self.tokens_per_tile = tokens_per_tile
        self.logit_scale = logit_scale
        self.logit_softcap = logit_softcap
        self.head_bias = head_bias
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**kwargs)
