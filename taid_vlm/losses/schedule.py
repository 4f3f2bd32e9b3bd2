"""The clock of TAID: how ``t`` moves from t_start to t_end (arXiv 2501.16937, Algorithm 1).

The adaptive rule moves faster while the loss falls, and never slower than a straight line:

    delta = (previous_loss - loss) / previous_loss
    m     = beta * m + (1 - beta) * delta
    t     = min(t_end, max(t_linear, t + alpha * sigmoid(m) * (t_end - t)))

The clock is plain Python: it lives on no device, and moves only when ``update`` is called. Call it once per
optimizer step, on every rank, with the loss averaged over all tokens of that step; never in evaluation.
"""

import math
from collections.abc import Callable

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry

DEFAULT_ALPHA = 5e-4
# Of alpha * total_steps: t gains alpha / 2 of the way that is left, and leaves the line where that is more than its 1 / total_steps.
LINEAR_BELOW = 2
HELD_BACK = 0.1  # a sigmoid of the momentum, 1/2 at rest, below which the adaptive rule does little
STATE_KEYS = ("t", "momentum", "previous_loss", "updates", "skipped")


def linear_t(step: int, total: int, t_start: float, t_end: float) -> float:
    """The straight line: t_start at step 0, t_end at step ``total``, constant from there on."""
    return t_end if step >= total else min(t_end, t_start + (t_end - t_start) * step / total)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) that does not overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))


