"""Memory that runs out: how it shows, and attempts that may end so."""

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_SAID_OF_MEMORY = (
    "out of memory",
    "defaultcpuallocator",  # torch's own, on CPUs
    "alloc_failed",  # cuBLAS, cuDNN and others find no room for what they work in
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, an accelerator or torch's CPU allocator ran out of memory (``torch.OutOfMemoryError`` is a RuntimeError)."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(one in text for one in _SAID_OF_MEMORY)
    )


def unless_out_of_memory(attempt: Callable[[], T]) -> T | None:
    """What ``attempt`` returns, None when memory ran out; what it held is free then.

    Whole frames of tensors hang on the exception, so it ends here.
    """
    try:
        return attempt()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    free()
    return None


def free() -> None:
    """Give back what nothing refers to."""
    gc.collect()
    # Only a process that loaded torch has a cache of its to empty.
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
