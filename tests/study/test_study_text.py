"""The text of the study, and what is made in the cache."""

import json
from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.data import read_records
from taid_vlm.models.specs import LanguageModelSpec
from taid_vlm.models.teacher import teacher_from_language_model
from taid_vlm.recipe.data_spec import DataSource
from taid_vlm.study import prepare as room
from taid_vlm.study.definitions import by_split, definitions, write_exchanges
from taid_vlm.study.own import first_sentence, sampled
from taid_vlm.study.plan import SETTINGS, Job
from taid_vlm.study.prepare import MAKERS, named_in, prepare
from tests.tiny.language_model import save_chatty_llama


def write_dictionary(folder: Path) -> None:
    """As the package lays it out: short definitions, and some that are not taken."""

    def entry(text: str, part: str = "n.") -> dict:
        return {"pos": [{"part_of_speech": part, "definitions": [{"text": text, "examples": []}]}]}

    words = {f"w{chr(97 + i % 26)}{chr(97 + i // 26)}": entry(f"Meaning number {i}.") for i in range(200)}
    refused = {
        "long": entry("word " * 16 + "word."),
        "short": entry("Too short."),
        "marks": entry("A text with {marks} inside."),
        "part": entry("Of another part of speech.", "pl."),
        "two words": entry("A name of two words."),
        "open": entry("No end mark here"),
        "none": {"pos": [{"part_of_speech": "n.", "definitions": []}]},
    }
    (folder / "words_A.json").write_text(json.dumps({**words, **refused}))
    (folder / "words_B.json").write_text(json.dumps({"Verb": entry("To do something plain.", "v. t.")}))


def test_definitions_are_short_and_plain(tmp_path: Path) -> None:
    write_dictionary(tmp_path)
    found = list(definitions(tmp_path))
    assert len(found) == 201
    assert ("What does the verb verb mean?", "To do something plain.") in found


def test_no_word_is_in_two_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dictionary(tmp_path)
    monkeypatch.setattr("taid_vlm.study.definitions.SIZES", {"test": 20, "validation": 10, "train": 60, "start": 60})
    exchanges = list(definitions(tmp_path))
    found = by_split([*exchanges, *exchanges])
    assert [len(some) for some in found.values()] == [20, 10, 60, 60]
    questions = [question for some in found.values() for question, _ in some]
    assert len(questions) == len(set(questions))
    assert found == by_split(reversed(exchanges))  # the order of the file decides nothing
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
    makers = {"words-1": lambda: made.append(1), "charts-start-2": lambda: None}
    monkeypatch.setattr(room, "MAKERS", makers)
    recipe = Job(next(s for s in SETTINGS if s.name == "charts"), "kl", 0, 1e-3).recipe()
    with pytest.raises(UserError, match="charts-1"):
        prepare(recipe)
    text = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"train": [DataSource(kind="jsonl", path="cache:study/words-1")]})
        }
    )
    prepare(text)
    assert made == [1]
