"""The table of divergences: exact name, plain function, closed form, and which figures of a row it takes."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import LOSSES, PlugIn
from taid_vlm.common.registry import Registry
from taid_vlm.losses import reference
from taid_vlm.losses.adaptive import adaptive_kl, adaptive_kl_closed, todi, todi_closed
from taid_vlm.losses.alpha_beta import alpha_beta, alpha_beta_closed
from taid_vlm.losses.assistant import amid, amid_closed
from taid_vlm.losses.contrastive import distillm2, distillm2_closed
from taid_vlm.losses.curriculum import tempered_kl, tempered_kl_closed
from taid_vlm.losses.decoupled import dkd, dkd_closed
from taid_vlm.losses.divergences import (
    forward_kl,
    forward_kl_closed,
    reverse_kl,
    reverse_kl_closed,
    total_variation,
    total_variation_closed,
)
from taid_vlm.losses.mixtures import (
    jensen_shannon,
    jensen_shannon_closed,
    skew_forward_kl,
    skew_forward_kl_closed,
    skew_reverse_kl,
    skew_reverse_kl_closed,
)

Options = dict[str, float | str]


def _always(options: Options) -> bool:
    return True


def _never(options: Options) -> bool:
    return False


def _jsd_is_finite(options: Options) -> bool:
    return options.get("beta") != 1  # reverse KL


def _ab_is_finite(options: Options) -> bool:
    return options.get("alpha") != 0  # reverse KL and its kind


def _amid_is_finite(options: Options) -> bool:
    """KL(r || p) is, where the assistant r rules out what the teacher rules out: geometric and harmonic means do."""
    alpha, lam = (float(options.get(name, default)) for name, default in (("alpha", -5.0), ("lam", 0.1)))
    return options.get("measure") != "rkl" or (alpha >= 1 and lam > 0)


@dataclass(frozen=True)
class Divergence:
    """One divergence of a student from a target.

    Attributes:
        plain: ``plain(student_logits_NV, teacher_logits_NV[, extra], **options) -> values_N``, the definition.
        closed: the same with its gradient in closed form, see ``rows``; None leaves it to autograd.
        extra: what else of a row it takes: ``labels``, ``student_written`` or ``temperature``; None for nothing.
        reference: the authors' variant of ``plain``; None where their code has none.
        to_target: whether TAID's target may stand in for the teacher.
        without_support: whether it is finite, with these options, where the teacher gives a token the probability 0.
    """

    plain: Callable[..., Tensor]
    closed: Callable[..., Tensor] | None
    extra: str | None = None
    reference: Callable[..., Tensor] | None = None
    to_target: bool = True
    without_support: Callable[[Options], bool] = _always

    @property
    def options(self) -> dict[str, float | str]:
        """The options, in order, with their defaults."""
        if self.closed is None:
            parameters = list(inspect.signature(self.plain).parameters.values())[3 if self.extra else 2 :]
        else:
            parameters = list(inspect.signature(self.closed).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}


def _adopted(plug_in: PlugIn, found: Any) -> Divergence:
    from taid_vlm.losses.own import as_divergence

    return as_divergence(plug_in, found)


DIVERGENCES: Registry[Divergence] = Registry("loss", LOSSES, _adopted)
for _name, _entry in {
    "kl": Divergence(forward_kl, forward_kl_closed, reference=reference.forward_kl),
    "rkl": Divergence(reverse_kl, reverse_kl_closed, reference=reference.reverse_kl, without_support=_never),
    "tvd": Divergence(total_variation, total_variation_closed, reference=reference.total_variation),
    "jsd": Divergence(
        jensen_shannon, jensen_shannon_closed, reference=reference.jensen_shannon, without_support=_jsd_is_finite
    ),
    "adaptive_kl": Divergence(adaptive_kl, adaptive_kl_closed, reference=reference.adaptive_kl, without_support=_never),
    "sfkl": Divergence(skew_forward_kl, skew_forward_kl_closed, reference=reference.skew_forward_kl),
    "srkl": Divergence(skew_reverse_kl, skew_reverse_kl_closed, reference=reference.skew_reverse_kl),
    "ctkd": Divergence(tempered_kl, tempered_kl_closed, "temperature", reference.ctkd, to_target=False),
    # Undefined in a row whose label is the only token that is left.
    "dkd": Divergence(dkd, dkd_closed, "labels", reference.dkd, without_support=_never),
    "ab": Divergence(alpha_beta, alpha_beta_closed, without_support=_ab_is_finite),
    "amid": Divergence(amid, amid_closed, without_support=_amid_is_finite),
    "todi": Divergence(todi, todi_closed, without_support=_never),
    "distillm2": Divergence(distillm2, distillm2_closed, "student_written"),
}.items():
    DIVERGENCES.register(_name)(_entry)


def check_options(name: str, options: dict[str, float | str]) -> None:
    """Refuse options that ``name`` does not have, or values that it does not take.

    Raises:
        UserError: what is wrong, and what would be right.
    """
    divergence = DIVERGENCES.get(name)
    defaults = divergence.options
    for key, value in options.items():
        if key not in defaults:
            known = f"it has {', '.join(defaults)}" if defaults else "it has none"
            hint = f"; {did_you_mean(key, defaults)}" if defaults else ""
            raise UserError(f"loss {name!r} has no option {key!r}: {known}{hint}")
        named = isinstance(defaults[key], str)
        if isinstance(value, bool) or isinstance(value, str) != named:
            kind = "a name" if named else "a number"
            raise UserError(f"option {key} of loss {name!r} is {value!r}, expected {kind} such as {defaults[key]}")
    # The functions check their own ranges; no rows make that free.
    nothing = torch.zeros(0, 2)
    extras = {"labels": (torch.zeros(0, dtype=torch.long),), "temperature": (1.0,), "student_written": (None,)}
    divergence.plain(nothing, nothing, *extras.get(divergence.extra or "", ()), **options)
