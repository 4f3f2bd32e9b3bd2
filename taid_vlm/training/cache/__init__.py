"""What a teacher says at the answer rows, computed once and kept on disk."""

from taid_vlm.training.cache.store import TeacherCache

__all__ = ["TeacherCache"]
