"""The page on losses names every loss, with the options and defaults that the code has."""

import inspect
import re
from pathlib import Path

import torch

from taid_vlm.losses import LOSS_NAMES
from taid_vlm.losses.methods import DIVERGENCES

PAGE = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()


def test_the_table_of_losses_is_that_of_the_code() -> None:
    table = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", PAGE.split("## The table")[1].split("Conventions")[0], re.M)
    assert {name for name, _ in table} == set(LOSS_NAMES)
    for name, options in table:
        if name in ("sft", "taid"):
            continue
        entry = DIVERGENCES.get(name)
        expected = ", ".join(f"{option} {default}" for option, default in entry.options.items())
        assert options.split(";")[0] == (expected or "none"), name
        plain = inspect.signature(entry.plain).parameters
        assert all(plain[option].default == default for option, default in entry.options.items()), name


def test_every_field_that_the_page_mentions_exists() -> None:
    from taid_vlm.recipe.loss_config import LossConfig

    block = PAGE.split("```yaml")[1].split("```")[0]
    assert set(re.findall(r"^  (\w+):", block, re.M)) <= set(LossConfig.model_fields)


def test_the_loop_of_the_readme_runs() -> None:
    code = (Path(__file__).parents[2] / "README.md").read_text().split("```python")[1].split("```")[0]
    given = {
        "student_hidden": torch.randn(6, 4, requires_grad=True),
        "student_head": torch.randn(9, 4, requires_grad=True),
        "teacher_hidden": torch.randn(6, 5),
        "teacher_head": torch.randn(9, 5),
        "labels": torch.arange(6),
    }
    exec(code, given)
    assert given["student_head"].grad.abs().sum() > 0
    assert given["clock"].updates == 1
