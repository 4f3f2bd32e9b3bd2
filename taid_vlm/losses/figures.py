"""Head and tail mass of the student (Table 3 of arXiv 2501.16937): mode averaging and mode collapse made visible."""

from collections.abc import Mapping

import torch
from torch import Tensor

from taid_vlm.losses.divergences import at_least_fp32

HEAD_TOKENS = 10
TAIL_SHARE = 0.2


def head_and_tail_mass(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the ten most probable tokens, and of the least probable fifth of the vocabulary.

    The paper names them "head (top-10 tokens)" and "tail (tokens in the 80-100th percentile)", ordered here by
    the model's own probabilities. Finding the fifth takes ten times as long as a softmax: ask for few rows.

    Args:
        logits_NV: [N, V] logits, any floating dtype; over the shared vocabulary, to compare models.

    Returns:
        Two [N] tensors of probabilities. A vocabulary of fewer than 10 tokens is all head.
    """
    p_NV = at_least_fp32(logits_NV.detach()).softmax(dim=-1)
    vocabulary = p_NV.shape[-1]
    head_N = p_NV.topk(min(HEAD_TOKENS, vocabulary), dim=-1).values.sum(-1)
    tail = max(1, int(vocabulary * TAIL_SHARE))
    tail_N = p_NV.topk(tail, dim=-1, largest=False, sorted=False).values.sum(-1)
    return head_N, tail_N


def means(sums: Mapping[str, float], rows: float) -> dict[str, float]:
    """Sums of ``LossOutput`` over some batches as means per row: the masses by the rows they were taken at."""
    sampled = sums.get("mass_rows", 0.0)
    found = {}
    for name, value in sums.items():
        if name in ("head_mass", "tail_mass"):
            found[name] = value / max(sampled, 1.0)
        elif name != "mass_rows":
            found[name] = value / max(rows, 1.0)
    return found


def sample_places(rows: int, wanted: int) -> range:
    """``wanted`` rows, evenly spaced, or all of them."""
    return range(0, rows, max(1, rows // wanted)) if wanted else range(0)


def sampled_mass(logits_NV: Tensor) -> dict[str, Tensor]:
    """Sums over some rows, and how many they were."""
    head_N, tail_N = head_and_tail_mass(logits_NV)
    count = torch.full_like(head_N, 1.0)
    return {"head_mass": head_N.sum(), "tail_mass": tail_N.sum(), "mass_rows": count.sum()}
