"""The capacity gap: from records of the study, and from folders of runs."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taid_vlm.analysis.found import as_text
from taid_vlm.analysis.gap import gap
from taid_vlm.analysis.teacher_sizes import STUDY, sizes_of_runs, sizes_of_study
from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.report.run_files import read_runs
from taid_vlm.study.plan import Job, comparison_jobs, setting_of, tuning_jobs
from taid_vlm.study.prepare import MAKERS, PREFIX
from taid_vlm.study.records import Record, Records
from tests.report.written_runs import write_run

ITEMS = 200
METHODS = ("kl", "taid")


def record_of(job: Job, share: float) -> Record:
    """A finished run whose student is right at about this share of the questions."""
    draws = random.Random(f"{job.key}")
    right = [draws.random() < share for _ in range(ITEMS)]
    figures = {"exact": sum(right) / ITEMS}
    assert job.lr is not None
    return Record(
        job.key,
        job.setting.name,
        job.method,
        job.seed,
        job.lr,
        job.digest(),
        {"teacher": job.setting.name},
        {"validation": figures, "test": figures},
        {"test": {"right": "".join("01"[one] for one in right)}},
    )


def written(out: Path, shares: dict[str, tuple[float, float]], seeds: int = 3) -> None:
    """Records of two methods; ``shares`` are of KL and TAID by setting."""
    records, main = Records(out), setting_of("charts")
    for job in tuning_jobs(main):
        if job.method in METHODS:
            records.add(record_of(job, 0.5))
    from taid_vlm.study.tuning import chosen_rates

    chosen = chosen_rates([main], records)
    for name, by_method in shares.items():
        for job in comparison_jobs(setting_of(name), chosen):
            if job.method in METHODS and job.seed < seeds:
                records.add(record_of(job, by_method[METHODS.index(job.method)]))


def test_the_settings_are_the_studys_and_their_teachers_have_that_many_layers() -> None:
    for name, layers in STUDY.items():
        overrides = setting_of(name).overrides
        if name != "charts":
            assert overrides == (f"teacher.checkpoint={PREFIX}charts-teacher-{layers}",)
            assert f"charts-teacher-{layers}" in MAKERS
    assert setting_of("charts").overrides == ()


def test_students_by_teacher_with_the_gain_of_a_larger_one(tmp_path: Path) -> None:
    written(tmp_path, {"charts-teacher-4": (0.6, 0.4), "charts-teacher-10": (0.5, 0.5), "charts": (0.3, 0.8)})
    sizes = sizes_of_study(tmp_path, tmp_path / "none")
    by_place = {(cell.method, cell.size): cell for cell in sizes.cells}
    assert {size for _, size in by_place} == {4, 10, 30}
    cell = by_place["TAID", 30]
    records = Records(tmp_path)
    exact = [
        one.figures["test"]["exact"]
        for one in records.all.values()
        if one.setting == "charts" and one.method == "taid" and not one.tuning
    ]
    assert sorted(cell.values) == sorted(exact)
    assert cell.mean == pytest.approx(sum(exact) / 3)
    gains = {one.method: one for one in sizes.gains}
    assert gains["TAID"].interval[0] > 0 > gains["KL"].interval[1]
    assert gains["TAID"].mean == pytest.approx(by_place["TAID", 30].mean - by_place["TAID", 4].mean)
    text = as_text(gap(sizes))
    assert "TAID gains from the larger teacher" in text
    assert "KL loses by the larger teacher" in text


def test_one_teacher_or_none_is_no_gap(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["analyze", "gap", "--out", str(tmp_path), "--results", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "none has finished runs" in str(done.exception)
    assert "taid-vlm study run --only charts-teacher-4,charts-teacher-10,charts" in str(done.exception)
    written(tmp_path, {"charts": (0.3, 0.8)}, seeds=1)
    with pytest.raises(UserError, match="only charts has"):
        sizes_of_study(tmp_path, tmp_path / "none")


def test_gains_are_told_only_between_the_same_two_teachers(tmp_path: Path) -> None:
    written(tmp_path, {"charts-teacher-10": (0.5, 0.5), "charts": (0.5, 0.5)}, seeds=2)
    next((tmp_path / "records" / "charts" / "kl").glob("seed-0.json")).unlink()
    next((tmp_path / "records" / "charts" / "kl").glob("seed-1.json")).unlink()
    sizes = sizes_of_study(tmp_path, tmp_path / "none")
    assert [one.method for one in sizes.gains] == ["TAID"]
    assert "TAID neither gains nor loses" in as_text(gap(sizes))


def test_the_command_prints_json_alone_and_writes_a_page(tmp_path: Path) -> None:
    written(tmp_path, {"charts-teacher-4": (0.6, 0.4), "charts": (0.3, 0.8)})
    where = ["--out", str(tmp_path), "--results", str(tmp_path / "none")]
    done = CliRunner().invoke(app, ["analyze", "gap", *where, "--json", "--output", str(tmp_path / "gap.html")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["figure"] == "exact match"
    assert {one["method"] for one in told["gains"]} == {"KL", "TAID"}
    assert {one["size"] for one in told["cells"]} == {4, 30}
    assert "<svg" in (tmp_path / "gap.html").read_text()


def test_folders_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        write_run(tmp_path / name, name.split("-")[0])
        for name in ("taid-small", "taid-large", "taid-large-2", "kl-large")
    ]
    for folder, value in zip(folders, (0.5, 0.7, 0.6, 0.4), strict=True):
        file = folder / "evaluation" / "vqa.result.json"
        file.write_text(
            json.dumps({**json.loads(file.read_text()), "value": value, "low": value - 0.1, "high": value + 0.1})
        )
    monkeypatch.setattr(
        "taid_vlm.analysis.teacher_sizes._parameters", lambda run: 10.0 if "small" in run.name else 100.0
    )
    sizes = sizes_of_runs(read_runs(folders))
    cells = {(cell.method, cell.size): cell for cell in sizes.cells}
    assert sizes.figure == "vqa"
    assert sorted(cells["taid, adaptive", 100.0].values) == [0.6, 0.7]
    assert cells["taid, adaptive", 10.0].interval == pytest.approx((0.4, 0.6))
    # Two seeds: a t-interval with one degree of freedom, 12.706 * sd / sqrt 2.
    low, high = cells["taid, adaptive", 100.0].interval or (0, 0)
    assert (high - low) / 2 == pytest.approx(12.706 * 0.05, rel=1e-6)
    with pytest.raises(UserError, match="has no nope"):
        sizes_of_runs(read_runs(folders), "nope")
    with pytest.raises(UserError, match="the same size"):
        sizes_of_runs(read_runs(folders[1:]))
    for folder in folders:
        (folder / "evaluation" / "vqa.result.json").unlink()
    held = sizes_of_runs(read_runs(folders))
    assert (held.figure, held.higher_is_better) == ("held-out cross-entropy", False)


@pytest.mark.slow
def test_the_size_is_the_teachers(tmp_path: Path, language_model: Path, easy_vqa: Path, saved_teacher: Path) -> None:
    from taid_vlm.analysis.teacher_sizes import _parameters
    from taid_vlm.models.saved import load_student
    from taid_vlm.recipe import dump_recipe
    from tests.tiny.recipes import distil

    run = read_runs([write_run(tmp_path / "taid")])[0]
    (run.folder / "recipe.yaml").write_text(dump_recipe(distil(language_model, easy_vqa, saved_teacher)))
    assert _parameters(run) == pytest.approx(load_student(saved_teacher).parameters_total / 1e6, abs=1e-3)
