"""From answers to results: thinking taken out, modes, readings, facts and named figures."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.answers import Answer
from taid_vlm_eval.data import Item
from taid_vlm_eval.metrics import METRICS, SCORERS
from taid_vlm_eval.result import Result, make_result
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.scoring import majority_score, score_items, spoken
from taid_vlm_eval.task import Task
from tests.eval.fakes import FakeModel, write_rows, write_task

HEADER: dict[str, Any] = {
    "model": {"name": "m"},
    "data": {"source": "jsonl"},
    "data_fingerprint": "0",
    "limit": None,
    "seed": 0,
}


def result_of(folder: Path, items: list[Item], texts: list[str], **changes: Any) -> Result:
    task: Task = load_task(write_task(folder, **changes)).task
    answers = {item.id: Answer(id=item.id, answer=text, error=None) for item, text in zip(items, texts, strict=True)}
    return make_result(task, items, answers, header=HEADER, answers_per_second=None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<think>is it A? no</think>\n\nB", "B"),
        ("is it A? no</think> B", "B"),  # the template began the thought
        ("<think>is it A?", ""),  # the tokens ran out
        ("A <think>or B</think>", "A"),
        ("<think>a</think>one <think>b</think>two", "one two"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("</think>", ""),
        (" kept as it is \n", " kept as it is \n"),
        ("a < b <thinking> c", "a < b <thinking> c"),
    ],
)
def test_thoughts_are_taken_out(answer: str, said: str) -> None:
    assert spoken(answer) == said


@given(st.lists(st.sampled_from(["<think>", "</think>", "A", " "]), max_size=12).map("".join))
def test_no_tag_is_left(answer: str) -> None:
    assert "think>" not in spoken(answer)


def test_many_tags_take_no_longer_than_their_length() -> None:
    start = time.perf_counter()
    spoken("<think>" * 200_000)
    spoken("</think>" * 200_000)
    assert time.perf_counter() - start < 5


def test_scores_are_of_what_was_said_and_the_raw_answer_is_kept(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"question": "?", "answer": "red"}])
    raw = "<think>blue?</think> red"
    (result,) = evaluate(FakeModel(lambda request: raw), [write_task(tmp_path)], output_dir=tmp_path / "out")
    assert (result.value, result.parse_notes["strict"]) == (1.0, 1)
    last = (tmp_path / "out" / "small.answers.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["answer"] == raw


def test_facts_reach_scorer_and_metric(tmp_path: Path) -> None:
    # Only the option's text says which letter is meant.
    facts = [{"options": ["a cat", "a dog"], "category": kind} for kind in ("animals", "animals", "pets")]
    items = [Item(str(place), "?", "B", facts=one) for place, one in enumerate(facts)]
    texts = ["a dog", "a cat", ""]
    result = result_of(tmp_path, items, texts, scorer="choice", metric="accuracy_by_category")
    assert result.value == pytest.approx(1 / 3)
    named = {name: one["value"] for name, one in result.named.items()}
    assert named == pytest.approx(
        {"overall": 1 / 3, "category/animals": 0.5, "category/pets": 0.0, "mean_of_categories": 0.25}
    )
    for one in result.named.values():
        assert 0 <= one["low"] <= one["value"] <= one["high"] <= one["top"] == 1
    assert result.parse_rate == pytest.approx(2 / 3)
    assert json.loads(result.to_json())["named"] == result.named


def test_the_mode_decides_and_is_stated(tmp_path: Path) -> None:
    items = [Item("0", "?", "B", facts={"options": ["x", "y"]})]
    modes = {mode: result_of(tmp_path, items, ["BBQ"], scorer="choice", mode=mode) for mode in ("", "first-character")}
    assert {mode: (one.mode, one.value) for mode, one in modes.items()} == {
        "": ("", 0.0),
        "first-character": ("first-character", 1.0),
    }


def test_an_unknown_mode_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"small.yaml: unknown mode 'lmm': did you mean 'lmms'"):
        load_task(write_task(tmp_path, scorer="choice", mode="lmm"))
    with pytest.raises(UserError, match=r"small.yaml: found mode 'lmms', but this scorer has no modes"):
        load_task(write_task(tmp_path, scorer="exact_match", mode="lmms"))


def test_hallusion_bench_always_names_its_four_figures(tmp_path: Path) -> None:
    base = {"category": "VD", "subcategory": "chart", "set_id": "0"}
    places = [(figure, question) for figure in "12" for question in "01"]
    items = [Item(f"{f}{q}", "?", "yes", facts={**base, "figure_id": f, "question_id": q}) for f, q in places]
    texts = ["yes", "yes", "yes", "no"]
    result = result_of(tmp_path, items, texts, scorer="yes_no", metric="hallusion_bench")
    named = {name: one["value"] for name, one in result.named.items()}
    assert named == pytest.approx({"aAcc": 0.75, "fAcc": 0.5, "qAcc": 0.5, "mean": 1.75 / 3})
    assert result.value == pytest.approx(1.75 / 3)


def test_points_state_how_many_there_can_be(tmp_path: Path) -> None:
    items = [
        Item(f"{task}{place}", "?", truth, facts={"category": task, "group": task})
        for task in ("count", "OCR")
        for place, truth in enumerate(("yes", "no"))
    ]
    result = result_of(tmp_path, items, ["yes", "no", "yes", "yes"], scorer="yes_no", metric="mme")
    assert (result.value, result.top) == (250.0, 400.0)
    assert result.named["count/points"]["value"] == 200.0
    assert result.majority == 100.0  # in points, as the figure beside it: half right in each task, no pair


def test_errors_are_wrong_and_lower_the_parse_rate() -> None:
    task = Task("t", "", None, None, "exact_match", "accuracy")  # type: ignore[arg-type]
    items = [Item("a", "?", ""), Item("b", "?", "x")]
    answers = {"a": Answer(id="a", answer="", error="broken"), "b": Answer(id="b", answer="x", error=None)}
    scored, readings = score_items(task, items, answers)
    assert [one.value for one in scored] == [0.0, 1.0]
    assert SCORERS.get("exact_match").parse_rate(readings) == 0.5


def test_the_majority_is_scored_in_the_mode_and_by_the_metric() -> None:
    items = [Item(str(place), "?", "B", facts={"group": place // 2}) for place in range(3)]
    items.append(Item("3", "?", "A", facts={"group": 1}))
    scorer = SCORERS.get("choice")
    assert majority_score(items, scorer) == 0.75
    assert majority_score(items, scorer, None, METRICS.get("circular")) == 0.5
    with pytest.raises(UserError, match="unknown mode"):
        majority_score(items, scorer, "no such")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "scorer", "metric"), [(100_000, "exact_match", "accuracy"), (20_000, "choice", "accuracy_by_category")]
)
def test_many_items_are_scored_in_bounded_time(tmp_path: Path, count: int, scorer: str, metric: str) -> None:
    items = [
        Item(str(n), "?", "AB"[n % 2], cluster=str(n), facts={"category": str(n % 50), "options": ["x", "y"]})
        for n in range(count)
    ]
    start = time.perf_counter()
    result = result_of(tmp_path, items, ["A"] * count, scorer=scorer, metric=metric)
    assert result.value == 0.5
    assert time.perf_counter() - start < 60
