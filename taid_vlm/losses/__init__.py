"""Losses as pure functions of logits, the TAID target and its clock, and the loss fused with the heads.

Nothing here knows of models, data or training; of ours only ``taid_vlm.common`` is imported.

* ``divergences``, ``mixtures``, ``adaptive``, ``alpha_beta``, ``assistant``, ``contrastive``, ``curriculum``,
  ``decoupled``, ``taid``: the methods, each as a plain function of logits with one value per row, and as a closed form.
* ``methods``: the table of their names. ``reference``: the TAID authors' variants.
* ``schedule``: the clock that moves TAID's ``t`` once per optimizer step.
* ``objective``: what is minimised (``LossSpec``) and what comes back (``LossOutput``).
* ``inputs``, ``plain``: the objective from hidden states and heads, by autograd.
* ``fused``, ``chunks``, ``columns``, ``tile``, ``rows``: the same without a [rows, vocabulary] tensor.
* ``topk``: a teacher known only by its K most likely tokens.
* ``figures``: head and tail mass.
* ``module``: TAID on full logits with its clock inside, for loops of somebody's own.
"""

from taid_vlm.losses.adaptive import adaptive_kl, todi
from taid_vlm.losses.alpha_beta import alpha_beta
from taid_vlm.losses.assistant import amid
from taid_vlm.losses.contrastive import distillm2
from taid_vlm.losses.curriculum import CurriculumTemperature, reversal_at, tempered_kl
from taid_vlm.losses.decoupled import dkd
from taid_vlm.losses.divergences import cross_entropy, forward_kl, reverse_kl, total_variation
from taid_vlm.losses.figures import head_and_tail_mass, means
from taid_vlm.losses.fused import distillation_loss
from taid_vlm.losses.mixtures import jensen_shannon, skew_forward_kl, skew_reverse_kl
from taid_vlm.losses.module import TAIDLoss
from taid_vlm.losses.objective import LOSS_NAMES, LossOutput, LossSpec
from taid_vlm.losses.schedule import TAIDClock, linear_t
from taid_vlm.losses.taid import taid, taid_cross_entropy, taid_target_logits
from taid_vlm.losses.topk import TopK

__all__ = [
    "LOSS_NAMES",
    "CurriculumTemperature",
    "LossOutput",
    "LossSpec",
    "TAIDClock",
    "TAIDLoss",
    "TopK",
    "adaptive_kl",
    "alpha_beta",
    "amid",
    "cross_entropy",
    "distillation_loss",
    "distillm2",
    "dkd",
    "forward_kl",
    "head_and_tail_mass",
    "jensen_shannon",
    "linear_t",
    "means",
    "reversal_at",
    "reverse_kl",
    "skew_forward_kl",
    "skew_reverse_kl",
    "taid",
    "taid_cross_entropy",
    "taid_target_logits",
    "tempered_kl",
    "todi",
    "total_variation",
]
