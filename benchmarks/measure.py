"""Time and memory of one call, and what they were measured on."""

import ctypes
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

PACKAGES = ("torch", "liger-kernel", "trl", "torchtune", "torchao", "triton", "transformers")


def seconds(run: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of ``run``, on a GPU until its work is done."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def extra_bytes(run: Callable[[], object], device: str) -> int:
    """Growth of memory at its highest point during ``run`` over what is held before it.

    On a GPU the allocator counts. On a CPU the kernel does: Linux keeps the highest resident size of a process and
    resets it on request, so that nothing is sampled and no peak can be missed. Free memory is given back first.
    """
    gc.collect()
    if device == "cuda":
        _wait(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        _wait(device)
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def summary(samples: list[float]) -> dict[str, Any]:
    """Median, range and the samples themselves."""
    return {"median": median(samples), "min": min(samples), "max": max(samples), "samples": samples}


def hardware(device: str) -> dict[str, Any]:
    """Processor, threads and versions."""
    about: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            about[package] = None
    return about


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no field {field}: memory is measured on Linux only")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
