"""The report of runs, read as a person would."""

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, linear_t
from taid_vlm.recipe import load_recipe
from taid_vlm.recipe.origin import origin_of
from taid_vlm.report.curves import charts, exponential, linear
from taid_vlm.report.page import page
from taid_vlm.report.run_files import read_run, read_runs
from taid_vlm.report.runs import find_runs, long, summary
from tests.browser import needs_browser, visit
from tests.report.written_runs import write_examples, write_run

EVIL = '<script>document.title="taken"</script><img src=x onerror=alert(1)>"\'&\u202e'


def test_one_run_has_every_chart_and_its_figures(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "taid"))
    found = {chart.title: chart for some in charts([run]).values() for chart in some}
    expected = {
        "Loss",
        "Cross-entropy on the labels",
        "KL to the teacher",
        "Entropy",
        "Head mass",
        "Tail mass",
        "t of the target",
    }
    expected |= {
        "Momentum of the schedule",
        "vqa",
        "Learning rate",
        "Gradient norm",
        "Throughput",
        "Most memory so far",
    }
    assert set(found) == expected
    assert not any(chart.missing for chart in found.values())
    kl = found["KL to the teacher"]
    assert list(kl.lines[0].y) == [row["kl_teacher"] for row in run.steps]
    assert [line.name for line in kl.lines] == ["taid", "held out"]
    vqa = found["vqa"].lines[0]
    # On the way after 20, 40 and 60 steps; the one on the way holds where both are of the last step.
    assert (list(vqa.x), vqa.y[-1], vqa.intervals[0]) == ([20, 40, 60], pytest.approx(0.6), pytest.approx((0.35, 0.45)))
    assert [line.name for line in found["t of the target"].lines] == ["taid", "linear", "exponential"]


def test_the_schedules_beside_t_are_those_of_the_clock(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "taid", steps=30, total=50))
    clock = TAIDClock(50, schedule="exponential", alpha_total=5.9)
    for step, t in enumerate(exponential(run)):
        assert t == clock.t
        clock.update(2.0, step)
    # What the schedule "linear" writes at a step is the line at the step before.
    assert linear(run) == [linear_t(max(0, step - 1), 50, 0.4, 1.0) for step in range(50)]


def test_script_tags_in_answers_and_names_are_shown_as_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "<script>alert(1)")
    write_examples(folder, {"before": EVIL, "after": EVIL, "teacher": "circle"})
    (folder / "trained.txt").write_text(EVIL + "\n")
    about = json.loads((folder / "run.json").read_text())
    about["origin"] |= {"recipe": EVIL, "overrides": [EVIL], "changes": [[EVIL, EVIL, {EVIL: EVIL}]]}
    about["versions"][EVIL] = EVIL
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "evaluation" / f"{EVIL.replace('/', '')}.result.json").write_text(
        json.dumps({"value": 1, "low": 0, "high": 1, "metric": EVIL, "top": 1})
    )
    made = page([read_run(folder)])
    tree = ElementTree.fromstring(made.split("\n", 1)[1])
    tags = {one.tag.rsplit("}")[-1] for one in tree.iter()}
    assert "script" not in tags
    assert not [key for one in tree.iter() for key in one.attrib if key.startswith("on")]
    assert all(one.get("src", "").startswith("data:image/") for one in tree.iter() if one.tag == "img")
    assert "\u202e" not in made
    assert '<script>document.title="taken"' in "".join(tree.itertext())  # it can be read, as text


def test_a_run_that_is_broken_or_half_written_has_a_page_that_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "taid", steps=10, finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('not json\n{"step": 11, "loss": 0.')
    (folder / "timing.jsonl").unlink()
    (folder / "trained.txt").unlink()
    (folder / "examples").mkdir()
    (folder / "examples" / "examples.json").write_text("{")
    run = read_run(folder)
    assert run.done == 10
    assert run.notes == [
        "metrics.jsonl: 1 lines could not be read and were left out",
        "examples.json could not be read",
    ]
    made = page([run])
    assert "1 lines could not be read" in made
    assert made.count("Not recorded") >= 3


