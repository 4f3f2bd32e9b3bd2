"""Training: the loop, its checkpoints, the teacher cache and the log. Loaded on first use."""

from typing import TYPE_CHECKING, Any

__all__ = ["train"]

if TYPE_CHECKING:
    from taid_vlm.training.loop import train


def __getattr__(name: str) -> Any:
    if name == "train":
        from taid_vlm.training.loop import train

        return train
    raise AttributeError(f"module 'taid_vlm.training' has no attribute {name!r}")
