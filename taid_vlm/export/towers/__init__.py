"""Vision encoders as towers of transformers: exact conversions, never approximations."""

from taid_vlm.export.towers.convert import conversions, convert_tower, feature_survives, why_not

__all__ = ["conversions", "convert_tower", "feature_survives", "why_not"]
