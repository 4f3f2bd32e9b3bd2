"""Which categories items fall into, and the mean of each, also for metrics that do not look at categories themselves."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from taid_vlm_eval.metrics import Estimate, Scored
from taid_vlm_eval.metrics.aggregate import clusters_of
from taid_vlm_eval.metrics.categories import category_columns
from taid_vlm_eval.metrics.figures import estimate_figures, mean_figure
from taid_vlm_eval.metrics.score import truths_of
from taid_vlm_eval.metrics.sorting import Sorted, Sorter

# Metrics that are the mean of the items' values, so that it is the figure of a category too.
MEANS = ("accuracy", "rouge_l", "accuracy_by_category", "mean_of_categories")
MOST = 40  # categories of one kind; what has more of them tells items apart rather than sorts them
NAMES = ("id", "group")  # facts so called, or ending in "_id", number items
KIND = "answer"
_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d.,:/ ]*%?", re.ASCII)

Categories = Mapping[str, Sorted]


def categories(scored: Sequence[Scored]) -> dict[str, Sorted]:
    """For each fact that sorts the items, the category of each item, [N], None where it has none; ``category`` comes first.

    A fact sorts where it is a text, a whole number, or yes or no, and has 2 to ``MOST`` values, two items to each on average.
    Items with short truths and no options are sorted by these too, as VQA's ``answer_type`` does: yes-no, number, other.
    """
    sorters: dict[str, Sorter] = {}
    kinds = Sorter(len(scored), MOST)
    for place, one in enumerate(scored):
        kinds.put(place, _kind(one))
        for key, value in one.facts.items():
            if not _numbers_items(key):
                sorters.setdefault(key, Sorter(len(scored), MOST)).put(place, _category(value))
    if not any(KIND in key for key in sorters):
        sorters[KIND] = kinds
    most = min(MOST, len(scored) // 2)
    sorting = {key: Sorted.of(one) for key, one in sorters.items() if 2 <= len(one.names) <= most}
    return dict(sorted(sorting.items(), key=lambda entry: entry[0] != "category"))


def category_means(scored: Sequence[Scored], groups: Categories, seed: int) -> dict[str, Estimate]:
    """The mean of the values in each category, named ``key/category``, in the draws that every metric makes of a seed."""
    names = [f"{key}/{name}" for key, found in groups.items() for name in found.names]
    if not names:
        return {}
    values_N = np.fromiter((one.value for one in scored), dtype=np.float64, count=len(scored))
    ones_N = np.ones(len(scored))
    figures = {name: mean_figure(2 * place, 2 * place + 1) for place, name in enumerate(names)}
    columns = chain.from_iterable(category_columns(found, values_N, ones_N) for found in groups.values())
    return estimate_figures(figures, columns, clusters_of(scored), seed=seed)


def _numbers_items(key: str) -> bool:
    return key in NAMES or key.endswith("_id")


def _category(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value).strip() else None


def _kind(one: Scored) -> str | None:
    truths = Counter(text.strip().lower() for text in truths_of(one.truth) if text.strip())
    if not truths or one.facts.get("options"):
        return None
    truth = max(truths, key=lambda text: truths[text])  # of equally frequent ones the first
    if truth in ("yes", "no"):
        return "yes-no"
    return "number" if _NUMBER.fullmatch(truth) else "other"
