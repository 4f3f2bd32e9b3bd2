"""The page on data has every kind of source, with an example that is a recipe's, and every reason."""

import re
from pathlib import Path
from typing import get_args

import yaml

from taid_vlm.data import SOURCES
from taid_vlm.data.record import Reason
from taid_vlm.recipe.data_spec import DataSource

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def test_every_kind_has_an_example_of_four_lines() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    sources = [DataSource.model_validate(source) for text in examples for source in yaml.safe_load(text)]
    assert {source.kind for source in sources} == set(SOURCES) - {"chatterbot"}
    assert all(text.count("\n") == 4 for text in examples)
    headings = [name for line in re.findall(r"^### (.*)$", PAGE, re.M) for name in line.split(", ")]
    assert set(headings) == set(SOURCES)


def test_the_schema_names_every_kind() -> None:
    told = DataSource.model_fields["kind"].description or ""
    assert set(re.findall(r"\w+", told.split(":")[1])) == set(SOURCES)


def test_every_reason_is_explained() -> None:
    table = re.findall(r"^\| ([a-zA-Z ]+) \| (?!what it means)", PAGE, re.M)
    assert set(table) == set(get_args(Reason)) - {"other"}
