"""The student answers questions, in batches, with the weights that it has at this moment."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from taid_vlm.common.modes import evaluating
from taid_vlm.data.images import open_image
from taid_vlm.data.pictures import Picture
from taid_vlm.data.record import Record
from taid_vlm.models.generate import continued_ids, left_padded
from taid_vlm.models.sampling import Draws, Sampling
from taid_vlm.models.student import ModelInputs
from taid_vlm.recipe.on_policy import OnPolicySpec
from taid_vlm.training.on_policy.pairs import prompt_ids
from taid_vlm.training.precision import autocast
from taid_vlm.training.setup import Setup


class StudentAnswers:
    """Writes answers with the student of a run."""

    def __init__(self, setup: Setup, spec: OnPolicySpec, device: torch.device) -> None:
        self.setup, self.spec, self.device = setup, spec, device
        self.sampling = Sampling(spec.temperature, spec.top_k, spec.top_p)

    @torch.no_grad()
    def write(self, records: Sequence[Record], numbers: Sequence[Tensor]) -> list[list[int]]:
        """Ids of an answer to each record's question, with the token that ends a turn where the student wrote it.

        Args:
            numbers: for each record ``[max_new_tokens]`` random numbers, which alone decide its draws.
        """
        if not records:
            return []
        prompts = [prompt_ids(self.setup.processor, record) for record in records]
        written: list[list[int]] = [[] for _ in records]
        # Prompts of like length share a batch.
        order = sorted(range(len(records)), key=lambda index: (len(prompts[index]), index))
        with evaluating(self.setup.student), autocast(self.device, self.setup.precision):
            for start in range(0, len(order), self.spec.batch_size):
                part = order[start : start + self.spec.batch_size]
                answers = self._batch(
                    [prompts[index] for index in part],
                    [picture for index in part for picture in records[index].images],
                    torch.stack([numbers[index] for index in part]),
                )
                for index, ids in zip(part, answers, strict=True):
                    written[index] = ids
        return written

    def _batch(self, prompts: list[list[int]], pictures: list[Picture], numbers: Tensor) -> list[list[int]]:
        setup, end = self.setup, self.setup.processor.end_of_turn_id
        inputs = ModelInputs(*left_padded(prompts, end), torch.zeros(0, dtype=torch.long))
        if pictures and setup.store is not None:
            features, tiles = setup.store.take(pictures), setup.store.tiles(pictures)
            inputs = replace(inputs, image_features=features, tiles=tiles)
        elif pictures:
            opened = [open_image(picture) for picture in pictures]
            counts = tuple(setup.processor.tiles_per_image(picture.size) for picture in opened)
            inputs = replace(inputs, pixel_values=setup.processor.pixel_values(opened), tiles=counts)
        inputs = inputs.to(self.device)
        # Beyond max_length nothing is kept.
        longest = min(self.spec.max_new_tokens, max(1, setup.train.pairer.max_length - min(map(len, prompts))))
        draws = Draws(numbers.to(self.device), self.sampling)
        embedded = setup.student.embed(inputs)
        ids = continued_ids(setup.student, setup.processor, embedded, inputs.attention_mask, longest, draws)
        return [up_to(row, end) for row in ids.tolist()]


def up_to(ids: list[int], end: int) -> list[int]:
    """The ids with the first end, and without the padding after it."""
    return ids[: ids.index(end) + 1] if end in ids else ids
