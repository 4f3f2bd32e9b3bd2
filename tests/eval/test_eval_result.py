"""What a result states, computed by hand."""

import json
from pathlib import Path

import pytest

from taid_vlm_eval.data import Item
from taid_vlm_eval.metrics import SCORERS
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.scoring import majority_score
from tests.eval.fakes import FakeModel, write_rows, write_task

ROWS = [
    {"id": "a", "question": "1", "answer": "red"},
    {"id": "b", "question": "2", "answer": ["blue", "navy"]},
    {"id": "c", "question": "3", "answer": "red"},
    {"id": "d", "question": "4", "answer": "green"},
]
SAID = {"1": "Red.", "2": "it is navy", "3": "", "4": "green or red"}


def test_a_result_states_what_is_needed_to_judge_it(tmp_path: Path) -> None:
    write_rows(tmp_path, ROWS)
    task = write_task(tmp_path, protocol="by hand", generation={"max_new_tokens": 7})
    model = FakeModel(lambda request: SAID[request.prompt])
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", seed=3)
    assert (result.value, result.n, result.errors, result.first_errors) == (0.5, 4, 0, [])
    assert result.parse_notes == {"strict": 1, "lenient": 1, "none": 1, "empty": 1, "error": 0}
    assert result.majority == 0.5  # always "red"
    assert 0.0 <= result.low < 0.5 < result.high <= 1.0
    assert (result.task, result.metric, result.scorer, result.cluster) == ("small", "accuracy", "exact_match", "item")
    assert (result.protocol, result.limit, result.seed) == ("by hand", None, 3)
    assert result.generation == {"max_new_tokens": 7, "greedy": True}
    assert result.model == model.describe()
    assert len(result.data_fingerprint) == 64
    assert result.data == {"source": "jsonl", "path": "small.jsonl", "split": "test"}
    assert set(result.versions) == {"python", "taid-vlm", "torch", "transformers"}
    assert json.loads((tmp_path / "out" / "small.result.json").read_text()) == json.loads(result.to_json())


def test_a_result_file_is_readable_text(tmp_path: Path) -> None:
    write_rows(tmp_path, ROWS)
    (result,) = evaluate(FakeModel(name="modèle"), [write_task(tmp_path)], output_dir=tmp_path / "out")
    text = (tmp_path / "out" / "small.result.json").read_bytes().decode()
    assert text == result.to_json()
    assert "modèle" in text
    assert text.endswith("}\n")


def test_open_answers_have_no_majority(tmp_path: Path) -> None:
    write_rows(tmp_path, ROWS)
    task = write_task(tmp_path, scorer="rouge_l", metric="rouge_l")
    (result,) = evaluate(FakeModel(), [task], output_dir=tmp_path / "out")
    assert result.majority is None
    assert result.parse_notes == {"words": 4, "empty": 0, "error": 0}


@pytest.mark.parametrize(
    ("truths", "score"),
    [
        (["a", "b", "b"], 2 / 3),
        (["b", "a"], 1 / 2),
        ([["a", "b"], "b", "b"], 1.0),  # "b" is among the right answers of the first, too
        ([["a", "b"], ["a", "c"], "c"], 2 / 3),
        (["x"], 1.0),
    ],
)
def test_majority_by_hand(truths: list[str | list[str]], score: float) -> None:
    items = [Item(str(index), "q", truth) for index, truth in enumerate(truths)]
    assert majority_score(items, SCORERS.get("exact_match")) == pytest.approx(score)
