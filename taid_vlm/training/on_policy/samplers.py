"""Whose answer a sample is taught on: the data set's, one that the student writes now, or one that it wrote before."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from taid_vlm.common.registry import Registry
from taid_vlm.recipe.on_policy import OnPolicySpec


class Choice(NamedTuple):
    """What is done for a sample; neither leaves it as it is.

    Attributes:
        writes: the student answers its question. replays: it is replaced by a draw of the replay buffer.
    """

    writes: bool
    replays: bool


DATASET, FRESH, REPLAYED, BOTH = Choice(False, False), Choice(True, False), Choice(False, True), Choice(True, True)


class Sampler(Protocol):
    """How choices are made."""

    @property
    def threshold(self) -> float:
        """Probability that an answer is the student's."""
        ...

    @property
    def needs_baseline(self) -> bool:
        """Whether the held-out loss before training is still to be told."""
        ...

    def choose(self, number: float, done: float, full: bool) -> Choice:
        """Choose by a random number.

        Args:
            done: share of the run's steps that are done. full: whether the replay buffer is.
        """
        ...

    def validated(self, loss: float) -> None:
        """Be told a held-out loss."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What changes in the course of a run."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        ...


SAMPLERS: Registry[Callable[[OnPolicySpec], Sampler]] = Registry("on_policy.sampler")


@SAMPLERS.register("mixed")
class Mixed:
    """A fixed share (GKD, arXiv 2306.13649, Algorithm 1).

    With a buffer, what is written goes into it, and draws of it are learnt from, as in the TAID authors' code.
    """

    needs_baseline = False

    def __init__(self, spec: OnPolicySpec) -> None:
        self.threshold, self._own = spec.share, BOTH if spec.capacity else FRESH

    def choose(self, number: float, done: float, full: bool) -> Choice:
        """See :class:`Sampler`."""
        return self._own if number < self.threshold else DATASET

    def validated(self, loss: float) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing changes."""


@SAMPLERS.register("adaptive")
class Adaptive:
    """A share that rises with the held-out loss, and old answers the more the longer the run is (DistiLLM, arXiv 2402.03898, section 3.2).

    New answers are written with probability threshold * (1 - done), and always while the buffer is not full.
    """

    def __init__(self, spec: OnPolicySpec) -> None:
        self._spec = spec.adaptive
        self._rises = 0  # counted, for a sum of tenths is not exact
        self._compared: float | None = None

    @property
    def threshold(self) -> float:
        """See :class:`Sampler`."""
        return min(1.0, self._spec.start + self._rises * self._spec.rise)

    @property
    def needs_baseline(self) -> bool:
        """See :class:`Sampler`."""
        return self._compared is None

    def choose(self, number: float, done: float, full: bool) -> Choice:
        """See :class:`Sampler`."""
        if number >= self.threshold:
            return DATASET
        return FRESH if number < self.threshold * (1 - done) or not full else REPLAYED

    def validated(self, loss: float) -> None:
        """The share rises when the loss has risen by the tolerance, and only then is the next one compared with this one."""
        if not math.isfinite(loss):
            return
        if self._compared is None:
            self._compared = loss
        elif loss >= self._compared + self._spec.tolerance:
            self._rises += 1
            self._compared = loss

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Sampler`."""
        return {"rises": self._rises, "compared": self._compared}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Sampler`."""
        self._rises, self._compared = state["rises"], state["compared"]