def test_a_run_that_has_not_begun_and_one_without_a_readable_recipe_have_pages(tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", steps=0, finished=False)
    (empty / "metrics.jsonl").write_text("")
    broken = write_run(tmp_path / "broken")
    (broken / "recipe.yaml").write_text("a: [")
    runs = read_runs([empty, broken])
    assert [run.state for run in runs] == ["not started", "finished"]
    assert "the recipe could not be read" in page(runs)


def test_a_missing_picture_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "taid")
    write_examples(folder, count=2)
    (folder / "examples" / "1.png").unlink()
    made = page([read_run(folder)])
    assert made.count("<img ") == 1
    assert "the picture 1.png could not be read" in made


def test_several_runs_share_charts_and_their_recipes_are_compared(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name / "run", name, seed=place) for place, name in enumerate(("taid", "kl"))]
    for folder in folders:
        write_examples(folder, count=1)
    runs = read_runs(folders)
    assert [run.name for run in runs] == ["taid/run", "kl/run"]
    drawn = {chart.title: chart for some in charts(runs).values() for chart in some}
    assert [(line.name, line.colour) for line in drawn["Loss"].lines] == [("taid/run", 0), ("kl/run", 1)]
    assert drawn["t of the target"].missing == []  # kl has none
    made = page(runs)
    row = re.search(r'<tr><th scope="row">loss.name</th>(.*?)</tr>', made)
    assert row is not None
    assert row[1] == "<td>taid</td><td>kl</td>"
    assert made.count("<article>") == 1
    assert "kl/run: student before training" in made


def test_no_folder_of_a_run_and_one_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the folder of a run"):
        read_run(tmp_path)
    run = write_run(tmp_path / "taid")
    with pytest.raises(UserError, match="given twice"):
        read_runs([run, run / ".." / "taid"])


def test_the_origin_of_a_recipe_names_its_base_and_what_it_changes(tmp_path: Path) -> None:
    found = origin_of("quickstart/taid", ["training.lr=0.5"])
    assert (found["recipe"], found["base"]) == ("quickstart/taid", "student.yaml")
    changed = {key: after for key, _, after in found["changes"]}
    assert (changed["training.lr"], changed["loss.name"]) == (0.5, "taid")
    loaded = load_recipe("quickstart/taid", ["training.lr=0.5"])
    assert loaded.training.lr == 0.5
    assert "student.projector.name" not in changed


def test_runs_are_listed_with_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs" / "done")
    write_run(tmp_path / "runs" / "deep" / "er" / "going", steps=20, finished=False)
    stopped = write_run(tmp_path / "runs" / "stopped", steps=20, finished=False)
    for file in stopped.iterdir():
        os.utime(file, (1e9, 1e9))
    found = {run.name: summary(run) for run in find_runs(tmp_path / "runs")}
    assert {name: one.state for name, one in found.items()} == {
        "deep/er/going": "running",
        "done": "finished",
        "stopped": "stopped",
    }
    assert (found["done"].task, found["done"].figure, found["done"].steps) == ("vqa", 0.61, 60)
    assert found["stopped"].figure == pytest.approx(0.4)  # of the evaluation on the way
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["runs", "--json"])
    assert [one["name"] for one in json.loads(said.stdout)] == ["deep/er/going", "done", "stopped"]
    assert "20/60" in CliRunner().invoke(app, ["runs"], env={"COLUMNS": "200"}).stdout


def test_times_are_told_in_units_of_people() -> None:
    assert [long(s) for s in (3.2, 61, 3700, 90_000)] == ["3 s", "1 min", "1 h 1 min", "1 d 1 h"]


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_the_page_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    folders = [write_run(tmp_path / name, name, seed=place) for place, name in enumerate(("taid", "kl"))]
    for folder in folders:
        write_examples(folder, {"before": EVIL, "after": "circle"})
    target = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", *map(str, folders), "--html", str(target)])
    assert done.exit_code == 0, done.output
    (tmp_path / "browser").mkdir()
    seen = visit(target.read_text(), tmp_path / "browser", width=width, dark=dark)
    assert (seen.errors, seen.scripts, seen.dead, seen.unreachable, seen.unnamed) == ([], 0, [], 0, 0)
    assert len(seen.pictures) == 4
    assert all(seen.pictures)
    assert not seen.wider
    assert seen.background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert target.read_text().count('<svg class="chart"') == 13
