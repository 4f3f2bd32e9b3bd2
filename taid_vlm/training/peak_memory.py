"""How much memory a run has taken at most."""

import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Bytes, since the process began: tensors on a GPU, or on a CPU the whole process; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
