"""Versions of the packages that decide a run's numbers."""

from importlib.metadata import PackageNotFoundError, version

import taid_vlm


def versions() -> dict[str, str]:
    """Of this package, and of those that compute."""
    found = {"taid-vlm": taid_vlm.__version__}
    for name in ("torch", "transformers", "timm", "accelerate", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
