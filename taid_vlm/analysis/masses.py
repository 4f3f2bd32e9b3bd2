"""Head and tail mass of whole models on held-out answers, as in Table 3 of arXiv 2501.16937.

Shapes: R answer rows, V* tokens that all models share, S samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.data import PairedBatch, Pairer, PreparedRecords, Record, make_loader
from taid_vlm.data.pairing import RendersChats
from taid_vlm.data.screening import Screening
from taid_vlm.losses.figures import head_and_tail_mass
from taid_vlm.losses.inputs import Head
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe import Recipe
from taid_vlm.training.cache.store import rows_of_samples
from taid_vlm.training.inputs import teacher_inputs
from taid_vlm.training.precision import autocast

BATCH, CHUNK = 8, 32
RESAMPLES = 2000
FIGURES = ("head", "tail", "entropy")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One model on some samples.

    Attributes:
        ids: of the samples. tokens: answer tokens of each, [S].
        sums: head mass, tail mass and entropy (nats), summed over the tokens of each sample, [3, S].
        ranked: [V*], mean probability of the likeliest token, the second likeliest, and so on.
    """

    ids: tuple[str, ...]
    tokens: Array
    sums: Array
    ranked: Array

    @property
    def means(self) -> dict[str, float]:
        """Per token."""
        tokens = float(self.tokens.sum())
        return {name: float(sums_S.sum()) / tokens for name, sums_S in zip(FIGURES, self.sums, strict=True)}


def usable(records: Sequence[Record], recipe: Recipe, processors: Sequence[RendersChats], most: int) -> list[Record]:
    """The first ``most`` records whose answers are the same tokens for all models.

    Raises:
        UserError: none is.
    """
    good = list(records[: 2 * most])  # some may fall away
    for processor in processors:
        screening = Screening(Pairer.of(recipe.data, processors[0], processor), skip_bad=True)
        good = [record for record, _ in screening.usable(good)]
    if not good:
        raise UserError(
            "no sample can be used: the answers of the recipe's data are other tokens for each model, or have none"
        )
    return good[:most]


@torch.no_grad()
def measure(
    model: Teacher,
    records: Sequence[Record],
    recipe: Recipe,
    vocabulary: int,
    precision: str,
    progress: Callable[[int, int], None],
) -> Measured:
    """Ask a frozen model about the records.

    Args:
        vocabulary: V*, the tokens that are looked at.
        progress: told how many samples of how many are done.

    Raises:
        UserError: a picture that cannot be read.
    """
    device = model.head_weight.device
    pairer = Pairer.of(recipe.data, model.processor, model.processor)
    prepared = PreparedRecords(records, pairer, skip_bad=False, decode_pictures=model.sees)
    order = [list(range(start, min(start + BATCH, len(records)))) for start in range(0, len(records), BATCH)]
    ids: list[str] = []
    tokens: list[int] = []
    rows_R4: list[Tensor] = []
    ranked_V = torch.zeros(vocabulary, dtype=torch.float64)
    for batch in make_loader(prepared, order, model.processor.tokenizer.eos_token_id):
        assert batch.teacher is not None
        with autocast(device, precision):
            head = _head(model, batch)
            for start in range(0, head.rows, CHUNK):
                figures_R3, sorted_V = _of_rows(head.logits(slice(start, start + CHUNK))[:, :vocabulary])
                rows_R4.append(figures_R3)
                ranked_V += sorted_V
        ids += batch.ids
        tokens += rows_of_samples(batch.teacher, len(batch.ids))
        progress(len(ids), len(records))
    sample_R = torch.repeat_interleave(torch.arange(len(tokens)), torch.tensor(tokens))
    sums_S3 = torch.zeros(len(tokens), len(FIGURES), dtype=torch.float64).index_add_(0, sample_R, torch.cat(rows_R4))
    return Measured(
        tuple(ids), np.array(tokens, dtype=np.float64), sums_S3.numpy().T.copy(), (ranked_V / len(sample_R)).numpy()
    )


def _head(model: Teacher, batch: PairedBatch) -> Head:
    assert batch.teacher is not None
    hidden_RD = model.hidden(teacher_inputs(batch, batch.teacher, model, None).to(model.head_weight.device))
    scaling = model.model.logit_scaling
    return Head(hidden_RD, model.head_weight, model.head_bias, scaling.scale, scaling.softcap)


def _of_rows(logits_RV: Tensor) -> tuple[Tensor, Tensor]:
    """Head mass, tail mass and entropy of each row [R, 3], and the sum over rows of their probabilities in falling order [V*]."""
    head_R, tail_R = head_and_tail_mass(logits_RV)
    log_p_RV = logits_RV.float().log_softmax(dim=-1)
    p_RV = log_p_RV.exp()
    entropy_R = -(p_RV * log_p_RV.masked_fill(p_RV == 0, 0.0)).sum(dim=-1)
    sorted_V = p_RV.sort(dim=-1, descending=True).values.double().sum(dim=0)
    return torch.stack([head_R, tail_R, entropy_R], dim=1).double().cpu(), sorted_V.cpu()


def intervals(one: Measured) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of the means; whole samples are drawn."""
    return {name: _ends(means_R) for name, means_R in zip(FIGURES, _drawn(one), strict=True)}


def beside(one: Measured, other: Measured) -> dict[str, tuple[float, float, float]] | None:
    """Differences of the means from another model's, each with its interval; None where they were asked about other samples.

    Of the tail, which is of many sizes, the ratio.
    """
    if one.ids != other.ids or not np.array_equal(one.tokens, other.tokens):
        return None
    found = {}
    for name, mine_R, theirs_R in zip(FIGURES, _drawn(one), _drawn(other), strict=True):
        if name == "tail":
            drawn_R, point = mine_R / np.maximum(theirs_R, 1e-300), one.means[name] / max(other.means[name], 1e-300)
        else:
            drawn_R, point = mine_R - theirs_R, one.means[name] - other.means[name]
        found[name] = (point, *_ends(drawn_R))
    return found


def _drawn(one: Measured, seed: int = 0) -> Array:
    """[3, RESAMPLES] means; the same samples are drawn of every model."""
    count = len(one.tokens)
    chosen_RS = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    drawn_3R: Array = one.sums[:, chosen_RS].sum(axis=2) / one.tokens[chosen_RS].sum(axis=1)
    return drawn_3R


def _ends(drawn_R: Array) -> tuple[float, float]:
    low, high = np.quantile(drawn_R, [0.025, 0.975])
    return float(low), float(high)
