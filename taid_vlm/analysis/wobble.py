"""How much a figure of training changes from one step to the next beside its trend, with intervals.

The measure is von Neumann's: half the mean square of the differences of neighbours. For noise without memory around any smooth trend it is
the variance of the noise, and it needs no model of the trend. Relative to the figure itself it can be compared between losses of different size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BLOCK = 10  # neighbours that are drawn together, since neighbouring differences share a value
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Wobble:
    """Of some steps in a row.

    Attributes:
        mean: of the figure. deviation: of its noise, in its own unit.
        variation: deviation relative to the figure, step by step. interval: its 95 % interval.
    """

    mean: float
    deviation: float
    variation: float
    interval: tuple[float, float]


def relative_steps(values_N: Array) -> Array:
    """Differences of neighbours over sqrt(2) and over their mean, [N - 1]; the mean square is the squared variation.

    Where the two are not positive together there is no such ratio, and the step counts nothing.
    """
    sums_N = values_N[1:] + values_N[:-1]
    gaps_N = np.diff(values_N) / np.sqrt(2)
    steps_N: Array = np.divide(2 * gaps_N, sums_N, out=np.zeros_like(gaps_N), where=sums_N > 0)
    return steps_N


def wobble(values: Sequence[float], seed: int = 0) -> Wobble:
    """Measure some steps in a row, at least two."""
    values_N = np.asarray(values, dtype=np.float64)
    squares_N = relative_steps(values_N) ** 2
    drawn_R = np.sqrt(squares_N[draws(len(squares_N), seed)].mean(axis=1))
    low, high = np.quantile(drawn_R, [0.025, 0.975])
    return Wobble(
        float(values_N.mean()),
        float(np.sqrt((np.diff(values_N) ** 2).mean() / 2)),
        float(np.sqrt(squares_N.mean())),
        (float(low), float(high)),
    )


def ratio(first: Sequence[float], second: Sequence[float], seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Variation of the first over that of the second, and its 95 % interval with the same steps drawn of both.

    Args:
        first, second: the figure of the same steps of two runs; both vary.
    """
    squares_2N = [relative_steps(np.asarray(values, dtype=np.float64)) ** 2 for values in (first, second)]
    chosen_RN = draws(len(squares_2N[0]), seed)
    drawn_2R = [np.sqrt(squares_N[chosen_RN].mean(axis=1)) for squares_N in squares_2N]
    low, high = np.quantile(drawn_2R[0] / np.maximum(drawn_2R[1], 1e-300), [0.025, 0.975])
    point = float(np.sqrt(squares_2N[0].mean() / max(float(squares_2N[1].mean()), 1e-300)))
    return point, (float(low), float(high))


def draws(count: int, seed: int) -> NDArray[np.int64]:
    """Places of a block bootstrap, [RESAMPLES, count]: blocks of neighbours with replacement, around the end to the start."""
    block = min(BLOCK, max(1, count // 4))
    blocks = -(-count // block)
    starts = np.random.default_rng(seed).integers(0, count, (RESAMPLES, blocks))
    places = (starts[:, :, None] + np.arange(block)) % count
    chosen: NDArray[np.int64] = places.reshape(RESAMPLES, -1)[:, :count]
    return chosen
