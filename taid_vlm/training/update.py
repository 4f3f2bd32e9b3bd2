"""One optimizer step over the micro-batches of all processes, and what is written down of it."""

import time
from typing import Any

import torch

from taid_vlm.common.errors import UserError
from taid_vlm.data import REASONS, PairedBatch, dropped_by_reason
from taid_vlm.losses import means
from taid_vlm.training.peak_memory import peak_memory
from taid_vlm.training.run_state import RunState
from taid_vlm.training.step import figures_of, loss_of, reversal_of
from taid_vlm.training.zero_state import gathered


class Update:
    """Takes the steps of a run: gradients of a loss that is a mean over the answer rows of all processes, the weights, the clock."""

    def __init__(self, state: RunState) -> None:
        self.state = state

    def __call__(self, batches: list[PairedBatch], started: float, waited: float) -> None:
        """The next step.

        Args:
            batches: its micro-batches of this process.
            started, waited: when the step began, as ``time.perf_counter`` has it, and seconds that it waited for its data.

        Raises:
            UserError: too many steps in a row could not be taken.
        """
        state = self.state
        (rows,) = state.sum([float(sum(len(batch.labels) for batch in batches))])
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches):
            with state.distribution.micro_batch(state.module, last=index + 1 == len(batches)):
                for name, value in self._forward_backward(batch, max(rows, 1.0)).items():
                    totals[name] = totals.get(name, 0.0) + value
        everywhere = state.sum(list(totals.values()))
        figures = means(dict(zip(totals, everywhere, strict=True)), rows)
        t = state.setup.clock.t
        norm, rates, sound = self._change_weights(rows, figures["loss"])
        if not state.options.overflowed:
            signal = figures.get(state.recipe.loss.clock_signal, figures["loss"])
            state.setup.clock.update(signal if sound else None, state.progress.step)
        state.progress.step += 1
        tokens = self._count(batches)
        figures = {
            **figures,
            "grad_norm": norm,
            "rows": rows,
            **self._method_figures(t),
            **rates,
            **self._other_figures(),
        }
        state.log.step(state.progress.step, figures, self._speed(tokens, started, waited))
        missed = not sound and not state.options.overflowed
        state.progress.skipped_in_a_row = state.progress.skipped_in_a_row + 1 if missed else 0
        if missed:
            self._skipped(figures, batches)

    def _forward_backward(self, batch: PairedBatch, rows: float) -> dict[str, float]:
        state = self.state
        recipe, world = state.recipe, state.distribution.world
        reversal = reversal_of(recipe.loss, state.progress.step, recipe.training.steps)
        out = loss_of(state.setup, state.module, batch, state.distribution.device, state.setup.clock.t, reversal)
        # Data-parallel training averages over processes; the loss is a sum over the rows of all of them.
        loss = state.options.scale(out.loss * (world / rows))
        with state.setup.watch("backward"):
            state.distribution.backward(loss)
        return figures_of(out)

    def _change_weights(self, rows: float, loss: float) -> tuple[float, dict[str, float], bool]:
        """The norm of the gradient, the rates of the step, and whether it could be taken."""
        state = self.state
        optimizer: Any = state.trained.optimizer
        with state.setup.watch("optimizer"):
            state.options.unscale(optimizer)
            norm = state.distribution.clip(self._learning(), state.recipe.training.max_grad_norm)
            sound = state.options.step(optimizer, rows, loss, norm)
            optimizer.zero_grad()
        rates = {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}
        state.trained.schedule.step()
        return norm, rates, sound

    def _count(self, batches: list[PairedBatch]) -> float:
        """Tokens of the student in this step, those of all processes; samples that were left out are added to the run's."""
        state = self.state
        seen = sum(int(batch.student.attention_mask.sum()) for batch in batches)
        tokens, *dropped = state.sum([float(seen), *map(float, dropped_by_reason(batches))])
        for reason, count in zip(REASONS, dropped, strict=True):
            if count:
                state.progress.dropped[reason] = state.progress.dropped.get(reason, 0) + int(count)
        return tokens

    def _method_figures(self, t: float) -> dict[str, float]:
        """Of TAID's clock in this step, and of CTKD's temperature after it."""
        state = self.state
        figures: dict[str, float] = {}
        if state.recipe.loss.name == "taid":
            figures = {"t": t, "momentum": state.setup.clock.momentum}
        if state.trained.temperature is not None:
            with gathered(state.trained.temperature.parameters()):
                figures["temperature"] = float(state.trained.temperature(0.0).detach())
        return figures

    def _other_figures(self) -> dict[str, float]:
        state = self.state
        figures = {"dropped": float(sum(state.progress.dropped.values())), "skipped": float(state.setup.clock.skipped)}
        written = {} if state.on_policy is None else state.on_policy.figures(state.sum)
        return figures | state.options.figures() | written

    def _speed(self, tokens: float, started: float, waited: float) -> dict[str, float]:
        seconds = time.perf_counter() - started
        speed = {"seconds": seconds, "data_seconds": waited, "tokens_per_second": tokens / seconds}
        parts = {f"seconds_{name}": spent for name, spent in self.state.setup.watch.split().items()}
        return speed | parts | {"memory_bytes": float(peak_memory(self.state.distribution.device))}

    def _skipped(self, figures: dict[str, float], batches: list[PairedBatch]) -> None:
        """Write down what was in a step that could not be taken, and give up after too many.

        Raises:
            UserError: the loss or its gradient was not finite in ``max_skipped`` steps in a row.
        """
        state, progress = self.state, self.state.progress
        ids = [name for some in state.distribution.gather([n for batch in batches for n in batch.ids]) for name in some]
        file = state.log.skipped(progress.step, figures, ids)
        if progress.skipped_in_a_row < state.recipe.training.max_skipped:
            return
        if not figures["rows"]:
            raise UserError(
                f"no sample could be used in {progress.skipped_in_a_row} steps in a row; left out so far, by reason: "
                f"{progress.dropped_by_reason()}"
            )
        raise UserError(
            f"the loss or its gradient was not finite in {progress.skipped_in_a_row} steps in a row; the last samples: "
            f"{', '.join(ids[:8])}; all of them are in {file}; lower training.lr, or look at these samples"
        )

    def _learning(self) -> list[torch.nn.Parameter]:
        return [p for p in self.state.setup.student.parameters() if p.requires_grad]
