"""A stock vision-language model, asked for hidden states at answer rows.

Shapes: B sequences, L positions, R answer rows, H hidden size, V vocabulary.
"""

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.models.generate import GREEDY
from taid_vlm.models.logit_scaling import find_logit_scaling

TOKEN_TYPES = {"mm_token_type_ids", "token_type_ids"}


@dataclass(frozen=True)
class NativeInputs:
    """One padded batch for a stock model.

    Attributes:
        input_ids: ``[B, L]``, padded on the right.
        attention_mask: ``[B, L]``, 1 where there is a token.
        rows: ``[R]`` positions in the flattened ``B * L`` whose next token is supervised.
        tensors: what the model's forward takes besides, by its own names: pixels and what tells of their shape.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "NativeInputs":
        """The same batch on another device."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        own = (self.input_ids.to(device), self.attention_mask.to(device), self.rows.to(device))
        return replace(self, input_ids=own[0], attention_mask=own[1], rows=own[2], tensors=moved)


class NativeModel(nn.Module):
    """A model of a class for image and text to text.

    Raises:
        UserError: logits that are not those of the head, scaled or capped.
    """

    native: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.native = model
        self.logit_scaling = find_logit_scaling(model)
        forward: Any = self.native.base_model.forward
        self._token_types = set(inspect.signature(forward).parameters) & TOKEN_TYPES

    @property
    def head(self) -> nn.Linear:
        """The output layer; ``head.weight`` is ``[V, H]``."""
        return self.native.lm_head

    @property
    def kind(self) -> str:
        """Class of the model."""
        return type(self.native).__name__

    def hidden(self, inputs: NativeInputs) -> Tensor:
        """Hidden states ``[R, H]`` at the answer rows, after the last norm and before the head."""
        states = self.native.base_model(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, use_cache=False, **self._tensors(inputs)
        ).last_hidden_state
        return states.flatten(0, 1)[inputs.rows]

    def generate(self, inputs: NativeInputs, max_new_tokens: int, ends: list[int]) -> Tensor:
        """Ids ``[B, new]`` of the greedy continuation; prompts are padded on the left. What follows one of ``ends`` is padding."""
        return self.native.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=max_new_tokens,
            **GREEDY,
            eos_token_id=ends,
            pad_token_id=ends[0],
            **self._tensors(inputs),
        )[:, inputs.input_ids.shape[1] :]

    def _tensors(self, inputs: NativeInputs) -> dict[str, Tensor]:
        # Releases differ in whether they want to be told which tokens are pictures; all else must be taken.
        dropped = TOKEN_TYPES - self._token_types
        kept = {name: tensor for name, tensor in inputs.tensors.items() if name not in dropped}
        dtype = self.head.weight.dtype
        return {name: t.to(dtype) if t.is_floating_point() else t for name, t in kept.items()}

    def forget_body(self) -> None:
        """Keep the head alone; :meth:`hidden` cannot be asked any more."""
        self.native.model = nn.Identity()
