"""The softmax part of a chunk on an NVIDIA GPU: one pass over both models' logits, one that writes the gradient.

| divergence | passes over the logits |
|---|---|
| none (sft), ``kl``, ``rkl``, TAID with either | two |
| ``tvd``, ``jsd``, ``sfkl``, ``srkl``, ``ab``, ``todi``, ``distillm2``, TAID with any of them | three: the sums of their slopes need both softmaxes first |
| ``adaptive_kl``, ``ctkd``, ``dkd``, ``amid``, and ``semantics: reference`` | not here: ``Tile``, by torch operations |

The last have a partial sort, a second softmax or a rule of their own for the label, and autograd.
"""

import warnings
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from taid_vlm.losses.columns import Columns, Products
from taid_vlm.losses.inputs import Head, LossInputs
from taid_vlm.losses.topk import TopKLogits

DEVICES = ("cuda",)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KINDS = {"": 0, "kl": 1, "rkl": 2, "tvd": 3, "jsd": 4, "sfkl": 5, "srkl": 6, "ab": 7, "todi": 8, "distillm2": 9}
# Columns of the array that ``row_figures`` fills: largest logit, log of the sum of exp(logit - largest), expectations
# under each softmax of logits less their largest, the label's logit, whether the top tokens agree.
FIGURES = (
    *("max_s", "log_s", "own_s", "label", "max_t", "log_t", "own_t", "t_of_s", "s_of_x", "agree"),
    *("max_m", "log_m", "own_m", "m_of_s"),
)
BLOCK = 4096


def wanted(inputs: LossInputs) -> bool:
    """Whether the kernels can take this objective here; says once what to install where only Triton is missing."""
    if inputs.student.hidden.device.type not in DEVICES:
        return False
    if inputs.spec.semantics == "reference" or _divergence(inputs) not in KINDS:
        return False
    return inputs.student.hidden.dtype in DTYPES and _kernels() is not None


class TritonTile:
    """As ``Tile``, for any number of rows and without buffers of its own."""

    def __init__(
        self, inputs: LossInputs, student: Head, teacher: Head | TopKLogits | None, wants_gradient: bool
    ) -> None:
        kernels = _kernels()
        assert kernels is not None
        self.inputs, self.teacher, self.kernels, self.wants_gradient = inputs, teacher, kernels, wants_gradient
        self.shared = student.columns(0, inputs.vocabulary)
        self.rest = student.columns(inputs.vocabulary, student.vocabulary)
        self.divergence = _divergence(inputs)
        at_rest = inputs.t == 0  # every divergence is least there, and rounding must not move the student
        self.kind = 0 if at_rest or not inputs.spec.kd_weight else KINDS[self.divergence]
        self.mixed = teacher is not None and 0 < inputs.t < 1
        self.temperature_slope = torch.zeros((), device=student.hidden.device)
        self.known: Tensor | None = None  # logits of a top-k teacher, as many rows as the first call has: the most

    def sums(self, products: Products) -> Tensor:
        """[k] sums in the order of ``tile.sum_names``; ``products`` become the gradient of the weighted loss."""
        n, device = len(products.shared), products.shared.device
        if isinstance(self.teacher, TopKLogits):
            if self.known is None:
                self.known = torch.empty(n, self.inputs.vocabulary, device=device)
            products = replace(products, teacher=self.teacher.write(self.known[:n], products.rows))
        labels = self.inputs.labels[products.rows]
        table = torch.empty(n, len(FIGURES), device=device)
        launch = _Launch(self, products, labels, table)
        launch.row_figures()
        figures = dict(zip(FIGURES, table.unbind(-1), strict=True))
        label_n, share_n, rest = figures["label"], torch.ones(n, device=device), None
        lse_n = figures["max_s"] + figures["log_s"]
        if products.rest is not None:
            rest = Columns(products.rest, self.rest, torch.float32)
            total_n = torch.logaddexp(lse_n, rest.logits.logsumexp(-1))
            share_n = (lse_n - total_n).exp()
            place_n = (labels - self.inputs.vocabulary).clamp(min=0)
            outside_n = labels >= self.inputs.vocabulary
            label_n = torch.where(outside_n, rest.logits.gather(-1, place_n.unsqueeze(-1)).squeeze(-1), label_n)
            if self.wants_gradient and self.inputs.spec.ce_weight:
                gradient = (rest.logits - total_n.unsqueeze(-1)).exp()
                gradient.scatter_add_(-1, place_n.unsqueeze(-1), -outside_n.unsqueeze(-1).to(gradient.dtype))
                rest.store(gradient.mul_(self.inputs.spec.ce_weight))
            lse_n = total_n
        found = [lse_n - label_n, figures["log_s"] - figures["own_s"]]
        slopes = torch.zeros(n, 2, device=device)
        if self.teacher is not None:
            found += self._with_teacher(figures, launch, slopes)
        if self.wants_gradient:
            launch.store_gradient(share_n, slopes, self._factor())
        return torch.stack([values_n.sum() for values_n in found])

    def _with_teacher(self, figures: dict[str, Tensor], launch: "_Launch", slopes_n2: Tensor) -> list[Tensor]:
        own_t, log_t, log_s = figures["own_t"], figures["log_t"], figures["log_s"]
        kl_teacher = own_t - log_t - (figures["t_of_s"] - log_s)
        entropy_t = log_t - own_t
        kl_target, entropy_x, log_x = kl_teacher, entropy_t, log_t
        if self.mixed:
            log_x, entropy_x = figures["log_m"], figures["log_m"] - figures["own_m"]
            kl_target = -entropy_x - (figures["m_of_s"] - log_s)
        elif self.inputs.t == 0:
            kl_target, entropy_x = torch.zeros_like(kl_teacher), log_s - figures["own_s"]
        found = [kl_target, kl_target + entropy_x, kl_teacher, entropy_t, figures["agree"]]
        if not self.inputs.spec.kd_weight:
            return found
        kd = torch.zeros_like(kl_teacher)
        if self.kind == KINDS["kl"]:
            kd = kl_target
            slopes_n2[:, 1] = -1
        elif self.kind == KINDS["rkl"]:
            kd = figures["own_s"] - log_s - (figures["s_of_x"] - log_x)
            slopes_n2[:, 1] = kd + 1
        elif self.kind:
            launch.row_divergence(slopes_n2)
            kd = self._factor() * slopes_n2[:, 0]
        return [*found, kd]

    def _factor(self) -> float:
        """DistiLLM-2 without rows that the student wrote is skew KL with a factor."""
        if self.inputs.spec.divergence == "distillm2" and self.divergence == "sfkl":
            return 2 - float(self.inputs.spec.options.get("student_weight", 1.0))
        return 1.0


