"""Students as checkpoints that stock runtimes load, each proven by reloading in a fresh process."""

from taid_vlm.export.language_model import export_language_model

__all__ = ["export_language_model"]
