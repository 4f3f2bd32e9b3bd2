"""The report of runs, read as a person would."""

import io
import json
import math
import os
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.common.pages import STYLE
from taid_vlm.losses import TAIDClock, linear_t
from taid_vlm.models.trained_parts import told_parts
from taid_vlm.recipe import load_recipe
from taid_vlm.recipe.origin import origin_of
from taid_vlm.report.chart import STYLE as CHART_STYLE
from taid_vlm.report.curves import charts, exponential, linear
from taid_vlm.report.page import FOLDER, WHO, page
from taid_vlm.report.run_files import Run, read_run, read_runs
from taid_vlm.report.runs import as_json, find_runs, long, summary, table_of
from taid_vlm.report.trained import Part, Trained, trained_parts
from tests.browser import needs_browser, visit
from tests.colours import colours_of, contrast
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
    # On the way after 20, 40 and 60 steps; where both are of the last step, the saved student's holds, as in the summary.
    assert list(vqa.x) == [20, 40, 60]
    assert vqa.intervals[0] == pytest.approx((0.35, 0.45))
    assert vqa.y[-1] == summary(run).figure
    assert vqa.y[-1] == 0.61
    assert [line.name for line in found["t of the target"].lines] == ["taid", "linear", "exponential"]


def test_the_schedules_beside_t_are_those_of_the_clock(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "taid", steps=30, total=50))
    clock = TAIDClock(50, schedule="exponential", alpha_total=5.9)
    for step, t in enumerate(exponential(run)):
        assert t == clock.t
        clock.update(2.0, step)
    # What the schedule "linear" writes at a step is the line at the step before.
    assert linear(run) == [linear_t(max(0, step - 1), 50, 0.4, 1.0) for step in range(50)]


def test_the_page_says_how_far_t_was_from_both_schedules(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "taid"))
    path = [row["t"] for row in run.steps]
    line, curve = (max(abs(a - b) for a, b in zip(path, of(run), strict=True)) for of in (linear, exponential))
    assert line > 0.1 > curve > 0
    assert f"at most {line:.4f} from the linear one and {curve:.4f} from the exponential one" in page([run])


def test_figures_of_the_page_are_those_of_the_log(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "taid"))
    tables = _tables(page([run]))
    by_step = {row["step"]: row for row in run.steps}
    for title, key in (
        ("Loss", "loss"),
        ("Gradient norm", "grad_norm"),
        ("Tail mass", "tail_mass"),
        ("Entropy", "student_entropy"),
    ):
        rows = tables[f"{title}, figures"][1:]
        assert [rows[0][0], rows[-1][0]] == ["1", "60"]
        for step, value, *_ in rows:
            assert float(value) == pytest.approx(by_step[int(step)][key], rel=5e-4)
    assert tables["vqa, figures"][1:] == [
        ["20", "0.4 (0.35 to 0.45)"],
        ["40", "0.5 (0.45 to 0.55)"],
        ["60", "0.61 (0.56 to 0.66)"],
    ]
    last = run.steps[-1]
    cells = dict(zip(*tables["Summary of the runs"], strict=True))
    assert float(cells["last loss"]) == pytest.approx(last["loss"], rel=5e-4)
    assert float(cells["KL to the teacher"]) == pytest.approx(last["kl_teacher"], rel=5e-4)
    assert (cells["steps"], cells["memory"], cells["time in steps"]) == ("60 of 60", "3 GiB", "30 s")
    shares = {part: share for part, share, _ in tables["Time split of taid"][1:]}
    assert (shares["backward"], shares["student forward"]) == ("35.0 %", "10.0 %")


def test_the_page_says_of_each_part_what_was_trained(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "taid")
    lines = ["vision_encoder: 0 of 1,000 parameters are trained", "projector: 500 of 500 parameters are trained"]
    lines += ["language_model: 1,500 of 6,000 parameters are trained; the others are <old>", "a line of another kind"]
    (folder / "trained.txt").write_text("\n".join(lines) + "\n")
    made = page([read_run(folder)])
    assert _tables(made)["Trained parameters of taid"][1:] == [
        ["vision encoder frozen", "0 of 1,000", "0.0 %"],
        ["projector trained", "500 of 500", "100.0 %"],
        ["language model trained in part", "1,500 of 6,000", "25.0 %"],
        ["together", "2,000 of 7,500", "26.7 %"],
    ]
    assert "language model: the others are &lt;old&gt;" in made
    assert "a line of another kind" in made
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["student"]["train"]["language_model"]["mode"] = "lora"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert _tables(page([read_run(folder)]))["Trained parameters of taid"][3][0] == "language model LoRA"


