"""From the product of hidden states and head weight to logits, and back with the gradient, in place."""

from dataclasses import dataclass

import torch
from torch import Tensor

from taid_vlm.losses.inputs import Head


@dataclass(frozen=True)
class Products:
    """hidden @ weight.T of some rows, in the dtype of the multiplication: before bias, scale and softcap.

    Attributes:
        shared: [n, S] student, the shared columns; in the end the gradient with respect to itself.
        rest: [n, V - S] student, the other columns, likewise; None where there are none.
        teacher: [n, S] or None; overwritten.
        rows: which rows of the inputs these are.
    """

    shared: Tensor
    rest: Tensor | None
    teacher: Tensor | None
    rows: slice

    def tile(self, start: int, stop: int) -> "Products":
        """Some rows of these."""
        first = self.rows.start
        rest = None if self.rest is None else self.rest[start:stop]
        teacher = None if self.teacher is None else self.teacher[start:stop]
        stop = min(stop, len(self.shared))
        return Products(self.shared[start:stop], rest, teacher, slice(first + start, first + stop))


class Columns:
    """Logits of some rows and columns of one model.

    Args:
        product: [n, C] of the multiplication.
        head: the model's head of these columns.
        dtype: of the logits, at least fp32.
        buffers: two [n, C] of ``dtype`` to use where needed; made here when None.

    Attributes:
        logits: [n, C]; the memory of ``product`` where that has the dtype already.
    """

    def __init__(
        self, product: Tensor, head: Head, dtype: torch.dtype, buffers: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.product, self.head, self.dtype, self.buffers = product, head, dtype, buffers
        if product.dtype == dtype:
            self.logits = product
        else:
            self.logits = product.to(dtype) if buffers is None else buffers[0].copy_(product)
        if head.bias is not None:
            self.logits.add_(head.bias)
        if head.scale != 1:
            self.logits.mul_(head.scale)
        self.slope: Tensor | None = None
        if head.softcap is not None:
            self.logits.div_(head.softcap).tanh_()
            self.slope = torch.mul(self.logits, self.logits, out=None if buffers is None else buffers[1])
            self.slope.neg_().add_(1)  # dz/du of z = c tanh(u / c)
            self.logits.mul_(head.softcap)

    def store(self, gradient: Tensor) -> None:
        """Turn the gradient with respect to the logits into that with respect to the product, over the product."""
        if self.slope is not None:
            gradient = self.slope.mul_(gradient)
        if self.head.scale != 1:
            gradient = gradient.mul_(self.head.scale)
        if gradient.data_ptr() != self.product.data_ptr():
            self.product.copy_(gradient)
