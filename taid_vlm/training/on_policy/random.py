"""Random numbers by what they are for, never from a global state: a run that goes on draws what it would have drawn."""

import hashlib

import torch
from torch import Tensor


def generator_for(*key: int | str) -> torch.Generator:
    """A generator on the CPU that depends on the key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    # The generator of a CPU is seeded by 32 bits.
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def uniform(count: int, *key: int | str) -> Tensor:
    """``[count]`` numbers in fp64, from 0 to 1 (excluded)."""
    return torch.rand(count, generator=generator_for(*key), dtype=torch.float64)
