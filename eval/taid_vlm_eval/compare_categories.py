"""Which categories items fall into, and the mean of each, also for metrics that do not look at categories themselves."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from taid_vlm_eval.metrics import Estimate, Scored
from taid_vlm_eval.metrics.figures import estimate_figures, mean_figure
from taid_vlm_eval.metrics.score import truths_of

# Metrics that are the mean of the items' values, so that it is the figure of a category too.
MEANS = ("accuracy", "rouge_l", "accuracy_by_category", "mean_of_categories")
MOST = 40  # categories of one kind; what has more of them tells items apart rather than sorts them
NAMES = ("id", "group")  # facts so called, or ending in "_id", number items
KIND = "answer"
_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d.,:/ ]*%?", re.ASCII)

Categories = Mapping[str, Sequence[str | None]]


def categories(scored: Sequence[Scored]) -> dict[str, list[str | None]]:
    """For each fact that sorts the items, the category of each item, [N], None where it has none; ``category`` comes first.

    A fact sorts where it is a text, a whole number, or yes or no, and has 2 to ``MOST`` values, two items to each on average.
    Items with short truths and no options are sorted by these too, as VQA's ``answer_type`` does: yes-no, number, other.
    """
    keys = dict.fromkeys(key for one in scored for key in one.facts)
    found = {key: [_category(one.facts.get(key)) for one in scored] for key in keys if not _numbers_items(key)}
    if not any(KIND in key for key in found):
        found[KIND] = [_kind(one) for one in scored]
    sorting = {key: names for key, names in found.items() if 2 <= _distinct(names) <= min(MOST, len(scored) // 2)}
    return dict(sorted(sorting.items(), key=lambda entry: entry[0] != "category"))


def category_means(scored: Sequence[Scored], groups: Categories, seed: int) -> dict[str, Estimate]:
    """The mean of the values in each category, named ``key/category``, in the draws that every metric makes of a seed."""
    columns: list[np.ndarray] = []
    figures = {}
    values_N = np.array([one.value for one in scored])
    for key, names in groups.items():
        for name in sorted({name for name in names if name is not None}):
            mask_N = np.array([one == name for one in names], dtype=float)
            figures[f"{key}/{name}"] = mean_figure(len(columns), len(columns) + 1)
            columns += [values_N * mask_N, mask_N]
    if not columns:
        return {}
    return estimate_figures(figures, np.stack(columns, axis=1), [one.cluster for one in scored], seed=seed)


def _numbers_items(key: str) -> bool:
    return key in NAMES or key.endswith("_id")


def _category(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value).strip() else None


def _distinct(names: Sequence[str | None]) -> int:
    return len(set(names) - {None})


def _kind(one: Scored) -> str | None:
    truths = Counter(text.strip().lower() for text in truths_of(one.truth) if text.strip())
    if not truths or one.facts.get("options"):
        return None
    truth = max(truths, key=lambda text: truths[text])  # of equally frequent ones the first
    if truth in ("yes", "no"):
        return "yes-no"
    return "number" if _NUMBER.fullmatch(truth) else "other"
