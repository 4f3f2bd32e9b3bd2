"""What a judge's reply says: MM-Vet and MT-Bench can only be scored by a model that reads the answers.

There is no honest exact match for them, so no scorer here: without a judge such a task is not run.
"""

import re

_GRADE = re.compile(r"(?<![\d.])(?:0(?:\.\d+)?|1(?:\.0+)?)(?![\d.]*\d)", re.ASCII)
_RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]", re.ASCII)
_RATING_IN_ONE = re.compile(r"\[(\d+(?:\.\d+)?)\]", re.ASCII)


def mm_vet_grade(reply: str) -> float | None:
    """The grade from 0.0 to 1.0 that a judge of MM-Vet gave (Yu et al., arXiv:2308.02490), None when there is none.

    The judge completes the last cell of a table; should it write more, the first number in range counts.
    """
    found = _GRADE.search(reply)
    return float(found[0]) if found else None


def mt_bench_rating(reply: str) -> float | None:
    """The rating in "[[n]]", else in "[n]" (Zheng et al., arXiv:2306.05685), None when there is none or it is not 1 to 10.

    FastChat writes -1 for none, and leaves those out of the mean; here they are for the caller to count.
    """
    found = _RATING.search(reply) or _RATING_IN_ONE.search(reply)
    rating = float(found[1]) if found else 0.0
    return rating if 1 <= rating <= 10 else None
