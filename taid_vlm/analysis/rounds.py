"""Distillation again and again in a model that can be solved: regression in a reproducing-kernel Hilbert space.

A student sees K labels y and takes, of all functions with a mean squared error of at most ``tolerance``, the one of least norm (Mobahi et
al., "Self-Distillation Amplifies Regularization in Hilbert Space", arXiv 2002.05715). With the Gram matrix G = V diag(d) V^T its values
on the data are V diag(d / (d + c)) V^T y, where the multiplier c > 0 makes the error just the tolerance. Where the labels' norm is at
most sqrt(K tolerance), the zero function is within the tolerance and has the least norm of all: the student has collapsed.

Labels, targets and fits are given by their coefficients in V; norms count in units of the radius sqrt(K tolerance).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry

Array = NDArray[np.float64]
FLOOR = 1e-12  # of eigenvalues, as a share of the largest: below it is rounding
HALVINGS = 52  # of a bracket in log c that is some tens wide
KERNELS: Registry[Callable[[Array], Array]] = Registry("kernel")


@dataclass(frozen=True)
class Data:
    """Places in (0, 1), the function behind the labels, and the labels, all [K]; the spectrum of the kernel on the places.

    Attributes:
        values: eigenvalues d of the Gram matrix, [K]. basis: its eigenvectors, one a column, [K, K].
    """

    x: Array
    truth: Array
    labels: Array
    values: Array
    basis: Array

    @property
    def coefficients(self) -> Array:
        """The labels in the basis."""
        coefficients_K: Array = self.basis.T @ self.labels
        return coefficients_K


@dataclass(frozen=True)
class Round:
    """One fit.

    Attributes:
        t: the teacher's share in its target. target, fitted: norms in radii.
        error: mean squared distance of the fit from the function behind the labels.
        freedom: trace of the map from labels to fit, "effective degrees of freedom".
        directions: how many basis functions share that map: (sum s)^2 / sum s^2 of its K factors s; 0 after a collapse.
        collapsed: the target was within the tolerance of zero.
        fit: at the places, [K].
    """

    t: float
    target: float
    fitted: float
    error: float
    freedom: float
    directions: float
    collapsed: bool
    fit: Array


def make_data(points: int, kernel: str, noise: float, seed: int) -> Data:
    """Labels sin(2 pi x) with normal noise at evenly spaced places."""
    if points < 2:
        raise UserError(f"points is {points}, expected at least 2")
    if not (noise >= 0 and math.isfinite(noise)):
        raise UserError(f"noise is {noise}, expected a finite number that is not below 0")
    x_K = np.arange(1, points + 1) / (points + 1)
    truth_K = np.sin(2 * np.pi * x_K)
    labels_K = truth_K + noise * np.random.default_rng(seed).standard_normal(points)
    values_K, basis_KK = np.linalg.eigh(KERNELS.get(kernel)(x_K))
    return Data(x_K, truth_K, labels_K, np.maximum(values_K, FLOOR * values_K.max()), basis_KK)


@KERNELS.register("bridge")
def _bridge(x_K: Array) -> Array:
    """min(x, x') - x x': the norm is the integral of f'^2, of functions that are 0 at both ends."""
    return np.minimum.outer(x_K, x_K) - np.outer(x_K, x_K)


@KERNELS.register("laplace")
def _laplace(x_K: Array) -> Array:
    """exp(-4 |x - x'|)."""
    laplace_KK: Array = np.exp(-4 * np.abs(np.subtract.outer(x_K, x_K)))
    return laplace_KK


@KERNELS.register("gaussian")
def _gaussian(x_K: Array) -> Array:
    """exp(-(x - x')^2 / (2 * 0.1^2)): very smooth functions."""
    gaussian_KK: Array = np.exp(-(np.subtract.outer(x_K, x_K) ** 2) / 0.02)
    return gaussian_KK


def multiplier(values_K: Array, target_K: Array, radius: float) -> float | None:
    """The c at which the fit d / (d + c) * target is just ``radius`` away from the target; None where the target is within it of 0.

    The distance rises with c. With all d equal to the smallest, or to the largest, c would be d * share / (1 - share), so it lies between.
    """
    squares_K = target_K**2
    norm = math.sqrt(float(squares_K.sum()))
    if norm <= radius:
        return None
    share = radius / norm
    odds = math.log(share) - math.log1p(-share)
    low, high = odds + math.log(values_K.min()), odds + math.log(values_K.max())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        c = math.exp(middle)
        left_K = c / (c + values_K)
        if left_K @ (left_K * squares_K) < radius * radius:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def distilled(data: Data, radius: float, shares: Sequence[float]) -> list[Round]:
    """A first fit to the labels, then one to each target (1 - t) * last fit + t * labels: the teacher knows the labels.

    Args:
        radius: sqrt(K tolerance).
        shares: t of each round after the first; 0 everywhere is self-distillation.
    """
    given_K = data.coefficients
    kept_K = np.zeros_like(given_K)  # factor between labels and fit in each direction
    found = []
    for t in (1.0, *shares):
        aim_K = (1 - t) * kept_K + t
        c = multiplier(data.values, aim_K * given_K, radius)
        kept_K = np.zeros_like(given_K) if c is None else data.values / (data.values + c) * aim_K
        found.append(_round(data, radius, t, aim_K, kept_K, c is None))
    return found


def _round(data: Data, radius: float, t: float, aim_K: Array, kept_K: Array, collapsed: bool) -> Round:
    given_K = data.coefficients
    fit_K = data.basis @ (kept_K * given_K)
    squares = float((kept_K**2).sum())
    return Round(
        t=t,
        target=float(np.linalg.norm(aim_K * given_K)) / radius,
        fitted=float(np.linalg.norm(kept_K * given_K)) / radius,
        error=float(((fit_K - data.truth) ** 2).mean()),
        freedom=float(kept_K.sum()),
        directions=float(kept_K.sum()) ** 2 / squares if squares else 0.0,
        collapsed=collapsed,
        fit=fit_K,
    )


def first_collapse(rounds: Sequence[Round]) -> int | None:
    """The first round that collapsed, the fit to the labels being round 0."""
    return next((index for index, one in enumerate(rounds) if one.collapsed), None)


def needed_norm(data: Data, shares: Sequence[float], precision: float = 1e-3) -> float:
    """The smallest norm of the labels, in radii, with which no round collapses.

    A larger norm only helps: with a smaller radius each c is smaller, so each target and each fit keeps more of every direction.
    """
    norm = float(np.linalg.norm(data.labels))
    low, high = 1.0, len(shares) + 1.001  # a round takes at most a radius off
    while high - low > precision * low:
        middle = (low + high) / 2
        if first_collapse(distilled(data, norm / middle, shares)) is None:
            high = middle
        else:
            low = middle
    return high
