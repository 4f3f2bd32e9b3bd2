"""The one module tree that is trained: vision encoder, projector, causal language model.

Shapes: B sequences, L positions, R answer rows, H hidden size, V vocabulary, T tiles of all pictures, N tokens per tile, C feature dimension.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.documents import states_of_documents
from taid_vlm.models.language_model import backbone_of
from taid_vlm.models.logit_scaling import find_logit_scaling
from taid_vlm.models.vision_encoder import VisionEncoder


@dataclass(frozen=True)
class ModelInputs:
    """One batch for one model.

    Attributes:
        input_ids: ``[B, L]``, padded on the right.
        attention_mask: ``[B, L]``, 1 where there is a token.
        rows: ``[R]`` positions in the flattened ``B * L`` whose next token is supervised.
        pixel_values: ``[T, 3, size, size]``, the tiles of the pictures in order, or None.
        image_features: ``[T, N, C]``, the encoder's output, when it was computed before.
        tiles: how many tiles each picture has, for messages; empty when every tile is a picture.
        position_ids: ``[B, L]`` where a row holds several documents, which begin where the positions do so again, padding
            being one; None where a row is one sequence.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    pixel_values: Tensor | None = None
    image_features: Tensor | None = None
    tiles: tuple[int, ...] = ()
    position_ids: Tensor | None = None

    def to(self, device: torch.device | str) -> "ModelInputs":
        """The same batch on another device; a GPU takes pinned memory while the processor goes on."""
        ahead = torch.device(device).type == "cuda"
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=ahead)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


class Student(nn.Module):
    """A vision-language model, or a plain language model when there is no encoder.

    Attributes:
        in_shards: other processes hold shards of the weights, so every forward must run all modules, also without gradients.

    Raises:
        UserError: parts that do not belong together, or logits that are not those of the head, scaled or capped.
    """

    def __init__(
        self,
        language_model: nn.Module,
        vision_encoder: VisionEncoder | None = None,
        projector: nn.Module | None = None,
        image_token_id: int | None = None,
    ) -> None:
        super().__init__()
        if (vision_encoder is None) != (projector is None) or (projector is None) != (image_token_id is None):
            raise UserError("vision_encoder, projector and image_token_id come together or not at all")
        self.logit_scaling = find_logit_scaling(language_model)
        self.vision_encoder = vision_encoder
        self.projector = projector
        self.language_model = language_model
        self.image_token_id = image_token_id
        self.in_shards = False

    @property
    def head(self) -> nn.Linear:
        """The output layer; ``head.weight`` is ``[V, H]``."""
        return self.language_model.get_output_embeddings()  # type: ignore[operator]

    def embed(self, inputs: ModelInputs) -> Tensor:
        """Token embeddings ``[B, L, H]`` with the image placeholders replaced by projected features.

        Raises:
            UserError: the number of placeholders differs from the number of visual tokens.
        """
        embeddings = self.language_model.get_input_embeddings()(inputs.input_ids)  # type: ignore[operator]
        if self.projector is None or self.vision_encoder is None:
            return embeddings
        features = self._features(inputs)
        places = inputs.input_ids.eq(self.image_token_id or 0)
        if features is None:
            if places.any():
                raise UserError(f"{int(places.sum())} image placeholders in the text, but no pictures were given")
            return embeddings + self._idle(inputs) if torch.is_grad_enabled() or self.in_shards else embeddings
        visual = self.projector(features)
        if int(places.sum()) != visual.shape[0] * visual.shape[1]:
            raise UserError(self._disagreement(int(places.sum()), inputs.tiles, features, visual))
        visual = visual.flatten(0, 1)
        return embeddings.masked_scatter(places.unsqueeze(-1), visual.to(embeddings.dtype))

    def hidden(self, inputs: ModelInputs) -> Tensor:
        """Hidden states ``[R, H]`` at the answer rows, after the last norm and before the head."""
        embeddings = self.embed(inputs)
        if inputs.position_ids is not None:
            states = states_of_documents(self.language_model, embeddings, inputs.position_ids)
        else:
            states = backbone_of(self.language_model)(
                inputs_embeds=embeddings, attention_mask=inputs.attention_mask, use_cache=False
            ).last_hidden_state
        return states.flatten(0, 1)[inputs.rows]

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Logits ``[R, V]`` at the answer rows; training goes through :meth:`hidden` and the fused loss instead."""
        return self.logit_scaling(self.head(self.hidden(inputs)))

    def forget_body(self) -> None:
        """Keep the head alone; :meth:`hidden` cannot be asked any more."""
        self.vision_encoder = self.projector = None
        base = backbone_of(self.language_model)
        for name in [name for name, _ in base.named_children()]:  # the embeddings' place is looked for to find the head
            setattr(base, name, nn.ModuleList())

    def train(self, mode: bool = True) -> "Student":
        """Training mode for parts that learn; frozen parts stay in evaluation mode (batch norm, dropout)."""
        super().train(mode)
        for part in (self.vision_encoder, self.projector, self.language_model):
            if part is not None and not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def _features(self, inputs: ModelInputs) -> Tensor | None:
        if inputs.image_features is not None:
            return inputs.image_features if inputs.image_features.shape[0] else None
        if inputs.pixel_values is None or inputs.pixel_values.shape[0] == 0:
            return None
        assert self.vision_encoder is not None
        frozen = not any(p.requires_grad for p in self.vision_encoder.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return self.vision_encoder(inputs.pixel_values)

    def _disagreement(self, places: int, tiles: tuple[int, ...], features: Tensor, visual: Tensor) -> str:
        assert self.vision_encoder is not None
        contract = self.vision_encoder.contract
        count = features.shape[0]
        pictures = f"{len(tiles)} pictures in {count} tiles" if tiles else f"{count} pictures of one tile each"
        return (
            f"{places} image placeholders in the text, but {pictures} give {visual.shape[0] * visual.shape[1]} visual tokens: for a tile "
            f"of {contract.image.size} x {contract.image.size} pixels the encoder has {features.shape[1]} tokens (grid "
            f"{contract.grid[0]} x {contract.grid[1]}) and the projector makes {visual.shape[1]} of them. The text must be rendered by "
            f"this student's processor, with the sizes of these very pictures"
        )

    def _idle(self, inputs: ModelInputs) -> Tensor:
        """Zero, made of a black picture: every process must run the same modules in every step, or the others wait for ever."""
        assert self.vision_encoder is not None
        assert self.projector is not None
        contract, weight = self.vision_encoder.contract, next(self.vision_encoder.parameters())
        # In evaluation mode, so that batch norm does not learn of it and dropout draws nothing.
        seen, joined = self.vision_encoder.training, self.projector.training
        self.vision_encoder.eval()
        self.projector.eval()
        if inputs.image_features is not None:  # the encoder is frozen, and not run by anyone
            features: Tensor | None = inputs.image_features.new_zeros(1, contract.tokens, contract.feature_dim)
        else:
            black = weight.new_zeros(1, 3, contract.image.size, contract.image.size)
            features = self._features(replace(inputs, pixel_values=black))
        zero = (self.projector(features) * 0).sum()
        self.vision_encoder.train(seen)
        self.projector.train(joined)
        return zero


def count_parameters(module: Any) -> int:
    """Number of parameters, a tied one counted once."""
    return sum(p.numel() for p in module.parameters())