def test_a_student_reads_the_lines_that_training_writes() -> None:
    student = SimpleNamespace(vision_encoder=None, projector=None, language_model=torch.nn.Linear(3, 2))
    student.language_model.bias.requires_grad_(False)
    run = Run("run", Path(), {}, trained=told_parts(student))  # type: ignore[arg-type]
    assert trained_parts(run) == Trained([Part("language model", "trained in part", 6, 8)], [])


def _tables(made: str) -> dict[str, list[list[str]]]:
    """Rows of cells of every table in a page, the heads first, by the name of its region."""
    tree = ElementTree.fromstring(made.split("\n", 1)[1])
    found = {}
    for region in tree.iter("div"):
        if region.get("class") == "scroll":
            rows = [[" ".join(" ".join(cell.itertext()).split()) for cell in row] for row in region.iter("tr")]
            found[region.attrib["aria-label"]] = rows
    return found


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


def test_figures_of_a_foreign_kind_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "odd", steps=2, finished=False)
    row = {"step": 3, "loss": "low", "kl_teacher": 1.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n" + json.dumps({**row, "loss": math.nan, "kl_teacher": []}) + "\n")
    with (folder / "timing.jsonl").open("a") as file:
        file.write('{"step": 3, "seconds": "many"}\n')
    run = read_run(folder)
    assert (len(run.steps), len(run.timing)) == (3, 2)
    (one,) = as_json([run])
    assert (one["last_loss"], one["kl_to_teacher"]) == (None, None)
    json.dumps(one, allow_nan=False)
    assert "nan" in page([run])


def test_a_terminal_of_any_width_has_whole_cells(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a-name-that-is-longer-than-others-and-broken-where-it-must-be")
    (tmp_path / "runs" / "foreign").mkdir()
    (tmp_path / "runs" / "foreign" / "run.json").write_text('{"hello": 1}')
    found = find_runs(tmp_path / "runs")
    heads = []
    for width in (40, 60, 80, 110, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(table_of(found, width))
        said = console.export_text()
        assert max(map(len, said.splitlines())) <= width
        heads.append(re.split(r"\s{2,}", said.splitlines()[0].strip()))
        for cell in ("60/60", "finished", "unreadable"):
            assert cell in said
    assert heads[0] == ["run", "steps", "state"]
    assert heads[2] == ["run", "loss", "steps", "state", "last loss", "evaluation", "age"]
    assert heads[-1] == ["run", "recipe", "loss", "steps", "state", "last loss", "evaluation", "95 %", "age"]
    assert [set(a) <= set(b) for a, b in pairwise(heads)] == [True] * 4


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
    assert all(chart.x_bounds == (0, 60) for chart in drawn.values())
    rates = drawn["Learning rate"].lines  # of both runs the same
    assert [line.name for line in rates] == ["taid/run and kl/run, projector", "taid/run and kl/run, language model"]
    assert [(line.name, line.colour) for line in drawn["Loss"].lines] == [("taid/run", 0), ("kl/run", 1)]
    assert drawn["t of the target"].missing == []  # kl has none
    made = page(runs)
    row = re.search(r'<tr><th scope="row">loss.<wbr/>name</th>(.*?)</tr>', made)
    assert row is not None
    assert row[1] == "<td>taid</td><td>kl</td>"
    assert made.count("<article>") == 1
    # What all runs say alike is told once.
    assert re.findall(r"<dt>(.*?)</dt>", made) == ["truth", *(f"taid/run, kl/run: {who}" for who in WHO.values())]


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


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_have_contrast(dark: bool) -> None:
    colours = colours_of([STYLE, CHART_STYLE, FOLDER / "run_page.css"], dark)
    for back in ("page", "panel"):
        for front in ("text", "muted", "link"):
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
        for line in (*(f"c{number}" for number in range(8)), "right", "wrong"):
            assert contrast(colours[line], colours[back]) >= 3, (line, back)


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
