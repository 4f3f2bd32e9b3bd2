"""A vision-language model: encoder, projector, causal language model.

Shapes: T tiles of all pictures, S side of a tile in pixels, N tokens of a tile, B sequences, L positions, H hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from .configuration_taid_vlm import TaidVlmConfig, TaidVlmVisionConfig
from .encoders_taid_vlm import as_tokens, build_backbone, read_features
from .projectors_taid_vlm import build_projector

PICTURES = ("pixel_values", "pixel_attention_mask")
REMEMBERED = "_taid_vlm_buffers"


class TaidVlmPreTrainedModel(PreTrainedModel):
    """What all parts share."""

    config: Any
    config_class: Any = TaidVlmConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    # Each part asks its own class; timm and open_clip choose their attention themselves.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class TaidVlmVisionEncoder(TaidVlmPreTrainedModel):
    """A backbone of any library, giving tokens."""

    config_class = TaidVlmVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ["image"]  # noqa: RUF012

    def __init__(self, config: TaidVlmVisionConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config)
        if config.library != "transformers":
            _remember_buffers(self.backbone)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """``[T, 3, S, S]`` (normalised) to ``[T, tokens, width]``."""
        pixel_values = pixel_values.to(next(self.backbone.parameters()).dtype)
        features = as_tokens(read_features(self.backbone, pixel_values, self.config), self.config.layout)
        return features[:, self.config.dropped_tokens :]

    def _init_weights(self, module: nn.Module) -> None:
        # The backbone drew its weights when it was built; loading only empties what is in no checkpoint.
        for name, value in getattr(module, REMEMBERED, {}).items():
            getattr(module, name).copy_(value)


def _remember_buffers(backbone: nn.Module) -> None:
    """Copy the buffers that are in no checkpoint (rotary positions, indices of windows) beside themselves."""
    for module in backbone.modules():
        buffers = {name: getattr(module, name) for name in module._non_persistent_buffers_set}
        setattr(module, REMEMBERED, {name: b.clone() for name, b in buffers.items() if b is not None})


class TaidVlmModel(TaidVlmPreTrainedModel):
    """Everything before the head."""

    def __init__(self, config: TaidVlmConfig) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        rows, columns = vision.grid
        self.vision_encoder = TaidVlmVisionEncoder(vision)
        self.projector = build_projector(
            config.projector,
            vision.hidden_size,
            text.hidden_size,
            (rows, columns),
            config.projector_options,
            vision.prefix_tokens - vision.dropped_tokens,
        )
        self.language_model = AutoModel.from_config(text, trust_remote_code=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's."""
        self.language_model.set_input_embeddings(value)

    def get_image_features(
        self, pixel_values: Tensor, pixel_attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """``[T, 3, S, S]``, or ``[B, most tiles, 3, S, S]`` with empty tiles behind the others, to ``[T * N, H]``.

        Args:
            pixel_attention_mask: ``[B, most tiles, S, S]``, 0 in empty tiles.
        """
        if pixel_values.ndim == 5:
            there = pixel_values.ne(0) if pixel_attention_mask is None else pixel_attention_mask.bool()
            pixel_values = pixel_values[there.flatten(2).any(-1)]
        return self.projector(self.vision_encoder(pixel_values)).flatten(0, 1)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The language model's output for ``input_ids`` ``[B, L]`` with pictures at the placeholders.

        Raises:
            ValueError: not one of ids and embeddings, or another number of placeholders than of visual tokens.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        embeddings = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        if pixel_values is not None:
            visual = self.get_image_features(pixel_values, pixel_attention_mask)
            places = self._places(input_ids, embeddings)
            if int(places.sum()) != len(visual):
                raise ValueError(
                    f"{int(places.sum())} image tokens (id {self.config.image_token_id}) in the text, but the pictures have "
                    f"{len(visual)}, {self.config.tokens_per_tile} for each tile: prepare both by this checkpoint's processor"
                )
            embeddings = embeddings.masked_scatter(places.unsqueeze(-1), visual.to(embeddings))
        return self.language_model(
            inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )

    def _places(self, input_ids: Tensor | None, embeddings: Tensor) -> Tensor:
        """``[B, L]``, where the placeholders are."""
        if input_ids is not None:
            return input_ids.eq(self.config.image_token_id)
        token = torch.tensor(self.config.image_token_id, device=embeddings.device)
        return embeddings.eq(self.get_input_embeddings()(token)).all(-1)


class TaidVlmForConditionalGeneration(TaidVlmPreTrainedModel, GenerationMixin):
    """The whole model."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: TaidVlmConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.model = TaidVlmModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=config.head_bias)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the head."""
        self.lm_head = value

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        """See :meth:`TaidVlmModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits ``[B, L, V]``, or of the last ``logits_to_keep`` positions (of those, if it is a tensor); the loss with ``labels``."""
        out = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_attention_mask=pixel_attention_mask,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self._scaled(self.lm_head(out.last_hidden_state[:, kept]))
        loss = None
        if labels is not None:
            vocabulary = self.config.text_config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocabulary, **kwargs)
        # The cache has different names in different releases; whatever the language model gives is handed on.
        others = {name: value for name, value in out.items() if name != "last_hidden_state"}
        return CausalLMOutputWithPast(loss=loss, logits=logits, **others)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pictures are read once; later steps find them in the cache."""
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs = {name: value for name, value in inputs.items() if name not in PICTURES}
        return inputs

    def _scaled(self, raw: Tensor) -> Tensor:
        scale, cap = self.config.logit_scale, self.config.logit_softcap
        logits = raw if scale == 1 else raw * scale
        return logits if cap is None else cap * (logits / cap).tanh()


TaidVlmModel.register_for_auto_class("AutoModel")
TaidVlmForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
TaidVlmConfig.register_for_auto_class("AutoConfig")
