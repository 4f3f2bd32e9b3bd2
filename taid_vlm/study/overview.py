"""Methods set against each other in every setting: over all held-out answers, and over the short and the long ones alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from taid_vlm.study.compare import Row, difference, row_of
from taid_vlm.study.markdown import heads, line, points
from taid_vlm.study.methods import METHODS
from taid_vlm.study.plan import Setting
from taid_vlm.study.records import Record
from taid_vlm.study.tuning import PRIMARY

PAIRS = (
    ("kl", "sft"),
    ("taid", "kl"),
    ("taid", "rkl"),
    ("taid", "taid_linear"),
    ("taid", "taid_exponential"),
    ("taid_set_point", "taid"),
)
BY_LENGTH = PAIRS[:3]
Tables = dict[Setting, list[Row]]


def overview(tables: Tables) -> Iterator[str]:
    """A line for each setting: does distillation pay, is TAID above KL, and its clock above others?"""
    yield "## Where TAID pays\n"
    yield "Points of the primary figure (exact match for charts, agreement for definitions) by which one method is above another, over the seeds of both.\n"
    yield from heads(["setting", "seeds", "KL", *_over(PAIRS), "highest mean"], 2 + len(PAIRS))
    for setting, rows in tables.items():
        by_name = _with_both(rows)
        if not by_name:
            continue
        figure = PRIMARY[setting.pair]
        best = max(by_name.values(), key=lambda row: row.figures[figure][0])
        cells = [f"{100 * by_name['kl'].figures[figure][0]:.1f}", *_beside(setting, by_name, PAIRS)]
        cells.append(f"{METHODS[best.method].title}, {100 * best.figures[figure][0]:.1f}")
        yield line([setting.title, f"{len(by_name['taid'].runs)}", *cells])


def by_length(tables: Tables) -> Iterator[str]:
    """Two lines for each setting of pair (b), whose records keep the tokens of each answer; nothing where there is none."""
    cut = {setting: found for setting, rows in tables.items() if setting.pair == "b" and (found := _with_both(rows))}
    if not cut:
        return
    middle = int(np.median(_lengths(next(iter(cut.values())))))
    yield "### By length of the answer\n"
    yield (
        f"The same, where only those held-out definitions count that have at most {middle} tokens, their median, or only those that have more. The end of the\n"
        "turn is one of them. Training was the same.\n"
    )
    yield from heads(["setting", "answers", "KL", *_over(BY_LENGTH)], 2 + len(BY_LENGTH))
    for setting, by_name in cut.items():
        short = _lengths(by_name) <= middle
        for name, keep in ((f"up to {middle}", short), (f"above {middle}", ~short)):
            some = {method: _only(row, keep) for method, row in by_name.items()}
            level = some["kl"].figures[PRIMARY["b"]][0]
            cells = [f"{100 * level:.1f}", *_beside(setting, some, BY_LENGTH)]
            yield line([setting.title, f"{keep.sum()}, {name}", *cells])


def _with_both(rows: Sequence[Row]) -> dict[str, Row]:
    """By method, where TAID and KL are among them; empty otherwise."""
    by_name = {row.method: row for row in rows if row.runs}
    return by_name if {"taid", "kl"} <= by_name.keys() else {}


def _over(pairs: Sequence[tuple[str, str]]) -> list[str]:
    short = {name: METHODS[name].title.removeprefix("TAID, ") for pair in pairs for name in pair}
    return [f"{short[one]} over {short[other]}" for one, other in pairs]


def _beside(setting: Setting, by_name: dict[str, Row], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    for names in pairs:
        beside = difference(setting, *(by_name[name] for name in names)) if by_name.keys() >= set(names) else None
        yield "" if beside is None else points(sum(beside[0]) / len(beside[0]), beside[1])


def _lengths(by_name: dict[str, Row]) -> NDArray[np.int64]:
    """Answer tokens of each sample of the test split; every run was asked the same."""
    run = next(iter(by_name["kl"].runs.values()))
    return np.array(run.items["test"]["tokens"])


def _only(row: Row, keep: NDArray[np.bool_]) -> Row:
    """A row whose runs know these samples alone; it is compared with no other yet."""
    return row_of(row.method, row.lr, {seed: _kept(run, keep) for seed, run in row.runs.items()}, row.failed)


def _kept(run: Record, keep: NDArray[np.bool_]) -> Record:
    agreed, tokens = (np.array(run.items["test"][name])[keep] for name in ("agreed", "tokens"))
    figures = {"test": {PRIMARY["b"]: float(agreed.sum() / tokens.sum())}}
    return replace(run, figures=figures, items={"test": {"agreed": agreed.tolist(), "tokens": tokens.tolist()}})
