"""The page on students: its recipes parse, its tables name what the code has."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from taid_vlm.models.projectors import PROJECTORS
from taid_vlm.models.specs import StudentSpec, VisionEncoderSpec

PAGE = (Path(__file__).parents[2] / "docs" / "students.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_a_student(block: str) -> None:
    StudentSpec.model_validate(yaml.safe_load(block))


def test_the_table_of_encoders_names_every_key() -> None:
    rows = PAGE.split("## Vision encoder")[1].split("## Projector")[0]
    named = {key for cell in re.findall(r"^\| ([^|]*) \|", rows, re.M) for key in re.findall(r"`(\w+)`", cell)}
    assert named | {"weights_match"} == set(VisionEncoderSpec.model_fields)


def test_the_table_of_projectors_is_that_of_the_code() -> None:
    rows = PAGE.split("## Projector")[1].split("## Language model")[0]
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) ?\|$", rows, re.M))
    assert set(table) == set(PROJECTORS)
    for name, options in table.items():
        found = dict(re.findall(r"`(\w+)` (\w+)", options))
        for option in inspect.signature(PROJECTORS.get(name)).parameters.values():
            if option.kind == option.KEYWORD_ONLY:  # a width that is left out follows the language model's, H
                value = found.pop(option.name)
                assert value.endswith("H") if option.default is None else value == str(option.default).lower(), name
        assert not found, name
