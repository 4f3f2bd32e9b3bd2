"""The fallback export: any student, with the modelling code beside its weights (``code``)."""

from taid_vlm.export.custom.target import CUSTOM

__all__ = ["CUSTOM"]
