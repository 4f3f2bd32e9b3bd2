"""Axes: where a value lies on a line of pixels, and which values are written beside it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Values ``low`` to ``high`` on pixels ``start`` to ``end``; on a logarithmic one both are above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value; beyond the ends for values beyond them."""
        low, high, at = self._inner(self.low), self._inner(self.high), self._inner(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """At most so many round values between the ends, and at least two."""
        if self.log:
            return self._decades(most)
        finest = nice_step((self.high - self.low) / most)
        ticks = self._multiples(finest)
        return ticks if len(ticks) <= most else self._multiples(nice_step(1.01 * finest))

    def _multiples(self, step: float) -> list[float]:
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
            inside = [value for value in found if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            if len(inside) <= most:
                break
        inside = inside[:: -(-len(inside) // most)] if inside else []
        if len(inside) >= 2:
            return inside
        return [value for value in Scale(self.low, self.high, 0, 1).ticks(most) if value > 0]

    def _inner(self, value: float) -> float:
        return math.log10(value) if self.log else value


def fitted(values: Iterable[float], start: float, end: float, *, log: bool = False, margin: float = 0.04) -> Scale:
    """The scale that holds all values with some air; values that it cannot show do not count."""
    shown = [value for value in values if shows(value, log)]
    if not shown:
        return Scale(1.0, 10.0, start, end, True) if log else Scale(0.0, 1.0, start, end)
    low, high = min(shown), max(shown)
    if log:
        air = max((high / low) ** margin, 1.02)
        return Scale(low / air, high * air, start, end, True)
    air = (high - low) * margin if high > low else abs(high) * 0.1 or 1.0
    return Scale(low - air, high + air, start, end)


def shows(value: float, log: bool) -> bool:
    """Whether a value has a place on an axis."""
    return math.isfinite(value) and (value > 0 or not log)


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def short(value: float) -> str:
    """A figure for people: four digits, and k, M or G for large ones."""
    if not math.isfinite(value):
        return str(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g} {letter}"
    return f"{value:.4g}"
