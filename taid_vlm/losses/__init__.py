"""Losses as pure functions of logits, the TAID target and its clock, and the loss fused with the heads.

Nothing here knows of models, data or training; of ours only ``taid_vlm.common`` is imported.

* ``divergences``, ``taid``: one value per row, by autograd. The truth that fast paths are tested against.
* ``schedule``: the clock that moves TAID's ``t`` once per optimizer step.
* ``objective``: what is minimised (``LossSpec``) and what comes back (``LossOutput``).
* ``inputs``, ``plain``, ``fused``: the objective from hidden states and heads, in two implementations.
"""

from taid_vlm.losses.divergences import cross_entropy, forward_kl, reverse_kl
from taid_vlm.losses.fused import distillation_loss
from taid_vlm.losses.objective import LossOutput, LossSpec
from taid_vlm.losses.schedule import TAIDClock, linear_t
from taid_vlm.losses.taid import taid, taid_cross_entropy, taid_target_logits

__all__ = [
    "LossOutput",
    "LossSpec",
    "TAIDClock",
    "cross_entropy",
    "distillation_loss",
    "forward_kl",
    "linear_t",
    "reverse_kl",
    "taid",
    "taid_cross_entropy",
    "taid_target_logits",
]
