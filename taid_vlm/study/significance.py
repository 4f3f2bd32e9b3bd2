"""Means over seeds with their intervals, paired tests, and the correction for many of them.

Runs of the same seed meet the same data in the same order and start alike, so methods are compared seed by seed. Few seeds bound what a test can
say: by flipping signs, five differences that all agree have p = 1/16, and nothing below it exists.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

# 97.5 % quantiles of Student's t by degrees of freedom, from 1 on; beyond them the last is a little too wide.
T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
    2.093,
)
RESAMPLES = 4000


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half of its 95 % t-interval; None with a single value."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), None
    t = T_975[min(count - 2, len(T_975) - 1)]
    return float(np.mean(values)), float(t * np.std(values, ddof=1) / np.sqrt(count))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Exact two-sided p that paired differences are as likely of either sign: the share of all flips with a mean at least as far from 0."""
    given = np.asarray(differences, dtype=np.float64)
    signs = np.array(list(product((-1.0, 1.0), repeat=len(given))))
    # Rounding must not make the differences themselves look closer to 0 than they are.
    return float(np.mean(np.abs(signs @ given) >= abs(given.sum()) * (1 - 1e-12)))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p of each of several tests, such that rejecting those below a level errs anywhere with at most that probability.

    S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(np.argsort(ps, kind="stable")):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def paired_interval(
    first_SI: NDArray[np.float64], second_SI: NDArray[np.float64], weights_I: NDArray[np.float64], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of the difference of two weighted means, over seeds and items at once.

    Args:
        first_SI, second_SI: sums of each item in the run of each seed, [S, I]; the rows belong together.
        weights_I: what an item counts in the mean: 1, or its tokens.
    """
    difference_SI = first_SI - second_SI
    seeds, items = difference_SI.shape
    draws = np.random.default_rng(seed)
    found = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        rows, columns = draws.integers(0, seeds, seeds), draws.integers(0, items, items)
        sums_I = difference_SI[rows].mean(axis=0)[columns]
        found[index] = sums_I.sum() / weights_I[columns].sum()
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
