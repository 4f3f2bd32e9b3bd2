"""Colours of pages: what their style sheets say, and whether a reader can tell two apart."""

import re
from collections.abc import Sequence
from pathlib import Path


def colours_of(styles: Sequence[Path], dark: bool) -> dict[str, str]:
    """Names of colours with their values, such as ``{"page": "#ffffff"}``; later sheets win."""
    found: dict[str, str] = {}
    for path in styles:
        light, *at_night = path.read_text(encoding="utf-8").split("@media (prefers-color-scheme: dark)")
        found |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", "".join(at_night) if dark else light))
    return found


def contrast(first: str, second: str) -> float:
    """Ratio of the Web Content Accessibility Guidelines 2.1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)
