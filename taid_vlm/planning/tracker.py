"""Counts the memory and the arithmetic of code that runs on fake tensors.

Under ``FakeTensorMode`` every operation runs with shapes and dtypes alone: autograd saves what it would save, autocast
casts what it would cast, and nothing is computed. :class:`LiveStorages` watches which storages are alive meanwhile.
What it cannot see is memory inside one operation: packed matrices, convolution workspaces, and the allocator's slack.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

Scalar = Callable[[Tensor], bool | int | float]


class LiveStorages(TorchDispatchMode):
    """While active, the bytes of all storages that operations have made and that are still alive.

    A storage counts once, however many tensors share it, and under the label that was set when it was made.

    Args:
        scalar: answers ``tensor.item()``, for fake tensors hold no values.

    Attributes:
        live: bytes by label. peak: the highest sum. at_peak: ``live`` at that moment.
        flops: floating-point operations of matrix products, convolutions and attention; a multiply-add is two.
    """

    def __init__(self, scalar: Scalar | None = None) -> None:
        super().__init__()
        self.live: dict[str, int] = {}
        self.at_peak: dict[str, int] = {}
        self.peak = self.flops = 0
        self._label = "other"
        self._scalar = scalar
        self._known: dict[int, tuple[str, int]] = {}  # by the id of a storage that is alive

    @contextmanager
    def label(self, name: str) -> Iterator[None]:
        """What is made inside counts under ``name``."""
        before, self._label = self._label, name
        try:
            yield
        finally:
            self._label = before

    def hold(self, tensors: Iterable[Tensor], label: str) -> None:
        """Count tensors that were made outside, or move known ones to another label."""
        for tensor in tensors:
            self._forget(id(tensor.untyped_storage()))
            self._add(tensor, label)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and self._scalar is not None:
            return self._scalar(args[0])
        out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf, self._label)
        self.flops += _flops(func, args, kwargs, out)
        return out

    def _add(self, tensor: Tensor, label: str) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        # The Python object of a storage lives as long as the storage itself.
        weakref.finalize(storage, self._forget, key).atexit = False
        self._known[key] = (label, storage.nbytes())
        self.live[label] = self.live.get(label, 0) + storage.nbytes()
        total = sum(self.live.values())
        if total > self.peak:
            self.peak, self.at_peak = total, dict(self.live)

    def _forget(self, key: int) -> None:
        if key in self._known:
            label, size = self._known.pop(key)
            self.live[label] -= size


def _flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    packet = getattr(func, "overloadpacket", None)
    if packet in _CPU_ATTENTION:
        return _CPU_ATTENTION[packet](args)
    count = flop_registry.get(packet)
    return 0 if count is None else int(count(*args, **kwargs, out_val=out))


def _attention(args: Any) -> int:
    query, key, value = (tensor.shape for tensor in args[:3])
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(args: Any) -> int:
    gradient, query, key, value = (tensor.shape for tensor in args[:4])
    return int(sdpa_backward_flop_count(gradient, query, key, value))


# The registry has no entry for the CPU's kernels.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