class TAIDClock:
    """Position ``t`` of the TAID target, with its schedule.

    Schedules, all but ``constant`` and ``set_point`` with the straight line as a floor:

    * ``adaptive``: the rule of the paper.
    * ``linear``: the straight line alone, "TAID without adaptive update".
    * ``exponential``: the adaptive rule with sigmoid(m) held at 1/2. In long runs the adaptive rule is nearly
      this curve, so it is the control that shows whether adaptivity did anything.
    * ``constant``: t stays at t_start, which may be 1 here (forward KL).
    * ``set_point``: an experiment of this toolkit, not the paper's, kept for the controlled study (docs/results/study.md), which
      did not find it better than the adaptive rule. t rises while the loss is below ``set_point`` nats
      and falls while it is above, by up to alpha: t + alpha * clip(1 - loss / set_point, -1, 1), from 0 to t_end. With
      KL(p_t || student) as loss, the target keeps its distance from the student however fast the student learns.

    Attributes:
        t: position to use for the next loss.
        momentum: running mean m of the relative change of the loss.
        previous_loss: loss of the last update; None before the first.
        updates: updates made. skipped: updates refused because the loss was missing or not finite.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        schedule: str = "adaptive",
        t_start: float = 0.4,
        t_end: float = 1.0,
        alpha: float | None = None,
        alpha_total: float | None = None,
        beta: float = 0.99,
        set_point: float | None = None,
    ) -> None:
        """
        Args:
            total_steps: optimizer steps of the whole run.
            schedule: name of a schedule, see the class.
            t_start, t_end: first and last position.
            alpha: rate per update, 5e-4 by default as in the paper's runs.
            alpha_total: rate of the whole run, ``alpha`` times ``total_steps``, instead of ``alpha``.
            beta: decay of the momentum.
            set_point: nats per token that the schedule ``set_point`` holds the loss at; of no other schedule.

        Raises:
            UserError: an argument is out of range, both rates are given, or the schedule is unknown or lacks its set point.
        """
        self._propose = SCHEDULES.get(schedule)
        self.schedule = schedule
        if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
            raise UserError(f"total_steps is {total_steps!r}, expected a number of optimizer steps, at least 1")
        _check_range("t_start", t_start, 0, 1)
        _check_range("t_end", t_end, 0, 1)
        _check_range("beta", beta, 0, 1)
        if schedule != "constant" and not t_start < t_end:
            raise UserError(
                f"t_start is {t_start} and t_end {t_end}, expected t_start < t_end: "
                f"swap them, or choose the schedule 'constant' to keep t at t_start"
            )
        self.set_point = _checked_set_point(schedule, set_point)
        self.total_steps, self.t_start, self.t_end, self.beta = total_steps, t_start, t_end, beta
        self.alpha = _rate_per_update(alpha, alpha_total, total_steps)
        self._clamped = alpha_total is not None and alpha_total > total_steps
        self.t = float(t_start)
        self.momentum = 0.0
        self.previous_loss: float | None = None
        self.updates = 0
        self.skipped = 0

    def update(self, loss: float | None, step: int) -> None:
        """Move after an optimizer step whose loss was computed with the present ``t``.

        Args:
            loss: loss of the step in nats per token. None (no tokens) or a non-finite value leaves everything
                but ``skipped`` as it is: one bad step must not poison t for the rest of the run.
            step: index of the optimizer step, from 0. The last is total_steps - 1, so t ends one step of the
                line short of t_end, as in the authors' code; pass index + 1 to reach t_end.
        """
        if loss is None or not math.isfinite(loss):
            self.skipped += 1
            return
        loss, momentum, previous = float(loss), self.momentum, self.previous_loss
        if previous is not None:
            delta = (previous - loss) / (previous + 1e-15)
            momentum = self.beta * momentum + (1 - self.beta) * delta
            if not math.isfinite(momentum):  # an absurd loss after a loss of 0
                self.skipped += 1
                return
        self.momentum, self.previous_loss = momentum, loss
        self.updates += 1
        if previous is not None:  # the first loss only sets the scale
            self.t = self._propose(self, step)

    def warnings(self) -> list[str]:
        """What a user should know before training with these settings."""
        found = []
        total = self.alpha * self.total_steps
        if self.schedule in ("adaptive", "exponential") and total < LINEAR_BELOW:
            found.append(
                f"the {self.schedule} schedule is exactly linear here: alpha * total_steps = "
                f"{self.alpha:g} * {self.total_steps} = {total:g}, and t leaves the straight line only above {LINEAR_BELOW}. "
                f"Set alpha_total (the paper's instruction runs have about 5.9), or choose 'linear' to say what happens"
            )
        if self.schedule == "set_point" and total < 1:
            found.append(
                f"t moves by at most alpha * total_steps = {self.alpha:g} * {self.total_steps} = {total:g} in the whole run, so the "
                f"set point is followed slowly. Set alpha_total to some units, such as 6"
            )
        if self._clamped:
            found.append(f"alpha_total over {self.total_steps} steps is more than 1 per update; 1 is used")
        return found

    def remarks(self) -> list[str]:
        """What a user should know after training: that momentum kept an adaptive t from rising faster than the line."""
        linear_anyway = self.alpha * self.total_steps <= LINEAR_BELOW
        if self.schedule != "adaptive" or linear_anyway or sigmoid(self.momentum) > HELD_BACK:
            return []
        return [
            f"the momentum of t is {self.momentum:.1f}, and with sigmoid({self.momentum:.1f}) near 0 the adaptive schedule adds next to nothing "
            f"to the straight line. Losses of neighbouring steps differ by factors: take more samples per step, or the schedule 'exponential'"
        ]

    def state_dict(self) -> dict[str, float | int | None]:
        """The state as numbers that survive JSON bit for bit; an unset previous loss is None."""
        return {key: getattr(self, key) for key in STATE_KEYS}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Take over a state made by ``state_dict``.

        Raises:
            UserError: keys are missing or unknown, or a value cannot be a state; the clock is then unchanged.
        """
        if set(state) != set(STATE_KEYS):
            raise UserError(
                f"the TAID clock's state has the keys {sorted(state)}, expected {sorted(STATE_KEYS)}: "
                f"resume from a checkpoint that this version wrote"
            )
        t, momentum, previous, updates, skipped = (state[key] for key in STATE_KEYS)
        _check_range("t of the TAID clock's state", t, 0, 1)
        _check_range("momentum of the TAID clock's state", momentum, -math.inf, math.inf)
        if previous is not None:
            _check_range("previous_loss of the TAID clock's state", previous, -math.inf, math.inf)
        for name, count in (("updates", updates), ("skipped", skipped)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise UserError(f"{name} of the TAID clock's state is {count!r}, expected a count")
        self.t, self.momentum, self.previous_loss = t, momentum, previous  # type: ignore[assignment]
        self.updates, self.skipped = updates, skipped  # type: ignore[assignment]


SCHEDULES: Registry[Callable[[TAIDClock, int], float]] = Registry("TAID schedule")


@SCHEDULES.register("adaptive")
def _adaptive(clock: TAIDClock, step: int) -> float:
    return _floored(clock, step, clock.alpha * sigmoid(clock.momentum))


@SCHEDULES.register("linear")
def _linear(clock: TAIDClock, step: int) -> float:
    return _floored(clock, step, 0.0)


@SCHEDULES.register("exponential")
def _exponential(clock: TAIDClock, step: int) -> float:
    return _floored(clock, step, clock.alpha * 0.5)


@SCHEDULES.register("constant")
def _constant(clock: TAIDClock, step: int) -> float:
    return clock.t


@SCHEDULES.register("set_point")
def _set_point(clock: TAIDClock, step: int) -> float:
    assert clock.set_point is not None
    assert clock.previous_loss is not None
    error = max(-1.0, 1 - clock.previous_loss / clock.set_point)  # it cannot pass 1: a KL is never below 0
    return min(clock.t_end, max(0.0, clock.t + clock.alpha * min(1.0, error)))


def _floored(clock: TAIDClock, step: int, rate: float) -> float:
    # (t_end - t) rather than the paper's (1 - t): the same at t_end = 1, and t slows down before any t_end.
    proposal = clock.t + rate * (clock.t_end - clock.t)
    return min(clock.t_end, max(linear_t(step, clock.total_steps, clock.t_start, clock.t_end), proposal))


def _checked_set_point(schedule: str, set_point: float | None) -> float | None:
    if (schedule == "set_point") != (set_point is not None):
        raise UserError(
            f"schedule is {schedule!r} and set_point {set_point}: the schedule 'set_point' needs a set_point in nats, such as 0.5, "
            f"and no other schedule has one"
        )
    if set_point is not None and not (set_point > 0 and math.isfinite(set_point)):
        raise UserError(f"set_point is {set_point}, expected a finite number of nats above 0")
    return set_point


def _rate_per_update(alpha: float | None, alpha_total: float | None, total_steps: int) -> float:
    if alpha is not None and alpha_total is not None:
        raise UserError(
            f"alpha is {alpha} and alpha_total {alpha_total}, expected one of them: alpha is the rate per "
            f"update, alpha_total that of the whole run; remove one"
        )
    if alpha_total is not None:
        if not (alpha_total >= 0 and math.isfinite(alpha_total)):
            raise UserError(f"alpha_total is {alpha_total}, expected at least 0 (the paper's is about 6)")
        return min(1.0, alpha_total / total_steps)
    rate = DEFAULT_ALPHA if alpha is None else alpha
    _check_range("alpha", rate, 0, 1)
    return rate


def _check_range(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and low <= value <= high):  # type: ignore[operator]
        span = f"from {low:g} to {high:g}" if math.isfinite(low) else "that is finite"
        raise UserError(f"{name} is {value!r}, expected a number {span}")
