"""Comparing evaluations: paired intervals recomputed, unlike evaluations refused, a page that escapes what it shows."""

import base64
import csv
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval.compare import compare, differences
from taid_vlm_eval.compare_categories import categories, category_means
from taid_vlm_eval.compare_command import run_compare
from taid_vlm_eval.compare_page import page
from taid_vlm_eval.compare_pictures import Pictures
from taid_vlm_eval.compare_read import read_evaluation, require_alike
from taid_vlm_eval.metrics import METRICS, Scored, wilson_interval
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.task_files import load_task
from tests.browser import needs_browser, visit
from tests.eval.fakes import FakeModel, sees_colour, small_task, write_rows, write_task
from tests.tiny.benchmark_files import TSV, write_benchmark
from tests.tiny.benchmarks import PARQUET


def scored(values: list[float], clusters: list[Any], facts: dict[str, Any] | None = None) -> list[Scored]:
    return [
        Scored(
            str(place), str(cluster), "", "yes", value, "yes" if value else "no", facts or {"category": str(place % 2)}
        )
        for place, (value, cluster) in enumerate(zip(values, clusters, strict=True))
    ]


def made(tmp_path: Path, **changes: Any) -> tuple[Path, Path]:
    """Two evaluations of ten pictures: one sees them, the other says "red"."""
    small_task(tmp_path)
    task = write_task(tmp_path, cluster="image", **changes)
    evaluate(FakeModel(sees_colour, name="a"), [task], output_dir=tmp_path / "a")
    evaluate(FakeModel(name="b"), [task], output_dir=tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def test_the_interval_is_the_bootstrap_of_the_differences() -> None:
    draw = random.Random(0)
    first, second = ([float(draw.random() < share) for _ in range(60)] for share in (0.8, 0.6))
    clusters = [place // 3 for place in range(60)]
    metric = METRICS.get("accuracy")
    (found,) = differences("accuracy", metric(scored(first, clusters), 5), metric(scored(second, clusters), 5))
    # By hand: draw clusters, and average the differences of the items in them.
    gaps_C = (np.array(first) - np.array(second)).reshape(20, 3).mean(axis=1)
    generator = np.random.default_rng(5)
    means_R = gaps_C[generator.integers(0, 20, size=(2000, 20))].mean(axis=1)
    low, high = np.quantile(means_R, [0.025, 0.975])
    assert found.difference == pytest.approx(np.mean(gaps_C))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.clear == (low > 0)


def test_pairs_are_narrower_than_two_intervals_apart() -> None:
    draw = random.Random(1)
    hard = [float(draw.random() < 0.5) for _ in range(200)]
    slightly_worse = [0.0 if place < 8 else value for place, value in enumerate(hard)]
    metric = METRICS.get("accuracy")
    one, other = (metric(scored(values, list(range(200))), 0) for values in (hard, slightly_worse))
    (found,) = differences("accuracy", one, other)
    assert found.high - found.low < 0.5 * (one.high - one.low)


def any_metric(values: list[float]) -> list[Scored]:
    """Scored items that every metric can read: their answers, facts and grades say the same as their values."""
    items = scored(values, [place // 2 for place in range(len(values))])
    facts = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    return [replace(one, facts={**one.facts, **facts, "grades": [1 + 9 * one.value, None]}) for one in items]


def measured(one: Scored) -> Scored:
    """The same item as the way of asking ``divergence`` answers it."""
    sums = {"kl": 3 - one.value, "reverse_kl": 2.0, "agreement": one.value, "cross_entropy": 4 - one.value}
    return replace(one, answer=json.dumps({"tokens": 1 + int(one.id) % 3, "teacher_cross_entropy": 1.0, **sums}))


@pytest.mark.parametrize("name", sorted(METRICS))
@given(st.lists(st.booleans(), min_size=4, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_every_metric_can_be_compared_both_ways(name: str, right: list[bool], draw: random.Random) -> None:
    lists = [float(one) for one in right], [float(draw.random() < 0.5) for _ in right]
    answered = [any_metric(values) for values in lists]
    if name == "divergence":
        answered = [[measured(one) for one in each] for each in answered]
    first, second = (METRICS.get(name)(each, 0) for each in answered)
    forth, back = differences(name, first, second), differences(name, second, first)
    assert {one.figure for one in forth} == {name, *first.named}
    for one, other in zip(forth, back, strict=True):
        assert one.low <= one.high
        assert one.difference == -other.difference
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
        assert (one.first_interval, one.second_interval) == (other.second_interval, other.first_interval)
        assert one.lower_is_better == (name == "divergence" and one.figure != "agreement")


def test_without_any_spread_the_interval_still_has_a_width() -> None:
    metric = METRICS.get("accuracy")
    all_right, all_wrong = (metric(scored([value] * 10, list(range(10))), 0) for value in (1.0, 0.0))
    (same,) = differences("accuracy", all_right, all_right)
    width = wilson_interval(0, 10)[1]
    assert (same.difference, same.low, same.high, same.clear) == (0.0, -width, width, False)
    (worse,) = differences("accuracy", all_wrong, all_right)
    assert (worse.difference, worse.low, worse.high) == pytest.approx((-1.0, -1.0, -wilson_interval(10, 10)[0]))
    assert worse.clear


def test_folders_are_compared_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = made(tmp_path)
    run_compare([a, b, a / ".." / "b"], tasks_folders=[tmp_path])
    out = capsys.readouterr().out
    assert out.count("+0.5000 (+0.2000 to +0.8000) *") == 2
    run_compare([b, a], tasks=["small"], tasks_folders=[tmp_path], as_json=True)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["n"], told["first_better"], told["second_better"], told["notes"]) == (10, 0, 5, [])
    assert told["differences"][0]["difference"] == -0.5


def test_categories_are_compared(tmp_path: Path) -> None:
    a, b = made(tmp_path, scorer="yes_no", metric="pope")
    (pair,) = compare([a, b], tasks_folders=[tmp_path])
    assert [one.figure for one in pair.differences][:2] == ["pope", "accuracy"]


def test_facts_of_ones_own_lines_are_categories(tmp_path: Path) -> None:
    """Every third item is of another kind, and the first model is right about the others alone."""
    kinds = [("plain", "odd")[place % 3 == 2] for place in range(12)]
    rows = [
        {
            "question": f"{kind} {place}?",
            "answer": "yes",
            "facts": {"kind": kind, "hard": place % 2 == 0, "author_id": place},
        }
        for place, kind in enumerate(kinds)
    ]
    write_rows(tmp_path, rows)
    task = write_task(tmp_path)
    evaluate(
        FakeModel(lambda asked: "no" if "odd" in asked.prompt else "yes", name="a"), [task], output_dir=tmp_path / "a"
    )
    evaluate(FakeModel(lambda asked: "yes", name="b"), [task], output_dir=tmp_path / "b")
    (pair,) = compare([tmp_path / "a", tmp_path / "b"], tasks_folders=[tmp_path])
    found = {one.figure: (one.first, one.difference) for one in pair.differences}
    assert found["kind/plain"] == (1.0, 0.0)
    assert found["kind/odd"] == (0.0, -1.0)
    assert found["hard/True"] == found["hard/False"] == pytest.approx((2 / 3, -1 / 3))
    assert not any("author" in name for name in found)


def test_options_of_ones_own_lines_are_what_letters_mean(tmp_path: Path) -> None:
    facts = {"options": {"A": "a cat", "B": "a dog"}}
    write_rows(tmp_path, [{"question": "Which?\nA. a cat\nB. a dog", "answer": "B", "facts": facts}])
    task = write_task(tmp_path, scorer="choice")
    (result,) = evaluate(FakeModel(lambda _: "It is a dog."), [task], output_dir=tmp_path / "out")
    assert result.value == 1.0


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "small.result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def less_answers(a: Path, b: Path) -> None:
    path = b / "small.answers.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def other_picture(a: Path, b: Path) -> None:
    (a.parent / "0.png").write_bytes((a.parent / "1.png").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a, b: rewrite(b, mode="lmms"), "mode is '' in .* and 'lmms' in .*cannot be compared"),
        (
            lambda a, b: rewrite(b, data_fingerprint="0", n=3),
            r"data_fingerprint is .*n 10, limit None.*n 3, limit None",
        ),
        (lambda a, b: rewrite(b, scorer="rouge_l"), "scorer is 'exact_match'"),
        (lambda a, b: (b / "small.result.json").write_text("{}"), "lacks task, .*was made by another version"),
        (lambda a, b: (b / "small.result.json").write_text("{"), "is not valid JSON"),
        (
            lambda a, b: (b / "small.result.json").unlink(),
            "no results in .*b; expected a folder that taid-vlm eval wrote",
        ),
        (lambda a, b: (b / "small.result.json").rename(b / "x.result.json"), "no task in common"),
        (lambda a, b: (b / "small.answers.jsonl").unlink(), "holds other answers than those of the result"),
        (less_answers, "lacks the answers to 2 of 10 items"),
        (other_picture, "the data here is not that of the evaluation"),
        (lambda a, b: (a.parent / "small.yaml").unlink(), "unknown task 'small'"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    a, b = made(tmp_path)
    spoil(a, b)
    with pytest.raises(UserError, match=message):
        compare([a, b], tasks_folders=[tmp_path])


def test_mistakes_in_the_call(tmp_path: Path) -> None:
    a, b = made(tmp_path)
    for folders in ([a], [a, a]):
        with pytest.raises(UserError, match="found 1 folders to compare, expected two or more"):
            compare(folders)
    with pytest.raises(UserError, match=r"no result of task 'pope' in .*a; it has small"):
        compare([a, b], tasks=["pope"])
    with pytest.raises(UserError, match=r"is a folder; give the name of a file"):
        run_compare([a, b], html=tmp_path)


def test_other_prompts_and_other_figures_are_told(tmp_path: Path) -> None:
    a, b = made(tmp_path)
    rewrite(b, protocol="few-shot", value=0.9)
    (pair,) = compare([a, b], tasks_folders=[tmp_path])
    assert pair.notes[0] == "protocol differs: '' and 'few-shot'"
    assert "says 0.9, scored by another version; here it is 0.5" in pair.notes[1]


def test_the_page_shows_pictures_and_escapes_all_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_task(tmp_path, 4)
    nasty = "</dd><script>alert('x')</script> & \u202e\ud800\x00\n\ufffe" + "z" * 3000
    rows = [{"id": f"<{n}>", "question": "<b>?", "answer": ["<i>", "<i>"], "images": [f"{n}.png"]} for n in range(4)]
    write_rows(tmp_path, [*rows, {"id": "gone", "question": "?", "answer": "<i>", "images": ["0.png", "gone.png"]}])
    task = write_task(tmp_path)
    (tmp_path / "gone.png").write_bytes((tmp_path / "1.png").read_bytes())
    evaluate(FakeModel(lambda request: "<think>no</think><i>"), [task], output_dir=tmp_path / "a&b")
    evaluate(FakeModel(lambda request: nasty), [task], output_dir=tmp_path / "c")
    html = tmp_path / "page" / "compare.html"
    run_compare([tmp_path / "a&b", tmp_path / "c"], tasks_folders=[tmp_path], html=html, most=4)
    assert f"page: {html}" in capsys.readouterr().out.replace("\n", "")
    text = html.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    pictures = [one.get("src", "") for one in root.iter("img")]
    assert len(pictures) == 4
    assert all(source.startswith("data:image/") for source in pictures)
    assert "5 of 5 items, 4 shown" in text
    assert "0 of 5 items" in text
    assert not re.search(r"src=\"(?!data:)|href=\"(?!#)", text)
    answers = [one.text for one in root.iter("dd") if one.get("class") == "right"]
    assert answers == ["<i>"] * 4


# Those that a model without weights can answer and a rule scores; likelihoods and divergences are compared above.
GENERATED = [name for name in sorted({*PARQUET, *TSV} - {"mm_vet"}) if load_task(name).task.asks == "answer"]


@pytest.mark.parametrize("task", GENERATED)
def test_every_shipped_benchmark_can_be_compared(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_benchmark(task, tmp_path / "cache" / "data")
    (told,) = evaluate(FakeModel(lambda request: "B. red", name="a"), [task], output_dir=tmp_path / "a")
    (other,) = evaluate(FakeModel(lambda request: "no", name="b"), [task], output_dir=tmp_path / "b")
    (pair,) = compare([tmp_path / "a", tmp_path / "b"])
    names = [one.figure for one in pair.differences]
    further = [f"{key}/{name}" for key, found in pair.groups.items() for name in found]
    assert names[: 1 + len(told.named)] == [told.metric, *told.named]
    assert set(names[1 + len(told.named) :]) <= set(further)
    assert (pair.differences[0].first, pair.differences[0].second) == (told.value, other.value)
    assert pair.notes == []
    for one in pair.differences:
        assert one.low <= one.difference <= one.high
    assert "<article>" in page([pair]) or told.value == other.value


def test_categories_are_means_in_the_same_draws_and_come_from_facts_and_truths() -> None:
    draw = random.Random(2)
    facts = {"category": "all", "question_id": "1", "kind": "a", "share": 0.5, "options": None}
    truths = ["yes", "3", "$1,200", "left", "No"] * 8
    items = [
        replace(one, truth=truth, facts={**facts, "kind": "ab"[place % 2], "group": str(place // 2)})
        for place, (one, truth) in enumerate(
            zip(scored([float(draw.random() < 0.6) for _ in truths], list(range(40))), truths, strict=True)
        )
    ]
    found = categories(items)
    assert list(found) == ["kind", "answer"]
    assert found["answer"][:5] == ["yes-no", "number", "number", "other", "yes-no"]
    means = category_means(items, found, 3)
    assert set(means) == {"kind/a", "kind/b", "answer/yes-no", "answer/number", "answer/other"}
    assert means["kind/a"].value == pytest.approx(np.mean([one.value for one in items[::2]]))
    # The whole is made of its parts in every draw, so that both can be compared with the same pairs.
    generator = np.random.default_rng(3)
    drawn_RC = generator.integers(0, 40, size=(2000, 40))
    values_N, even_N = np.array([one.value for one in items]), np.arange(40) % 2 == 0
    by_hand = [values_N[row][even_N[row]].mean() for row in drawn_RC[:50]]
    assert means["kind/a"].draws is not None
    assert means["kind/a"].draws[:50] == pytest.approx(by_hand)


def test_what_numbers_items_or_shows_options_is_no_category() -> None:
    items = scored([1.0] * 8, list(range(8)), {"options": {"A": "red"}, "set_id": "1"})
    items = [
        replace(one, facts={**one.facts, "set_id": str(n % 2), "url": str(n)}, truth="AB"[n % 2])
        for n, one in enumerate(items)
    ]
    assert categories(items) == {}


def test_divergences_from_unlike_teachers_are_refused(tmp_path: Path) -> None:
    a, b = made(tmp_path)
    for folder, name, identity in ((a, "here", "1"), (b, "there", "1")):
        rewrite(folder, model={"name": "x", "teacher": json.dumps({"name": name, "identity": identity})})
    one, other = (read_evaluation(folder, "small") for folder in (a, b))
    require_alike("small", one, other)  # one teacher in two places
    rewrite(b, model={"name": "x", "teacher": json.dumps({"name": "here", "identity": "2"})})
    with pytest.raises(UserError, match="were measured from two different teachers"):
        compare([a, b], tasks_folders=[tmp_path])


def test_pictures_are_scaled_down_and_their_bytes_are_bounded(tmp_path: Path) -> None:
    Image.effect_noise((2000, 1000), 90).save(tmp_path / "large.png")
    Image.new("RGB", (8, 4)).save(tmp_path / "small.png")
    pictures = Pictures()
    large, small = pictures.get(tmp_path / "large.png"), pictures.get(tmp_path / "small.png")
    assert (large.width, large.height, small.width, small.height) == (512, 256, 256, 128)
    assert len(large.uri) < 400_000
    bounded = Pictures(len(large.uri) + 10)
    assert bounded.get(tmp_path / "large.png").uri
    again = bounded.get(tmp_path / "large.png")
    assert (again.uri, again.why.split(",")[0]) == ("", "left out")


def sorted_task(folder: Path, name: str) -> Path:
    """Twelve pictures in two categories, as VLMEvalKit's table has them."""
    small_task(folder, 12)
    with (folder / "small.tsv").open("w", newline="") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(["index", "image", "question", "answer", "category"])
        for number in range(12):
            picture = base64.b64encode((folder / f"{number}.png").read_bytes()).decode()
            rows.writerow([number, picture, "which?", ("red", "blue")[number % 2], ("<b>near", "far")[number % 3 == 0]])
    columns = {"id": "index", "question": "question", "answer": "answer", "images": "image", "category": "category"}
    data = {"source": "tsv", "path": "small.tsv", "columns": columns, "answer": "text"}
    return write_task(folder, name=name, data=data, cluster="image")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_browser_shows_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, dark: bool
) -> None:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    task = sorted_task(tmp_path, "few")
    script = "<script>document.body.innerHTML = ''; throw Error('obeyed')</script>"
    rules = {"a": sees_colour, "b": lambda request: script, "c": lambda request: "red"}
    for name, rule in rules.items():
        evaluate(FakeModel(rule, name=script), [task], output_dir=tmp_path / name)
    run_compare([tmp_path / name for name in rules], tasks_folders=[tmp_path], html=tmp_path / "page.html")
    out = capsys.readouterr().out
    assert "category/far" in out
    assert "a - c (95 %)" in out
    seen = visit((tmp_path / "page.html").read_text(encoding="utf-8"), tmp_path, width=width, dark=dark)
    assert (seen.errors, seen.scripts, seen.unnamed, seen.dead, seen.unreachable) == ([], 0, 0, [], 0)
    assert len(seen.pictures) == 12 + 6
    assert all(size > 0 for size in seen.pictures)
    # Two tasks of the summary with two counts, each category with a count, and back to the top.
    assert seen.links >= 2 + 3 + 3 + 2
    assert not seen.wider
    assert seen.background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_results_that_do_not_state_their_data_are_read(tmp_path: Path) -> None:
    a, b = made(tmp_path)
    path = b / "small.result.json"
    state = json.loads(path.read_text())
    del state["data"]
    path.write_text(json.dumps(state))
    (pair,) = compare([a, b], tasks_folders=[tmp_path])
    assert pair.task == "small"
