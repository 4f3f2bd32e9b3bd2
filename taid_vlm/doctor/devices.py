"""Processor and GPUs: memory, speed of a matrix product in fp32 and bf16, and which attention kernels run."""

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
SECONDS = 0.15  # of each timing


@dataclass(frozen=True)
class Device:
    """One place where tensors can be.

    Attributes:
        memory: bytes in all; None where that is not known.
        free: bytes that are free now.
        fp32, bf16: GFLOP/s of a matrix product; None where the dtype does not run.
        attention: kernels of scaled_dot_product_attention that run a causal forward and backward in bf16.
    """

    name: str
    kind: str
    memory: int | None
    free: int | None
    fp32: float | None
    bf16: float | None
    attention: tuple[str, ...]

    @property
    def bf16_is_faster(self) -> bool:
        """By the quarter that ``training.precision: auto`` asks for on a processor."""
        return self.fp32 is not None and self.bf16 is not None and self.bf16 > 1.25 * self.fp32


def devices() -> tuple[Device, ...]:
    """The processor, and every GPU that torch sees."""
    total, free = _memory()
    found = [_device(torch.device("cpu"), f"processor, {os.cpu_count()} cores", total, free, 512)]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(_device(torch.device("cuda", index), torch.cuda.get_device_name(index), total, free, 4096))
    if torch.backends.mps.is_available():
        found.append(_device(torch.device("mps"), "Apple GPU", None, None, 1024))
    return tuple(found)


def _device(device: torch.device, name: str, memory: int | None, free: int | None, size: int) -> Device:
    fp32, bf16 = (_speed(device, dtype, size) for dtype in (torch.float32, torch.bfloat16))
    kernels = tuple(kernel for kernel, backend in BACKENDS.items() if _attends(device, backend))
    return Device(name, str(device), memory, free, fp32, bf16, kernels)


def _speed(device: torch.device, dtype: torch.dtype, size: int) -> float | None:
    """GFLOP/s of the fastest product of two [size, size] matrices within SECONDS."""
    try:
        left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
        _wait(left @ right)  # the first one prepares
    except RuntimeError:
        return None
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        start = time.perf_counter()
        _wait(left @ right)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9 if best < float("inf") else None


def _wait(product: torch.Tensor) -> None:
    product[0, 0].item()  # on a GPU the product is done when its value is here


def _attends(device: torch.device, backend: SDPBackend) -> bool:
    try:
        query = torch.ones(1, 2, 16, 32, dtype=torch.bfloat16, device=device, requires_grad=True)
        with warnings.catch_warnings(), sdpa_kernel([backend]):
            warnings.simplefilter("ignore")  # each refusal is explained at length
            scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()
    except RuntimeError:
        return False
    return True


def _memory() -> tuple[int | None, int | None]:
    file = Path("/proc/meminfo")
    if not file.exists():
        return None, None
    rows = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    total, free = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, free
