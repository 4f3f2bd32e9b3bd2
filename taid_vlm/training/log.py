"""What a run writes down and shows.

``metrics.jsonl`` holds figures that depend on the data and the seed alone, so that a resumed run's file equals the undisturbed one's byte for
byte; speeds go to ``timing.jsonl``.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from taid_vlm.common.files import disk_errors, write_atomic
from taid_vlm.common.telling import for_terminal
from taid_vlm.training.evaluating import Score
from taid_vlm.training.trackers import tell

WAITING = 0.05  # share of the time that is spent waiting for data, above which it is shown


class RunLog:
    """Files, trackers and the progress bar of a run; silent on all processes but the first."""

    def __init__(
        self, run_dir: Path, accelerator: Accelerator, total: int, every: int, keep_bytes: int, step: int = 0
    ) -> None:
        self.accelerator, self.total, self.every = accelerator, total, every
        self.active = accelerator.is_main_process
        self.console = Console(stderr=True, quiet=not self.active)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(
            *columns, console=self.console, transient=True, disable=not (self.active and self.console.is_terminal)
        )
        self.metrics, self.timing = run_dir / "metrics.jsonl", run_dir / "timing.jsonl"
        self._skipped = run_dir / "skipped.jsonl"
        self.bytes = keep_bytes
        self.seconds = self.waited = 0.0
        self._told = _whole_lines(self.metrics)
        if self.active:
            # Lines after the checkpoint that the run goes on from will be written again.
            with disk_errors("the log", run_dir), open(self.metrics, "ab") as file:
                file.truncate(keep_bytes)
            for path in (self.timing, self._skipped):
                _keep_until(path, step)

    def __enter__(self) -> "RunLog":
        self.bar.start()
        self._line = self.bar.add_task("training", total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, step: int, figures: dict[str, float], speed: dict[str, float]) -> None:
        """One optimizer step; ``step`` counts from 1. ``speed``: seconds of it, by part, tokens per second, memory."""
        self._append(self.metrics, {"step": step, **figures})
        self._append(self.timing, {"step": step, **speed})
        self._tell({**figures, **speed}, step)
        left = (self.total - step) * speed["seconds"]
        t = f"  t {figures['t']:.3f}" if "t" in figures else ""
        note = f"loss {figures['loss']:.4f}{t}  {speed['tokens_per_second']:.0f} tokens/s"
        self.seconds, self.waited = self.seconds + speed["seconds"], self.waited + speed["data_seconds"]
        if self.waited > WAITING * self.seconds:
            note += f"  waits for data {self.waited / self.seconds:.0%} of the time"
        self.bar.update(self._line, completed=step, note=note)
        if not self.console.is_terminal and (step % self.every == 0 or step == self.total):
            self.console.print(f"step {step}/{self.total}  {note}  {left:.0f} s left", highlight=False, soft_wrap=True)

    def validation(self, step: int, figures: dict[str, float]) -> None:
        """Held-out figures, beside the training ones in ``metrics.jsonl``."""
        self._append(self.metrics, {"step": step, **{f"validation_{k}": v for k, v in figures.items()}})
        self._tell({f"validation/{k}": v for k, v in figures.items()}, step)
        shown = "  ".join(f"{k} {v:.4f}" for k, v in figures.items())
        self.say(f"step {step}: validation {shown}")

    def evaluation(self, step: int, scores: Mapping[str, Score], seconds: float) -> None:
        """Scores on tasks with their intervals, beside the training figures; their time is no step's."""
        figures = {
            f"{task}{end}": getattr(score, bound)
            for task, score in scores.items()
            for end, bound in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        self._append(self.metrics, {"step": step, **{f"evaluation_{k}": v for k, v in figures.items()}})
        self._append(self.timing, {"step": step, "evaluation_seconds": seconds})
        told = {f"evaluation/{k}": v for k, v in figures.items()}
        self._tell({**told, "evaluation_seconds": seconds}, step)
        shown = "  ".join(f"{task} {one.value:.4f} ({one.low:.4f} to {one.high:.4f})" for task, one in scores.items())
        self.say(f"step {step}: evaluation {shown}  in {seconds:.0f} s")

    def skipped(self, step: int, figures: dict[str, float], ids: list[str]) -> Path:
        """A step that was not taken, with the samples that were in it; returns the file it is written to."""
        row = {"step": step, "loss": figures["loss"], "grad_norm": figures["grad_norm"], "ids": ids}
        self._append(self._skipped, row)
        return self._skipped

    def parts(self, told: Sequence[str]) -> None:
        """What is trained of the student, a line for each part."""
        if self.active:
            write_atomic(self.metrics.parent / "trained.txt", "".join(f"{line}\n" for line in told))

    def sync(self) -> None:
        """Bring the figures so far to the disk, before a checkpoint says how many they are."""
        if self.active and self.metrics.exists():
            with disk_errors("the log", self.metrics.parent), open(self.metrics, "ab") as file:
                os.fsync(file.fileno())

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        self.console.print(for_terminal(text), highlight=False, markup=False, soft_wrap=True)

    def _tell(self, figures: dict[str, float], step: int) -> None:
        # The lines that an interrupted run wrote after its last checkpoint are written again as they were; trackers know them.
        if self.bytes > self._told:
            tell(self.accelerator, figures, step, self.say)

    def _append(self, path: Path, row: dict[str, Any]) -> None:
        if not self.active:
            return
        line = json.dumps(row) + "\n"
        with disk_errors("the log", path.parent), open(path, "a", encoding="utf-8") as file:
            file.write(line)
        if path == self.metrics:
            self.bytes += len(line.encode())


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last line that was written to its end."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def _keep_until(path: Path, step: int) -> None:
    """Drop the lines of later steps, and one that was not written to its end."""
    if not path.exists():
        return
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
    kept = "".join(line for line in whole if json.loads(line)["step"] <= step)
    if kept != path.read_text(encoding="utf-8"):
        write_atomic(path, kept)
