"""The student is measured on tasks in the middle of training, by an evaluation that is handed in, and training goes on as if it had not been.

A student whose weights are whole on every process is asked as it lives, and the processes share the questions. Of one in shards
the first process fills a copy and asks it alone: a sharded one would need all processes in step, word by word. The average of
the weights is measured in a copy as well.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from taid_vlm.common.modes import evaluating
from taid_vlm.models.assemble import build_student
from taid_vlm.models.language_model import use_attention
from taid_vlm.models.loaded import LoadedStudent
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import trained_state
from taid_vlm.recipe import Recipe
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.ema import WeightAverage
from taid_vlm.training.precision import autocast
from taid_vlm.training.setup import Setup

IN_SHARDS = ("fsdp2", "zero3")
AVERAGE = "ema"  # what stands before the figures of the average, and the folder of its results


@dataclass(frozen=True)
class Score:
    """A task's figure with its 95 % interval, from 0 to ``top``."""

    value: float
    low: float
    high: float
    top: float


class Evaluate(Protocol):
    """What measures a student. Processes that share the work call it at the same time with the same ``identity`` and ``folder``."""

    def __call__(
        self, model: LoadedStudent, identity: str, folder: Path, asked_to_stop: Callable[[], bool], *, finish: bool
    ) -> Mapping[str, Score] | None:
        """Scores by task, the deciding one first; None when it stopped because ``asked_to_stop`` said so.

        Args:
            identity: changes whenever an answer could; answers of the same identity that ``folder`` has are taken over.
            folder: where answers and results go.
            finish: False only answers what no other process has taken; what is returned does not count then.
        """
        ...


class Evaluations:
    """Measures the student of a run after every ``evaluation.every`` steps and after the last.

    Args:
        average: of the weights, measured as well.
        folder: gets ``step-NNNNNN`` for each time.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        recipe: Recipe,
        setup: Setup,
        distribution: Distribution,
        average: WeightAverage | None,
        folder: Path,
    ) -> None:
        self.evaluate, self.recipe, self.setup, self.distribution = evaluate, recipe, setup, distribution
        self.average = average if recipe.evaluation.ema else None
        self.folder = folder
        self._copy: Student | None = None

    def due(self, step: int) -> bool:
        """Whether the student is to be measured after a step."""
        every = self.recipe.evaluation.every
        return every is not None and step > 0 and (step % every == 0 or step == self.recipe.training.steps)

    def measure(self, step: int, asked_to_stop: Callable[[], bool]) -> dict[str, Score] | None:
        """The scores by task, those of the average behind them; the same on all processes, which must all call it.

        None when the evaluation stopped on the way; what was answered is kept.
        """
        distribution, student, folder = self.distribution, self.setup.student, self.folder / f"step-{step:06d}"
        in_shards = distribution.strategy in IN_SHARDS
        scores: dict[str, Score] = {}
        with undisturbed(student, self.setup.processor.tokenizer), autocast(distribution.device, self.setup.precision):
            whole = distribution.whole(trained_state(student)) if in_shards else None
            found = self._scores(whole, step, folder, asked_to_stop)
            if found is not None and self.average is not None:
                scores, averaged = found, distribution.whole(self.average.weights)
                found = self._scores(averaged, step, folder / AVERAGE, asked_to_stop)
                found = None if found is None else {f"{AVERAGE}/{task}": score for task, score in found.items()}
        return None if found is None else {**scores, **found}

    def _scores(
        self, weights: Mapping[str, Tensor] | None, step: int, folder: Path, asked_to_stop: Callable[[], bool]
    ) -> dict[str, Score] | None:
        """What the first process found, for all; ``weights`` are those of a copy, None asks the live student."""
        distribution, scores = self.distribution, None
        if distribution.main or distribution.strategy not in IN_SHARDS:
            student = self.setup.student if weights is None else self._filled(weights)
            with self._statistics_of_the_first(student):
                digest = weights_digest(trained_state(student))
                model = LoadedStudent(student, self.setup.processor, self.recipe.student, str(folder), digest)
                identity = f"step {step} {digest[:32]}"
                scores = self.evaluate(model, identity, folder, asked_to_stop, finish=distribution.main)
            if weights is not None:
                student.cpu()  # its place belongs to training
        found: dict[str, Score] | None = distribution.gather(scores)[0]
        return found

    @contextmanager
    def _statistics_of_the_first(self, student: Student) -> Iterator[None]:
        """Running statistics (batch norm), which each process takes of its own samples, are those that would be saved."""
        shared = self.distribution.world > 1 and self.distribution.strategy not in IN_SHARDS
        buffers = [tensor for tensor in trained_state(student).values() if shared and not tensor.requires_grad]
        own = [buffer.clone() for buffer in buffers]
        for buffer in buffers:
            torch.distributed.broadcast(buffer, 0)
        try:
            yield
        finally:
            for buffer, before in zip(buffers, own, strict=True):
                buffer.copy_(before)

    def _filled(self, weights: Mapping[str, Tensor]) -> Student:
        """A copy of the student, made once, with these weights where it learns."""
        if self._copy is None:
            self._copy, _ = build_student(self.recipe.student, self.recipe.seed)
            if self.recipe.training.attention is not None:
                use_attention(self._copy.language_model, self.recipe.training.attention)
            self._copy.eval()
        with torch.no_grad():
            for name, tensor in trained_state(self._copy).items():
                tensor.copy_(weights[name].reshape(tensor.shape))
        return self._copy.to(self.distribution.device)


@contextmanager
def undisturbed(student: Student, tokenizer: Any) -> Iterator[None]:
    """Evaluation mode, without gradients and without compilation; modes of modules, random states and the tokenizer's padding
    come back as they were.

    Compiled layers are run as they were written: an answer has other shapes than a batch, and would push the code that
    training runs out of the compiler's cache.
    """
    states, padding = (random.getstate(), np.random.get_state()), tokenizer.padding_side
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with (
            torch.random.fork_rng(devices),
            evaluating(student),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        tokenizer.padding_side = padding


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors and their names. What is not trained is the same in the whole run."""
    digest = sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
