"""What is kept of a teacher at a row: its hidden state, exact for every loss, or its K most likely tokens.

Shapes: R rows, D the teacher's hidden size, U its vocabulary, K tokens kept.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TopK
from taid_vlm.losses.inputs import Head
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe.teacher_cache import TeacherCache as CacheSpec

# Logits of so many bytes are looked at together when the most likely tokens are taken.
LOGITS = 64 * 2**20


class Form(Protocol):
    """One way to keep the states of a row.

    Attributes:
        parts: names of the tensors of a sample, each ``[R, ...]``. needs_head: whether a loss needs the teacher's head beside them.
    """

    parts: ClassVar[tuple[str, ...]]
    needs_head: ClassVar[bool]

    @property
    def name(self) -> str:
        """What is on disk, in words; decides the folder."""
        ...

    def encode(self, hidden_RD: Tensor, teacher: Teacher) -> dict[str, Tensor]:
        """What is stored, on the CPU."""
        ...

    def decode(self, parts: dict[str, Tensor]) -> Tensor | TopK:
        """What a loss takes: hidden states in fp32, or a top-k teacher."""
        ...

    def no_rows(self, width: int) -> dict[str, Tensor]:
        """The parts of a sample without rows, for a teacher with hidden states of this width."""
        ...

    def row_bytes(self, width: int) -> int:
        """Bytes of a row."""
        ...


@dataclass(frozen=True)
class HiddenStates:
    """``[R, D]`` in float32, bfloat16 or float16."""

    dtype: str
    parts: ClassVar[tuple[str, ...]] = ("hidden",)
    needs_head: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """As the recipe has it."""
        return f"hidden states in {self.dtype}"

    def encode(self, hidden_RD: Tensor, teacher: Teacher) -> dict[str, Tensor]:
        """The states, rounded.

        Raises:
            UserError: a state is too large for float16.
        """
        stored = hidden_RD.to(getattr(torch, self.dtype))
        if self.dtype == "float16" and bool((stored.isinf() & hidden_RD.isfinite()).any()):
            raise UserError(
                f"a hidden state of the teacher is {float(hidden_RD.abs().max()):.3g}, float16 ends at 65504: set teacher.cache.dtype: "
                f"bfloat16 or float32"
            )
        return {"hidden": stored.cpu()}

    def decode(self, parts: dict[str, Tensor]) -> Tensor:
        """In fp32."""
        return parts["hidden"].float()

    def no_rows(self, width: int) -> dict[str, Tensor]:
        """``[0, D]``."""
        return {"hidden": torch.zeros(0, width, dtype=getattr(torch, self.dtype))}

    def row_bytes(self, width: int) -> int:
        """Of the states alone; the head is stored once."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return width * dtype.itemsize


@dataclass(frozen=True)
class MostLikely:
    """``[R, K]`` token ids (int32) and their log-probabilities over the whole vocabulary.

    Attributes:
        tail: how the other tokens are taken when it is read; not part of what is on disk.
    """

    k: int
    tail: str
    dtype: str
    parts: ClassVar[tuple[str, ...]] = ("ids", "log_probs")
    needs_head: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """As the recipe has it, without the tail rule."""
        return f"top {self.k} log-probabilities in {self.dtype}"

    def encode(self, hidden_RD: Tensor, teacher: Teacher) -> dict[str, Tensor]:
        """The likeliest tokens, found some rows at a time; under autocast, as the loss multiplies.

        Raises:
            UserError: k is larger than the vocabulary.
        """
        head = head_of(hidden_RD, teacher).in_compute_dtype()
        step = max(1, LOGITS // (4 * head.vocabulary))
        found = [
            TopK.of(head.logits(slice(start, start + step)), self.k, self.tail)
            for start in range(0, max(head.rows, 1), step)
        ]
        log_probs = torch.cat([one.log_probs for one in found]).to(getattr(torch, self.dtype))
        return {"ids": torch.cat([one.ids for one in found]).int().cpu(), "log_probs": log_probs.cpu()}

    def decode(self, parts: dict[str, Tensor]) -> TopK:
        """With the tail rule of the recipe."""
        return TopK(parts["ids"].long(), parts["log_probs"].float(), self.tail)

    def no_rows(self, width: int) -> dict[str, Tensor]:
        """``[0, K]``."""
        log_probs = torch.zeros(0, self.k, dtype=getattr(torch, self.dtype))
        return {"ids": torch.zeros(0, self.k, dtype=torch.int32), "log_probs": log_probs}

    def row_bytes(self, width: int) -> int:
        """The same for teachers of any width."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return self.k * (4 + dtype.itemsize)


def form_of(spec: CacheSpec) -> Form:
    """The form that a recipe asks for."""
    if spec.top_k is None or spec.tail is None:
        return HiddenStates(spec.dtype)
    return MostLikely(spec.top_k, spec.tail, spec.dtype)


def head_of(hidden_RD: Tensor, teacher: Teacher) -> Head:
    """The teacher's head at some rows, as the loss sees it."""
    scaling = teacher.model.logit_scaling
    return Head(hidden_RD, teacher.head_weight, teacher.head_bias, scaling.scale, scaling.softcap)
