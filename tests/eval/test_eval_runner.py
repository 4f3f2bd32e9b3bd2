"""The runner: killed anywhere it goes on to the same files, and a changed call never mixes answers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, Killed, sees_colour, small_task, without_speed, write_rows, write_task


def files(folder: Path) -> tuple[bytes, dict[str, Any]]:
    return (folder / "small.answers.jsonl").read_bytes(), without_speed(folder / "small.result.json")


def mostly_right(request: Any) -> str:
    return "red" if request.prompt.endswith("???") else sees_colour(request)


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_killed_and_resumed_gives_the_same_files(tmp_path: Path, calls: int) -> None:
    task = small_task(tmp_path)
    evaluate(FakeModel(mostly_right), [task], output_dir=tmp_path / "whole", batch_size=3)
    with pytest.raises(Killed):
        evaluate(FakeModel(mostly_right, dies_after=calls), [task], output_dir=tmp_path / "cut", batch_size=3)
    assert not (tmp_path / "cut" / "small.result.json").exists()
    again = FakeModel(mostly_right)
    evaluate(again, [task], output_dir=tmp_path / "cut", batch_size=3)
    assert again.tried == [3, 3, 3, 1][calls:]
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert 0 < files(tmp_path / "whole")[1]["value"] < 1


def test_only_what_has_no_answer_is_asked_again(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "out", batch_size=4)
    whole = files(tmp_path / "out")
    answers = tmp_path / "out" / "small.answers.jsonl"
    lines = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(b"".join(lines[:7]) + lines[7][:9])  # header, six of ten answers, half a line
    model = FakeModel(sees_colour)
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", batch_size=4)
    assert sum(model.tried) == 4
    assert files(tmp_path / "out") == whole
    assert result.answers_per_second is not None


def test_a_finished_run_asks_nothing_and_keeps_its_speed(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    (first,) = evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "out")
    for _ in range(2):
        model = FakeModel(sees_colour)
        (again,) = evaluate(model, [task], output_dir=tmp_path / "out")
        assert model.tried == []
        assert again == first
    assert first.answers_per_second is not None


def not_json(result: Path) -> None:
    result.write_text("{")


def of_another_model(result: Path) -> None:
    content = json.loads(result.read_text())
    result.write_text(json.dumps({**content, "model": {"name": "other", "parameters": 0}}))


@pytest.mark.parametrize("spoil", [Path.unlink, not_json, of_another_model])
def test_the_speed_of_other_answers_is_not_taken(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    task = small_task(tmp_path)
    evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "out")
    spoil(tmp_path / "out" / "small.result.json")
    (result,) = evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "out")
    assert result.answers_per_second is None


def change_prompt(folder: Path) -> dict[str, Any]:
    write_task(folder, cluster="image", prompt={"suffix": "!"})
    return {}


def change_data(folder: Path) -> dict[str, Any]:
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())
    return {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: {"model": FakeModel(name="other")}, "model"),
        (lambda folder: {"limit": 5}, "data_fingerprint, limit"),
        (lambda folder: {"seed": 1}, "seed"),
        (change_prompt, "prompt"),
        (change_data, "data_fingerprint"),
    ],
    ids=["model", "limit", "seed", "prompt", "data"],
)
def test_answers_of_another_call_are_never_used(tmp_path: Path, change: Any, named: str) -> None:
    task = small_task(tmp_path)
    evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "out")
    old = (tmp_path / "out" / "small.answers.jsonl").read_bytes()
    options = {"model": FakeModel(), **change(tmp_path)}
    model, said = options.pop("model"), list[str]()
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", say=said.append, **options)
    assert sum(model.tried) == result.n
    assert (tmp_path / "out" / "small.answers.jsonl.old").read_bytes() == old
    (line,) = said
    assert f"was made with another {named}; it is now small.answers.jsonl.old" in line


def test_another_scorer_needs_no_new_answers(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    evaluate(FakeModel(lambda request: "red blue"), [task], output_dir=tmp_path / "out")
    write_task(tmp_path, scorer="rouge_l", metric="rouge_l", description="other words")
    model, said = FakeModel(), list[str]()
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", say=said.append)
    assert (model.tried, said, result.metric) == ([], [], "rouge_l")
    assert result.value == pytest.approx(2 / 3)


def test_the_prompt_is_prefix_question_suffix(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"question": "what?", "answer": "x"}])
    model = FakeModel()
    evaluate(model, [write_task(tmp_path, prompt={"prefix": "Q: ", "suffix": "\nA:"})], output_dir=tmp_path / "out")
    assert model.batches[0][0].prompt == "Q: what?\nA:"


def test_progress_starts_where_the_last_run_stopped(tmp_path: Path) -> None:
    task, seen = small_task(tmp_path), list[tuple[str, int, int]]()
    with pytest.raises(Killed):
        evaluate(FakeModel(dies_after=1), [task], output_dir=tmp_path / "out", batch_size=4)
    evaluate(FakeModel(), [task], output_dir=tmp_path / "out", batch_size=4, progress=lambda *args: seen.append(args))
    assert seen == [("small", 4, 10), ("small", 8, 10), ("small", 10, 10)]


def test_a_call_with_a_mistake_asks_nothing(tmp_path: Path) -> None:
    task, model = small_task(tmp_path), FakeModel()
    calls: list[tuple[list[Any], dict[str, int], str]] = [
        ([], {}, "tasks are none; expected at least one"),
        ([task, load_task(task)], {}, "tasks are small, small; expected at least one, and each only once"),
        ([task, "easy_vqua"], {}, "did you mean 'easy_vqa'"),
        ([task], {"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ([task], {"limit": 0}, "limit is 0, expected 1 or more"),
    ]
    for tasks, options, message in calls:
        with pytest.raises(UserError, match=re.escape(message)):
            evaluate(model, tasks, output_dir=tmp_path / "out", **options)
    assert model.tried == []
    assert not (tmp_path / "out").exists()


def test_a_model_that_loses_answers_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    class Forgetful(FakeModel):
        def generate(self, requests: Any, max_new_tokens: int) -> list[str]:
            return super().generate(requests, max_new_tokens)[1:]

    with pytest.raises(RuntimeError, match="gave 9 answers to 10 requests"):
        evaluate(Forgetful(), [small_task(tmp_path)], output_dir=tmp_path / "out")
    assert len((tmp_path / "out" / "small.answers.jsonl").read_text().splitlines()) == 1


def test_several_tasks_each_write_their_result(tmp_path: Path) -> None:
    first = small_task(tmp_path)
    second = write_task(tmp_path, name="second")
    results = evaluate(FakeModel(), [first, second], output_dir=tmp_path / "out")
    assert [result.task for result in results] == ["small", "second"]
    for name in ("small", "second"):
        assert json.loads((tmp_path / "out" / f"{name}.result.json").read_text())["value"] == 0.5
