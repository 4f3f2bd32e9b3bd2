"""CIDEr-D, as COCO's evaluation computes it (Vedantam et al., arXiv:1411.5726).

Each caption becomes four vectors, one for each length of n-grams up to 4, of counts weighted by how rare the n-gram is among the
images' references. The score is ten times the mean over lengths of the clipped cosine with each reference, damped by the
difference in length (sigma = 6), averaged over the references.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

LENGTHS = 4
_SIGMA = 6.0
Ngrams = tuple[Counter[tuple[str, ...]], ...]


def ngrams(words: Sequence[str]) -> Ngrams:
    """Counts of n-grams, for n from 1 to 4."""
    return tuple(Counter(zip(*(words[start:] for start in range(n)), strict=False)) for n in range(1, LENGTHS + 1))


def cider_scores(answers: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """The score of each image, from 0 to 10; their mean is the figure (papers print ten times or a hundred times it).

    How rare an n-gram is comes from the references of *these* images, so a score depends on the whole set: with one image every
    weight is 0, and so is the score. An image without references scores 0.

    Args:
        answers: words of the caption of each image.
        references: words of each reference of each image.

    Raises:
        ValueError: not as many sets of references as answers.
    """
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers and {len(references)} sets of references")
    counted = [[ngrams(reference) for reference in one] for one in references]
    seen_in: Counter[tuple[str, ...]] = Counter()
    for one in counted:
        seen_in.update({gram for reference in one for counts in reference for gram in counts})
    images = np.log(max(1, len(answers)))
    scores = []
    for answer, one in zip(answers, counted, strict=True):
        given = _weighted(ngrams(answer), seen_in, images)
        parts = [_similarity(given, _weighted(reference, seen_in, images)) for reference in one]
        scores.append(10.0 * float(np.mean(parts)) if parts else 0.0)
    return scores


Weighted = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def _weighted(counts: Ngrams, seen_in: Counter[tuple[str, ...]], images: float) -> Weighted:
    """Weights of n-grams for each length, their norms, and the length of the caption (in pairs of words, as in the original)."""
    weights = [
        {gram: times * (images - float(np.log(max(1, seen_in[gram])))) for gram, times in of_length.items()}
        for of_length in counts
    ]
    norms = [float(np.sqrt(sum(weight * weight for weight in of_length.values()))) for of_length in weights]
    return weights, norms, sum(counts[1].values())


def _similarity(given: Weighted, wanted: Weighted) -> float:
    damping = float(np.exp(-((given[2] - wanted[2]) ** 2) / (2 * _SIGMA**2)))
    total = 0.0
    for ours, theirs, our_norm, their_norm in zip(given[0], wanted[0], given[1], wanted[1], strict=True):
        if our_norm > 0 and their_norm > 0:
            common = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in ours.items() if gram in theirs)
            total += common / (our_norm * their_norm)
    return damping * total / LENGTHS
