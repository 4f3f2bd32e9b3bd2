"""Judges: who is asked about what, what becomes of replies and of none, and that nothing is asked twice or lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.answers import Answer
from taid_vlm_eval.cli import main
from taid_vlm_eval.compare import compare
from taid_vlm_eval.data import Item
from taid_vlm_eval.judges import PROMPTS, Grader, Judge, Judgements, Reader, open_judge
from taid_vlm_eval.judges.judgements import all_questions
from taid_vlm_eval.metrics import METRICS, Scored
from taid_vlm_eval.metrics.judged import NothingReadError
from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.scoring import score_items
from tests.eval.fakes import FakeModel, Killed, without_speed, write_rows, write_task
from tests.eval.servers import Reply, error, serving, text_of

KEY = "sk-judge-0123456789abcdef"


def judge_of(model: FakeModel) -> Judge:
    return Judge("local", lambda: model)


def mm_vet_task(folder: Path, count: int = 4) -> Path:
    write_rows(folder, [{"id": f"q{one}", "question": f"why {one}?", "answer": f"truth {one}"} for one in range(count)])
    return write_task(folder, scorer="none", metric="mm_vet", judge={"prompt": "mm_vet"})


def last_row(request: Request) -> list[str]:
    return [cell.strip() for cell in request.prompt.splitlines()[-1].strip("|").split("|")]


def answering(request: Request) -> str:
    return f"said {request.prompt}"


def test_without_a_judge_a_task_of_judges_is_not_run(tmp_path: Path) -> None:
    task = mm_vet_task(tmp_path)
    with pytest.raises(UserError, match=r"only a judge.*--judge openai:MODEL@URL or --judge local:PATH"):
        evaluate(FakeModel(answering), [task], output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bare = write_task(tmp_path, name="bare", scorer="none", metric="accuracy")
    with pytest.raises(UserError, match=r"names no judge\.prompt"):
        evaluate(FakeModel(), [bare], output_dir=tmp_path / "out", judge=judge_of(FakeModel()))


def test_grades_make_the_figure_and_the_judge_is_stated(tmp_path: Path) -> None:
    grades = {"truth 0": "1.0", "truth 1": "0.5", "truth 2": "I cannot say", "truth 3": "<think>0.1?</think> 0.2"}
    judge = FakeModel(lambda request: grades[last_row(request)[1]], name="judge")
    (result,) = evaluate(
        FakeModel(answering), [mm_vet_task(tmp_path)], output_dir=tmp_path / "out", judge=judge_of(judge)
    )
    assert result.value == pytest.approx((1.0 + 0.5 + 0.0 + 0.2) / 4)
    assert result.judge == {
        "name": "local:judge",
        "model": judge.describe(),
        "prompt": "mm_vet",
        "asked": 4,
        "errors": 0,
        "parse_rate": 0.75,
    }
    assert result.parse_rate == 0.75
    assert result.parse_notes["judge unread"] == 1
    # The judge saw question, truth and answer, and no picture.
    rows = {tuple(last_row(request)[:3]) for batch in judge.batches for request in batch}
    assert ("why 2?", "truth 2", "said why 2?") in rows
    assert all(request.images == [] for batch in judge.batches for request in batch)


def test_a_killed_judge_goes_on_where_it_was(tmp_path: Path) -> None:
    task = mm_vet_task(tmp_path, 6)
    whole = FakeModel(lambda request: "0.5", name="judge")
    evaluate(FakeModel(answering), [task], output_dir=tmp_path / "whole", judge=judge_of(whole), batch_size=2)
    dying = FakeModel(lambda request: "0.5", name="judge", dies_after=2)
    with pytest.raises(Killed):
        evaluate(FakeModel(answering), [task], output_dir=tmp_path / "out", judge=judge_of(dying), batch_size=2)
    model, again = FakeModel(answering), FakeModel(lambda request: "0.5", name="judge")
    evaluate(model, [task], output_dir=tmp_path / "out", judge=judge_of(again), batch_size=2)
    assert (len(model.batches), len(again.batches)) == (0, 1)
    for name in ("small.judgements.jsonl", "small.answers.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    paths = [tmp_path / one / "small.result.json" for one in ("out", "whole")]
    assert without_speed(paths[0]) == without_speed(paths[1])


def test_faults_are_counted_and_asked_again_and_nothing_else_is(tmp_path: Path) -> None:
    task, asked = mm_vet_task(tmp_path), []

    class Faulty(FakeModel):
        broken = True

        def generate(self, requests: Any, max_new_tokens: int) -> Any:
            asked.extend(last_row(request)[1] for request in requests)
            bad = [self.broken and last_row(request)[1] == "truth 2" for request in requests]
            return [AnswerFault("timed out") if one else "1.0" for one in bad]

    judge = Faulty(name="judge")
    (result,) = evaluate(FakeModel(answering), [task], output_dir=tmp_path / "out", judge=judge_of(judge))
    assert (result.value, result.judge["errors"], result.judge["parse_rate"]) == (0.75, 1, 0.75)
    assert sorted(asked) == ["truth 0", "truth 1", "truth 2", "truth 3"]
    judge.broken = False
    (result,) = evaluate(FakeModel(answering), [task], output_dir=tmp_path / "out", judge=judge_of(judge))
    assert (result.value, result.judge["errors"]) == (1.0, 0)
    assert sorted(asked[4:]) == ["truth 2"]


def test_another_judge_asks_anew_and_another_answer_only_itself(tmp_path: Path) -> None:
    task = mm_vet_task(tmp_path)
    first = FakeModel(lambda request: "1.0", name="first")
    evaluate(FakeModel(answering), [task], output_dir=tmp_path / "out", judge=judge_of(first))
    second, said = FakeModel(lambda request: "0.0", name="second"), []
    (result,) = evaluate(
        FakeModel(answering), [task], output_dir=tmp_path / "out", judge=judge_of(second), say=said.append
    )
    assert (result.value, sum(map(len, second.batches))) == (0.0, 4)
    assert any("judgements.jsonl was made with another judge" in line for line in said)
    other = FakeModel(lambda request: "new" if "2" in request.prompt else answering(request), name="other")
    third = FakeModel(lambda request: "1.0", name="second")
    (result,) = evaluate(other, [task], output_dir=tmp_path / "out", judge=judge_of(third), batch_size=1)
    assert (result.value, sum(map(len, third.batches))) == (0.25, 1)


READER_ROWS = [
    {"id": "a", "question": "red?", "answer": "yes"},
    {"id": "b", "question": "blue?", "answer": "no"},
    {"id": "c", "question": "green?", "answer": "no"},
    {"id": "d", "question": "pink?", "answer": "yes"},
]
SAID = {"red?": "Yes.", "blue?": "It is hard to tell, but hardly", "green?": "perhaps", "pink?": ""}


def test_where_the_rule_could_read_the_judge_is_not_asked(tmp_path: Path) -> None:
    write_rows(tmp_path, READER_ROWS)
    task = write_task(tmp_path, scorer="yes_no", metric="accuracy")
    judge = FakeModel(lambda request: "no" if "hardly" in request.prompt else "neither", name="judge")
    model = FakeModel(lambda request: SAID[request.prompt])
    (plain,) = evaluate(model, [task], output_dir=tmp_path / "plain")
    (result,) = evaluate(model, [task], output_dir=tmp_path / "out", judge=judge_of(judge))
    assert (plain.value, plain.judge, plain.parse_rate) == (0.25, {"name": "rule"}, 0.25)
    assert (result.value, result.parse_rate) == (0.5, 0.5)
    assert sum(map(len, judge.batches)) == 2  # an empty answer is no question either
    assert result.parse_notes == {
        "judge": 1, "judge none": 1, "judge unread": 0, "judge error": 0, "strict": 1, "lenient": 0, "none": 0, "empty": 1, "error": 0,
    }  # fmt: skip
    assert (result.judge["asked"], result.judge["parse_rate"]) == (2, 1.0)


def test_a_judge_with_nothing_to_do_is_never_opened(tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError

    write_rows(tmp_path, READER_ROWS)
    for name, scorer in (("small", "yes_no"), ("other", "exact_match")):
        task = write_task(tmp_path, name=name, scorer=scorer)
        (result,) = evaluate(
            FakeModel(lambda _: "yes"), [task], output_dir=tmp_path / "out", judge=Judge("local", never)
        )
        assert result.judge.get("asked", 0) == 0


@pytest.mark.parametrize(
    ("name", "reply", "meant"),
    [
        ("choice", "B", "B"), ("choice", "(b).", "B"), ("choice", "Z", ""), ("choice", "A or B", None), ("choice", "", None),
        ("yes_no", "Yes.", "yes"), ("yes_no", "neither", ""), ("yes_no", "hm", None),
        ("mathvista", " 3.5 ", "3.5"), ("mathvista", "None.", ""), ("mathvista", "  ", None),
    ],
)  # fmt: skip
def test_replies_of_readers(name: str, reply: str, meant: str | None) -> None:
    prompt = PROMPTS.get(name)
    assert isinstance(prompt, Reader)
    assert prompt.read(reply) == meant


def test_the_extractor_of_mathvista_is_asked_about_all_that_is_not_bare(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path, scorer="mathvista_rule")).task
    number, option = {"answer_type": "integer"}, {"choices": ["cat", "dog"]}
    said = {
        "bare": (Item("bare", "?", "7", facts=number), "7"),
        "steps": (Item("steps", "?", "7", facts=number), "3 + 4 is seven"),
        "option": (Item("option", "?", "cat", facts=option), "cat"),
        "words": (Item("words", "?", "cat", facts=option), "the one that meows"),
        "list": (Item("list", "?", "[1, 2]", facts={"answer_type": "list"}), "[1, 2]"),
        "empty": (Item("empty", "?", "7", facts=number), " "),
    }
    items = [item for item, _ in said.values()]
    answers = {name: Answer(id=name, answer=text, error=None) for name, (_, text) in said.items()}
    prompt = PROMPTS.get("mathvista")
    questions = list(all_questions(prompt, task, items, answers))
    assert [one.id.split()[0] for one in questions] == ["steps", "words"]
    found = {"steps": "7", "words": "cat"}
    replies = {one.id: Answer(id=one.id, answer=found[one.id.split()[0]], error=None) for one in questions}
    scored, readings = score_items(task, items, answers, Judgements(prompt, replies))
    assert [one.value for one in scored] == [1, 1, 1, 1, 1, 0]
    assert (readings["judge"], readings["rule"], readings["empty"]) == (2, 3, 1)
    plain, _ = score_items(task, items, answers)
    assert [one.value for one in plain] == [1, 0, 1, 0, 1, 0]


def test_both_turns_of_mt_bench_are_rated_with_all_before_in_view() -> None:
    prompt = PROMPTS.get("mt_bench")
    assert isinstance(prompt, Grader)
    item = Item("1", "first question", "", facts={"turns": ["second question"], "reference": ["the truth"]})
    one, two = prompt.questions(item, json.dumps(["<think>x</think>first answer", "second answer"]))
    assert "first answer" in one
    assert "second question" not in one
    assert "the truth" in one
    assert "<think>" not in one
    for text in ("first question", "first answer", "second question", "second answer", "second answer on a scale"):
        assert text in two
    assert "the truth" not in two
    assert prompt.questions(item, "no list")[0].count("no list") == 1


def rated(name: str, category: str, *grades: float | None) -> Scored:
    return Scored(name, name, "", "", 0.0, None, {"category": category, "grades": list(grades)})


def test_the_mean_rating_leaves_out_what_could_not_be_read() -> None:
    estimate = METRICS.get("mt_bench")([rated("1", "math", 8.0, None), rated("2", "writing", 5.0, 2.0)], 0)
    named = {name: one.value for name, one in estimate.named.items()}
    assert named == {"all": 5.0, "turn 1": 6.5, "turn 2": 2.0, "math": 8.0, "writing": 3.5}
    assert (estimate.value, estimate.top) == (5.0, 10.0)
    assert 1.0 <= estimate.low <= 5.0 <= estimate.high <= 10.0
    with pytest.raises(NothingReadError, match="none of the judge's replies holds a rating"):
        METRICS.get("mt_bench")([rated("1", "math", None)], 0)


def test_an_ability_of_mm_vet_counts_each_item_once() -> None:
    scored = [Scored(str(n), str(n), "", "", value, None, {"category": abilities})
              for n, (value, abilities) in enumerate([(1.0, "ocr"), (0.5, "ocr,math"), (0.0, "math")])]  # fmt: skip
    named = {name: one.value for name, one in METRICS.get("mm_vet")(scored, 0).named.items()}
    assert named == {"all": 0.5, "math": 0.25, "ocr": 0.75}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ruel", "unknown judge 'ruel': did you mean 'rule'"),
        ("gpt-4", "expected rule, openai:MODEL@URL or local:PATH"),
        ("openai:", "needs a model behind a colon"),
        ("openai:gpt", "MODEL@URL"),
        ("local:./no/such", "no folder at"),
        ("rule:x", "takes nothing behind it"),
    ],
)
def test_judges_that_do_not_exist(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_judge(spec)


def test_rule_is_no_model() -> None:
    assert open_judge("rule") is None


def test_a_checkpoint_here_is_a_judge(language_model: Path, tmp_path: Path) -> None:
    judge = open_judge(f"local:{language_model}")
    (result,) = evaluate(FakeModel(answering), [mm_vet_task(tmp_path, 1)], output_dir=tmp_path / "out", judge=judge)
    assert result.judge["model"]["adapter"] == "transformers"
    assert result.judge["asked"] == 1


def test_model_and_judge_behind_servers_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    task, bad = mm_vet_task(tmp_path), True

    def judging(body: dict[str, Any]) -> str | Reply:
        if bad and "truth 1" in text_of(body):
            return error(400, f"no, {KEY}")
        return "1.0"

    with serving(lambda body: "an answer") as model, serving(judging) as judge:
        command = [model.address, "--tasks", str(task), "--output", str(tmp_path / "out"), "--json"]
        command += ["--judge", judge.address, "--judge-key-variable", "JUDGE_KEY", "--timeout", "10"]
        assert main(command) == 0
        (result,) = json.loads(capsys.readouterr().out)
        assert (result["value"], result["judge"]["errors"]) == (0.75, 1)
        assert result["judge"]["model"]["url"] == judge.url
        bad = False
        capsys.readouterr()
        assert main(command) == 0
        (result,) = json.loads(capsys.readouterr().out)
        assert (result["value"], result["judge"]["errors"]) == (1.0, 0)
    assert len(model.asked) == 4
    assert len(judge.asked) == 5
    assert all("Authorization" not in headers for headers in model.headers)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in judge.headers)
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_judged_results_are_compared_by_their_judgements(tmp_path: Path) -> None:
    task = mm_vet_task(tmp_path)
    for name, grade in (("one", "1.0"), ("two", "0.5")):
        judge = FakeModel(lambda request, grade=grade: grade, name="judge")
        evaluate(FakeModel(answering, name=name), [task], output_dir=tmp_path / name, judge=judge_of(judge))
    (pair,) = compare([tmp_path / "one", tmp_path / "two"], tasks_folders=[tmp_path])
    assert pair.differences[0].difference == pytest.approx(0.5)
    assert not [note for note in pair.notes if "another version" in note]
    other = FakeModel(lambda request: "0.5", name="other judge")
    evaluate(FakeModel(answering, name="two"), [task], output_dir=tmp_path / "two", judge=judge_of(other))
    with pytest.raises(UserError, match="figures of unlike judges cannot be compared"):
        compare([tmp_path / "one", tmp_path / "two"], tasks_folders=[tmp_path])
