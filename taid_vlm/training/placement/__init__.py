"""Where the teacher's weights are: whole on each process, in shards, in the processor's memory, or quantized."""

from taid_vlm.training.placement.place import place_teacher, share_teacher

__all__ = ["place_teacher", "share_teacher"]
