"""docs/metrics.md: its example runs, and it names every scorer, mode, metric, fact and named figure's metric."""

import re
from pathlib import Path

from taid_vlm_eval.metrics import METRICS, SCORERS

DOCS = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_every_name_is_there() -> None:
    for name in {*SCORERS, *METRICS}:
        assert f"`{name}`" in DOCS, name
    for name in SCORERS:
        scorer = SCORERS.get(name)
        for word in (*scorer.modes, *scorer.takes):
            assert f"`{word}`" in DOCS, (name, word)


def test_the_table_gives_each_scorer_its_modes() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", DOCS.split("## Metrics")[0], re.MULTILINE))
    assert set(rows) == set(SCORERS)
    for name, modes in rows.items():
        if modes not in ("none", "as `choice`"):
            assert tuple(re.findall(r"`([^`]+)`", modes)) == SCORERS.get(name).modes
    assert SCORERS.get("choice_or_text").modes == SCORERS.get("choice").modes


def test_the_example_says_what_comes_out() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict = {}
    for line in program.splitlines():
        code, _, result = line.partition("  # ")
        if result:
            assert repr(eval(code, names)) == result, line
        else:
            exec(code, names)
