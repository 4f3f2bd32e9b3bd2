"""Which option a language model finds likeliest: MMLU, ARC, HellaSwag, and letters by one forward pass.

Log-likelihoods come from the model; what is made of them is decided here. Names are those of lm-evaluation-harness.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Norm = Literal["none", "characters", "bytes"]


def likeliest(loglikelihoods: Sequence[float], texts: Sequence[str] | None = None, *, norm: Norm = "none") -> int:
    """The place of the likeliest option; of equal ones the first.

    Args:
        loglikelihoods: of each option, summed over its tokens.
        texts: of the options, when lengths count.
        norm: divide by nothing (``acc``), by the characters (``acc_norm``) or by the UTF-8 bytes (``acc_bytes``) of the option.

    Raises:
        ValueError: no options, unequal lengths, or a likelihood that is not a number.
    """
    values = np.asarray(loglikelihoods, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise ValueError(f"need one log-likelihood for each option and at least one, got {list(loglikelihoods)}")
    if norm != "none":
        if texts is None or len(texts) != values.size:
            raise ValueError(f"norm {norm!r} needs the text of each of the {values.size} options")
        lengths = [len(text) if norm == "characters" else len(text.encode()) for text in texts]
        values = values / np.maximum(lengths, 1)
    return int(np.argmax(values))
