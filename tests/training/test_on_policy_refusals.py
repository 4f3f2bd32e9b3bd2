"""What does not go with student-written answers is told at the start."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from taid_vlm.common.errors import UserError
from taid_vlm.data import Record
from taid_vlm.recipe import Recipe
from taid_vlm.training.on_policy import OnPolicy
from taid_vlm.training.setup import Setup
from tests.training.on_policy_cases import (
    CPU,
    changed,
    recipe_for,
    setup_of,
)

Case = tuple[Recipe, Setup]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("on-policy")


@pytest.fixture(scope="module")
def case(folder: Path, language_model: Path) -> Case:
    recipe = recipe_for(folder, language_model)
    return recipe, setup_of(recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"name": "sft"}}, "loss sft has none"),
        ({"loss": {"ce_weight": 0.5}}, "would teach the student its own answers as labels"),
        ({"data": {"answers": "teacher"}}, "set data.answers: dataset"),
        ({"teacher": {"cache": {"enabled": True}}}, "yet to be written: set teacher.cache.enabled: false"),
        ({"on_policy": {"sampler": "adaptive"}, "data": {"validation": []}}, "follows the held-out loss"),
        ({"on_policy": {"sampler": "adaptive"}, "training": {"validate_every": None}}, "follows the held-out loss"),
        ({"on_policy": {"sampler": "adaptive", "replay": {"capacity": 0}}}, "replay.capacity above 0"),
        ({"on_policy": {"after": 10}}, "leaves none of the 10 steps"),
        ({"on_policy": {"sampler": "mixt"}}, "'none', 'mixed' or 'adaptive'"),
        ({"on_policy": {"top_p": 0.0}}, "greater than 0"),
    ],
)
def test_what_cannot_work_is_refused(folder: Path, language_model: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe_for(folder, language_model, **changes)


def test_records_without_a_question_and_two_of_one_name_are_refused(case: Case) -> None:
    recipe, setup = case
    records = setup.train.records
    say = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    try:
        for more, message in (
            (Record("text", [], text="words"), "record text does not end with a question and its answer"),
            (Record("open", say[:1]), "record open does not end with"),
            (Record(records[1].id, say), "two different training records have the id"),
        ):
            setup.train.records = [*records, more]
            with pytest.raises(UserError, match=message):
                OnPolicy.of(recipe, setup, CPU)
        setup.train.records = [*records, records[0]]  # a source with a weight above 1
        assert OnPolicy.of(recipe, setup, CPU) is not None
    finally:
        setup.train.records = records


def test_a_recipe_without_it_has_none_of_it(case: Case) -> None:
    recipe, setup = case
    assert OnPolicy.of(changed(recipe, sampler="none"), setup, CPU) is None
