"""Student-written answers: which answers are replaced, how they are written, paired with the teacher, kept and drawn again."""

from taid_vlm.training.on_policy.replacing import OnPolicy

__all__ = ["OnPolicy"]
