"""Recipes of runs as people compare them: what each changes of its base, and where several differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from taid_vlm.recipe.origin import differences, flat
from taid_vlm.report.run_files import Run

ABSENT = "(not set)"


@dataclass(frozen=True)
class Change:
    """One key with its value in each column."""

    key: str
    values: list[str]


def changes(run: Run) -> list[Change] | None:
    """What the recipe changes of the base that it names; None where the run wrote down no base."""
    origin = run.about.get("origin")
    if not isinstance(origin, dict) or not origin.get("base"):
        return None
    rows = [row for row in origin.get("changes", []) if isinstance(row, list) and len(row) == 3]
    return [Change(str(key), [told(before), told(after)]) for key, before, after in rows]


def between(runs: Sequence[Run]) -> list[Change]:
    """Keys that are not the same in all of several recipes, with the value of each run."""
    contents = [flat(run.recipe) for run in runs]
    keys = dict.fromkeys(key for one in runs for key, *_ in differences(runs[0].recipe, one.recipe))
    return [Change(key, [told(of[key]) if key in of else ABSENT for of in contents]) for key in keys]


def told(value: Any) -> str:
    """A value as a recipe would have it, on one line."""
    if value is None:
        return ABSENT
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).strip()
    return text.removesuffix("...").strip()
