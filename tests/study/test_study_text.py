"""The text of the study, and what is made in the cache."""

from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.data import read_records
from taid_vlm.models.specs import LanguageModelSpec
from taid_vlm.models.teacher import teacher_from_language_model
from taid_vlm.recipe.schema import DataSource
from taid_vlm.study import prepare as room
from taid_vlm.study.own import first_sentence, sampled
from taid_vlm.study.plan import SETTINGS, Job
from taid_vlm.study.prepare import MAKERS, named_in, prepare
from taid_vlm.study.talk import by_split, split_of, write_exchanges
from tests.tiny.language_model import save_chatty_llama


def test_a_question_is_in_one_split_and_long_exchanges_in_none(tmp_path: Path) -> None:
    exchanges = [(f"question {i % 60}", f"reply {i}") for i in range(180)] + [
        ("long", "word " * 21),
        ("again", "x"),
        ("again", "x"),
    ]
    found = by_split(exchanges)
    where: dict[str, set[str]] = {}
    for split, some in found.items():
        for question, _ in some:
            where.setdefault(question, set()).add(split)
    assert all(splits == {split_of(question)} for question, splits in where.items())
    assert "long" not in where
    assert sum(len(some) for some in found.values()) == 181
    assert all(found.values())
    write_exchanges(tmp_path / "test.jsonl", found["test"])
    read = read_records([DataSource(kind="jsonl", path=str(tmp_path), split="test")], 0)
    assert [tuple(m["content"] for m in record.messages) for record in read] == found["test"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("I am fine. And you?", "I am fine."),
        ("It costs 3.50 euros! Yes.", "It costs 3.50 euros!"),
        ("no end mark", "no end mark"),
        ("First line\nsecond.", "First line"),
        ("  ", ""),
    ],
)
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_replies_depend_on_their_own_draws_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_from_language_model(LanguageModelSpec(source=str(save_chatty_llama(tmp_path / "llama"))))
    questions = ["a", "bb", "ccc"]
    monkeypatch.setattr("taid_vlm.study.own.MAX_NEW_TOKENS", 6)
    together = sampled(teacher, questions, 1.0)
    assert together == sampled(teacher, questions, 1.0)
    monkeypatch.setattr("taid_vlm.study.own.BATCH", 2)
    assert sampled(teacher, questions, 1.0) == together
    assert sampled(teacher, questions, 0.0) != together


def test_everything_that_a_run_names_can_be_made() -> None:
    for setting in SETTINGS:
        for method in setting.methods:
            names = set(named_in(Job(setting, method, 0, 1e-3).recipe().model_dump(mode="json")))
            assert names <= set(MAKERS)
            assert names


def test_what_is_missing_is_made_and_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(room, "MAKERS", {"talk-1": lambda: made.append(1)})
    recipe = Job(next(s for s in SETTINGS if s.name == "charts"), "kl", 0, 1e-3).recipe()
    with pytest.raises(UserError, match="charts-1"):
        prepare(recipe)
    text = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"train": [DataSource(kind="jsonl", path="cache:study/talk-1")]})}
    )
    prepare(text)
    assert made == [1]
