"""Checkpoints of other layouts, converted by hand: ``taid-vlm convert``. The conversions themselves are in ``models``."""
