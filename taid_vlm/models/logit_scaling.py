"""What a language model does to its logits after the head: a factor, a soft cap, or nothing."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError

CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
FACTORS = ("logit_scale", "logits_scaling", "lm_head_multiplier")


@dataclass(frozen=True)
class LogitScaling:
    """logits = softcap * tanh(u / softcap) with u = scale * (hidden @ weight.T + bias); ``softcap`` None is none."""

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, raw: Tensor) -> Tensor:
        """Logits from the head's output."""
        scaled = raw * self.scale if self.scale != 1 else raw
        return scaled if self.softcap is None else self.softcap * (scaled / self.softcap).tanh()


@torch.no_grad()
def find_logit_scaling(model: Any) -> LogitScaling:
    """The scaling with which ``model``'s head gives the logits of its own forward, tried on two tokens.

    Config fields do not tell: ``logits_scaling`` divides in one family and multiplies in another, and a family may do
    something without a field. So each reading of the fields is tried, and one must give the model's logits.

    On the meta device nothing can be tried, and the reading that the fields suggest first is taken.

    Raises:
        UserError: none does; the loss would be computed from other logits than the model's.
    """
    head = model.get_output_embeddings()
    if head.weight.is_meta:
        readings = _readings(model.config)
        return next((reading for reading in readings if reading.scale != 1), readings[0])
    training = model.training
    model.eval()
    ids = torch.tensor([[0, 1]], device=head.weight.device)
    expected = model(input_ids=ids, use_cache=False).logits.float()
    raw = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    model.train(training)
    for scaling in _readings(model.config):
        # Half precision rounds at another place in a model that scales hidden states rather than logits.
        if torch.allclose(scaling(raw), expected, rtol=2e-2, atol=1e-2 * float(expected.abs().max()) + 1e-6):
            return scaling
    fields = {name: getattr(model.config, name) for name in CAPS + FACTORS if hasattr(model.config, name)}
    raise UserError(
        f"{type(model).__name__} changes its logits after the head in a way that is not known here (config: {fields or 'no field'}), "
        f"expected a factor or a soft cap: choose another language model (Llama, SmolLM2, Qwen, Mistral, Phi-3, Gemma)"
    )


def _readings(config: Any) -> list[LogitScaling]:
    """Every scaling that the config could mean, the neutral one first."""
    values = [getattr(config, name, None) for name in FACTORS]
    given = [float(value) for value in values if value not in (None, 0)]
    scales = [1.0, *given, *(1 / value for value in given)]
    caps = [None, *(float(cap) for cap in (getattr(config, name, None) for name in CAPS) if cap)]
    # A cap that the random or small logits of two tokens do not show must still be applied: caps before none.
    ordered = sorted(itertools.product(scales, caps), key=lambda reading: reading[1] is None)
    return [LogitScaling(scale, cap) for scale, cap in ordered]