class _Launch:
    """The kernels' many arguments for one chunk."""

    def __init__(self, tile: TritonTile, products: Products, labels_n: Tensor, table: Tensor) -> None:
        self.tile, self.kernels, self.table, self.labels = tile, tile.kernels, table, labels_n
        self.student = products.shared
        self.teacher = products.shared if products.teacher is None else products.teacher
        written = tile.inputs.student_written
        self.written = labels_n if written is None else written[products.rows].to(torch.int8)
        teacher = tile.shared if tile.teacher is None else tile.teacher
        self.heads = (tile.shared, teacher)
        self.columns = self.student.shape[1]
        block = 1 << max(4, (self.columns - 1).bit_length())
        self.block = min(BLOCK, block)

    def row_figures(self) -> None:
        """Fill the table of figures."""
        self._run(
            self.kernels.row_figures,
            (len(self.student),),
            (self.labels, self.table),
            (self.tile.inputs.t,),
            HAS_TEACHER=self.tile.teacher is not None,
        )

    def row_divergence(self, sums_n2: Tensor) -> None:
        """Values and slopes of the divergence, summed over each row."""
        self._run(
            self.kernels.row_divergence,
            (len(self.student),),
            (self.table, self.written, sums_n2),
            (self.tile.inputs.t, *self._options()),
            WRITTEN=self.tile.inputs.student_written is not None,
            KIND=self.tile.kind,
        )

    def store_gradient(self, share_n: Tensor, sums_n2: Tensor, factor: float) -> None:
        """Write the gradient over the student's products."""
        spec = self.tile.inputs.spec
        self._run(
            self.kernels.store_gradient,
            (len(self.student), -(-self.columns // self.block)),
            (self.labels, self.table, self.written, sums_n2, share_n),
            (self.tile.inputs.t, *self._options(), spec.kd_weight * factor, spec.ce_weight),
            HAS_TEACHER=self.tile.teacher is not None,
            WRITTEN=self.tile.inputs.student_written is not None,
            KIND=self.tile.kind,
        )

    def _options(self) -> tuple[float, float]:
        """The one or two numbers that the divergence has."""
        spec = self.tile.inputs.spec
        names = {"jsd": ("beta",), "ab": ("alpha", "beta")}.get(self.tile.divergence, ("skew", "student_weight"))
        usual = {"jsd": (0.1,), "ab": (0.2, 0.7)}.get(self.tile.divergence, (0.1, 1.0))
        found = [float(spec.options.get(name, default)) for name, default in zip(names, usual, strict=True)]
        return found[0], found[-1]

    def _run(self, kernel: Any, grid: tuple[int, ...], tensors: tuple[Tensor, ...], numbers: Any, **flags: Any) -> None:
        student, teacher = self.heads
        biases = [self.table if head.bias is None else head.bias for head in self.heads]
        kernel[grid](
            self.student,
            self.teacher,
            *biases,
            *tensors,
            self.student.stride(0),
            self.teacher.stride(0),
            self.columns,
            *(float(number) for number in numbers),
            student.scale,
            student.softcap or 1.0,
            teacher.scale,
            teacher.softcap or 1.0,
            **flags,
            MIXED=self.tile.mixed,
            S_BIAS=student.bias is not None,
            T_BIAS=teacher.bias is not None,
            S_CAP=student.softcap is not None,
            T_CAP=teacher.softcap is not None,
            COUNT=len(FIGURES),
            BLOCK=self.block,
            num_warps=8,
        )


def _divergence(inputs: LossInputs) -> str:
    """Name of the divergence, where special cases of one are another."""
    spec = inputs.spec
    if spec.divergence == "distillm2" and inputs.student_written is None:
        return "sfkl"
    if spec.divergence == "jsd" and spec.options.get("beta") in (0, 1):
        return "rkl" if spec.options["beta"] else "kl"
    return spec.divergence


@cache
def _kernels() -> ModuleType | None:
    try:
        from taid_vlm.losses import triton_kernels
    except ImportError as error:
        warnings.warn(
            f"Triton cannot be imported ({error}), so the loss takes several passes over the logits instead of two: "
            f"pip install triton",
            stacklevel=2,
        )
        return None
    return triton_kernels
