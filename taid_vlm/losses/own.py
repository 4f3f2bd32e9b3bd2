"""A loss that a package of somebody's own brings (``docs/plug-ins.md``): a plain function is enough."""

import inspect
from functools import wraps
from typing import Any

from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.common.plug_ins import PlugIn
from taid_vlm.losses.methods import Divergence, Options


def as_divergence(plug_in: PlugIn, found: Any) -> Divergence:
    """What the entry point names, as a divergence.

    A function ``(student_logits_NV, teacher_logits_NV, **options) -> values_N`` is differentiated by autograd, a few rows at a time. A
    :class:`Divergence` is taken as it is.

    Raises:
        UserError: it is neither, or an option has no default.
    """
    if isinstance(found, Divergence):
        return found
    if not callable(found) or isinstance(found, type):
        raise UserError(
            f"{plug_in.what} is {found!r}, expected a function of (student_logits_NV, teacher_logits_NV, **options) that gives one value per "
            "row, or a taid_vlm.plug_ins.Divergence"
        )
    for option in list(inspect.signature(found).parameters.values())[2:]:
        if type(option.default) not in (int, float, str):
            raise UserError(f"option {option.name} of {plug_in.what} needs a default, a number or a name: give it one")

    @wraps(found)
    def one_value_per_row(student_logits_NV: Tensor, teacher_logits_NV: Tensor, **options: float | str) -> Tensor:
        values_N: Tensor = found(student_logits_NV, teacher_logits_NV, **options)
        if values_N.shape != student_logits_NV.shape[:1]:
            rows = len(student_logits_NV)
            raise UserError(
                f"{plug_in.what} gives values of shape {list(values_N.shape)} for {rows} rows, expected [{rows}]: one value per row, not "
                "their mean"
            )
        return values_N

    # Nothing is known of it where the teacher rules a token out.
    return Divergence(one_value_per_row, closed=None, without_support=_unknown)


def _unknown(options: Options) -> bool:
    return False
