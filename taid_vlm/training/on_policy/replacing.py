"""Between loader and step: answers of the data set are replaced by the student's own.

What is drawn depends on the seed, the step and the sample, not on how samples are dealt to micro-batches and processes. Only the replay
buffer is a process's own, and what is drawn from it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from taid_vlm.common.errors import UserError
from taid_vlm.data import Join, Pair, PairedBatch, Record, open_image
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.on_policy.pairs import WrittenPairs
from taid_vlm.training.on_policy.random import generator_for, uniform
from taid_vlm.training.on_policy.replay import ReplayBuffer, Written
from taid_vlm.training.on_policy.samplers import DATASET, SAMPLERS, Choice
from taid_vlm.training.on_policy.writing import StudentAnswers
from taid_vlm.training.setup import Setup

COUNTED = ("written", "replayed", "kept", "cut", "tokens")


class OnPolicy:
    """Replaces answers; see :meth:`of`.

    Attributes:
        counts: of the last step, on this process. ``written``: answers that the student wrote and the teacher can judge; ``replayed``:
            samples that are taught on an answer of the buffer; ``kept``: samples that keep the data set's answer, for the student's
            cannot be learnt from; ``cut``: answers cut at the limit; ``tokens``: all that was written.
    """

    def __init__(self, recipe: Recipe, setup: Setup, device: torch.device, rank: int, world: int) -> None:
        assert setup.teacher is not None
        assert setup.vocabulary is not None
        self.spec, self.seed, self.steps, self.rank = recipe.on_policy, recipe.seed, recipe.training.steps, rank
        self.train = setup.train
        self.places = {record.id: place for place, record in enumerate(setup.train.records)}
        self.sampler = SAMPLERS.get(self.spec.sampler)(self.spec)
        self.replay = ReplayBuffer(-(-self.spec.capacity // world))
        ends = setup.processor.end_of_turn_id, setup.teacher.processor.end_of_turn_id
        self.pairs = WrittenPairs(setup.train.pairer, setup.vocabulary, ends)
        self.answers = StudentAnswers(setup, self.spec, device)
        sees = setup.processor if setup.store is None and setup.processor.images is not None else None
        self.join = Join(setup.processor.tokenizer.eos_token_id, setup.packing, sees, setup.teacher_looks)
        self.counts = dict.fromkeys(COUNTED, 0.0)

    @classmethod
    def of(cls, recipe: Recipe, setup: Setup, device: torch.device, rank: int = 0, world: int = 1) -> "OnPolicy | None":
        """As a recipe asks for it; None where it asks for the data set's answers. Call it when the student is on its device, or in shards.

        Raises:
            UserError: records without a question and its answer, or two of one id; a student in shards.
        """
        if recipe.on_policy.sampler == "none":
            return None
        if any(isinstance(parameter, DTensor) for parameter in setup.student.parameters()):
            raise UserError(
                "on_policy does not work with a student in shards (FSDP2): each token would gather all of its weights. Train with "
                "copies of it (DDP), or set on_policy.sampler: none"
            )
        _check_records(setup.train.records)
        return cls(recipe, setup, device, rank, world)

    def replaced(self, batches: list[PairedBatch], step: int) -> list[PairedBatch]:
        """The micro-batches of an optimizer step, with the student's answers where it is their turn.

        Args:
            step: optimizer steps done so far.
        """
        # By place in the data, for names hold the paths of files; and in order, however samples were dealt.
        places = sorted({self.places[name] for batch in batches for name in batch.ids})
        choices = {place: self._choice(place, step) for place in places}
        fresh = self._written([place for place in places if choices[place].writes], step)
        taken = {place: pair for place, pair in fresh.items() if not choices[place].replays}
        taken |= self._drawn([place for place in places if choices[place].replays], step)
        self.counts["kept"] = float(sum(choice != DATASET for choice in choices.values()) - len(taken))
        return [self._joined(batch, taken) for batch in batches]

    @property
    def needs_baseline(self) -> bool:
        """Whether :meth:`validated` should be told the figures of the student before it is trained."""
        return self.sampler.needs_baseline

    def validated(self, figures: Mapping[str, float]) -> None:
        """Be told held-out figures, the same on all processes."""
        self.sampler.validated(figures["cross_entropy"])

    def figures(self, total: Callable[[list[float]], list[float]]) -> dict[str, float]:
        """Figures of the last step for the log; ``total`` sums each value over all processes."""
        summed = dict(zip(self.counts, total(list(self.counts.values())), strict=True))
        return {f"on_policy_{name}": value for name, value in {**summed, "threshold": self.sampler.threshold}.items()}

    def state_dict(self) -> dict[str, Any]:
        """State of this process, of plain values and tensors."""
        return {"sampler": self.sampler.state_dict(), "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self.sampler.load_state_dict(state["sampler"])
        self.replay.load_state_dict(state["replay"])

    def _choice(self, place: int, step: int) -> Choice:
        if step < self.spec.after:
            return DATASET
        whose = place if self.spec.draw == "sample" else "all"
        number = float(uniform(1, self.seed, step, "choice", whose))
        return self.sampler.choose(number, step / self.steps, self.replay.full)

    def _written(self, places: list[int], step: int) -> dict[int, Pair]:
        """New answers, which also go into the buffer."""
        records = [self.train.records[place] for place in places]
        numbers = [uniform(self.spec.max_new_tokens, self.seed, step, "answer", place) for place in places]
        answers = [self.pairs.said(ids) for ids in self.answers.write(records, numbers)]
        pairs = {}
        for place, record, (ids, _) in zip(places, records, answers, strict=True):
            pair = self.pairs.pair(record, ids)
            if pair is not None:
                pairs[place] = pair
                self.replay.add(Written(place, ids))
        self.counts |= {
            "written": float(len(pairs)),
            "cut": float(sum(not stopped for _, stopped in answers)),
            "tokens": float(sum(len(ids) for ids, _ in answers)),
        }
        return pairs

    def _drawn(self, places: list[int], step: int) -> dict[int, Pair]:
        """An answer of the buffer, with its own question, in place of each sample."""
        drawn = self.replay.draw(len(places), generator_for(self.seed, step, "replay", self.rank)) if places else []
        pairs = {}
        for place, written in zip(places, drawn, strict=False):  # none is drawn from an empty buffer
            pair = self.pairs.pair(self.train.records[written.place], written.ids)
            if pair is not None:
                pairs[place] = pair
        self.counts["replayed"] = float(len(pairs))
        return pairs

    def _joined(self, batch: PairedBatch, taken: dict[int, Pair]) -> PairedBatch:
        places = [self.places[name] for name in batch.ids]
        if not any(place in taken for place in places):
            return batch
        prepared = [self._prepared(taken[place]) if place in taken else self.train[place] for place in places]
        return self.join([*prepared, *batch.dropped])

    def _prepared(self, pair: Pair) -> Any:
        looks = self.train.decode_pictures
        return pair, [open_image(picture) for picture in pair.images] if looks else []


def _check_records(records: Any) -> None:
    seen: dict[str, Record] = {}
    for record in records:
        last = [message["role"] for message in record.messages[-2:]]
        if record.text is not None or last != ["user", "assistant"]:
            raise UserError(
                f"on_policy: training record {record.id} does not end with a question and its answer, so there is nothing that the "
                f"student could answer. Leave such records out of data.train, or set on_policy.sampler: none"
            )
        if seen.setdefault(record.id, record) != record:
            raise UserError(
                f"on_policy: two different training records have the id {record.id}, and an answer would not know which is its; make "
                f"ids unique"
            )
