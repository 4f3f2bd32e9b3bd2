"""When a student must and when it cannot collapse in the model of :mod:`taid_vlm.analysis.rounds`; derived in docs/analysis.md.

Norms count in radii sqrt(K tolerance); ``norm`` is that of the labels. Nothing here depends on the kernel.
"""

import math
from collections.abc import Sequence


def collapse_of_self_distillation(norm: float) -> tuple[int, int]:
    """First and last round in which self-distillation can collapse; it does so in one of them."""
    return max(0, math.ceil(norm - 1)), max(0, math.ceil(norm**2) - 1)


def targets_of_self_distillation(norm: float, rounds: int) -> list[tuple[float, float]]:
    """Least and largest norm of the target in each round from 0 on, as long as none has collapsed.

    A fit is just 1 away from its target, so its norm is lower by at most 1; and their product with each other is not negative, so its
    square is lower by at least 1.
    """
    return [(max(0.0, norm - n), math.sqrt(max(0.0, norm**2 - n))) for n in range(rounds + 1)]


def targets_of_taid(norm: float, shares: Sequence[float]) -> list[float]:
    """A norm that the target of each round, from 0 on, does not fall below; above 1 everywhere, no round can collapse.

    Fit and labels have the same sign in each direction, so the square of the target's norm is at least the sum of the squares of
    (1 - t) times the fit's and t times the labels'.
    """
    found, fitted = [norm], max(0.0, norm - 1)
    for t in shares:
        target = math.hypot((1 - t) * fitted, t * norm)
        found.append(target)
        fitted = max(0.0, target - 1)
    return found


def enough_for_taid(t_start: float, rounds: int) -> float | None:
    """A norm above which no round of TAID with the straight line collapses; None where no such bound is known.

    1 / t_start, since the target has at least t_start times the labels; and from 4 rounds on also 4 sqrt(rounds) + 1, where t starts at 0.
    """
    if t_start > 0:
        return 1 / t_start
    return 4 * math.sqrt(rounds) + 1 if rounds >= 4 else None
