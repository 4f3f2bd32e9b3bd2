"""Which student is kept: held-out figures and scores on tasks, measured when they are due, and whether they are the best so far."""

import math
import time

from taid_vlm.common.errors import UserError
from taid_vlm.training.evaluating import Evaluations
from taid_vlm.training.run_state import RunState
from taid_vlm.training.signals import StopRequest
from taid_vlm.training.validation import validate


class Best:
    """Measures the student of a run, and remembers the step of the best in the run's progress.

    Args:
        evaluations: on tasks; None where nobody measures them.
    """

    def __init__(self, state: RunState, evaluations: Evaluations | None) -> None:
        self.state, self.evaluations = state, evaluations

    def validate(self) -> bool:
        """Measure the held-out samples; returns whether this student is the best so far and is to be kept.

        Raises:
            UserError: the figure that the recipe keeps the best of is not measured here.
        """
        state = self.state
        if state.setup.validation is None:
            return False
        figures = validate(state.setup, state.module, state.distribution)
        state.log.validation(state.progress.step, figures)
        if state.on_policy is not None:
            state.on_policy.validated(figures)
        kept, progress = state.recipe.training.keep_best, state.progress
        if kept is None:
            progress.figures = figures
        if kept is None or kept == "evaluation":
            return False
        if kept not in figures:
            raise UserError(f"training.keep_best: there is no held-out figure {kept!r}, found: {', '.join(figures)}")
        better = progress.best is None or figures[kept] < progress.best
        return better and math.isfinite(figures[kept]) and self._keeps(figures[kept], figures)

    def evaluation_is_due(self) -> bool:
        """Whether the student is to be measured on tasks, and has not been since its last step."""
        step = self.state.progress.step
        return self.evaluations is not None and self.evaluations.due(step) and self.state.progress.evaluated != step

    def evaluate(self, request: StopRequest) -> bool:
        """Measure the student on tasks, if that is due; returns whether it is the best so far and is to be kept."""
        if self.evaluations is None or not self.evaluation_is_due():
            return False
        state, progress, began = self.state, self.state.progress, time.perf_counter()
        scores = self.evaluations.measure(progress.step, lambda: request.asked is not None)
        if scores is None:  # asked to stop: the run that goes on does the rest
            return False
        progress.evaluated = progress.step
        state.log.evaluation(progress.step, scores, time.perf_counter() - began)
        deciding = next(iter(scores.values())).value
        better = progress.best is None or deciding > progress.best
        figures = {task: score.value for task, score in scores.items()}
        return state.recipe.training.keep_best == "evaluation" and better and self._keeps(deciding, figures)

    def _keeps(self, best: float, figures: dict[str, float]) -> bool:
        progress = self.state.progress
        progress.best, progress.best_step, progress.figures = best, progress.step, figures
        return True
