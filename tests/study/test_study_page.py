"""The page holds what the records hold, computed again here."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taid_vlm.study import page
from taid_vlm.study.compare import rows_of
from taid_vlm.study.page import write_page
from taid_vlm.study.plan import comparison_jobs, tuning_jobs
from taid_vlm.study.records import Records, teacher_record
from taid_vlm.study.tuning import chosen_rates
from tests.study.study_cases import AROUND, MAIN, WORDS, record_of


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(page, "SETTINGS", (MAIN, AROUND, WORDS))
    records = Records(tmp_path / "runs")
    for setting in (MAIN, WORDS):
        for job in tuning_jobs(setting):
            records.add(record_of(job))
    chosen = chosen_rates((MAIN, WORDS), records)
    for setting in (MAIN, WORDS, AROUND):
        for job in comparison_jobs(setting, chosen):
            records.add(record_of(job))
    return tmp_path / "runs"


def test_a_row_is_the_mean_of_its_runs(out: Path, tmp_path: Path) -> None:
    records = Records(out)
    rows = {row.method: row for row in rows_of(MAIN, chosen_rates((MAIN, WORDS), records), records)}
    taid, kl = (
        [records.all[f"charts/{m}/seed-{s}"].figures["test"]["exact"] for s in range(3)] for m in ("taid", "kl")
    )
    assert rows["taid"].figures["exact"][0] == pytest.approx(np.mean(taid))
    assert rows["taid"].difference == pytest.approx(np.mean(taid) - np.mean(kl))
    low, high = rows["taid"].interval or (0, 0)
    assert low < np.mean(taid) - np.mean(kl) < high
    assert rows["taid"].p == 1 / 4  # three seeds cannot say more
    seen = [records.all[f"charts/taid/seed-{s}"].items["test"]["right"][:50].count("1") / 50 for s in range(3)]
    assert rows["taid"].figures["visual_reliance"][0] == pytest.approx(np.mean(seen) - 0.3)
    assert rows["kl"].difference is None
    assert rows["taid"].holm is not None
    assert rows["taid"].holm >= rows["taid"].p


def test_one_seed_has_no_interval_and_no_p(out: Path, tmp_path: Path) -> None:
    records = Records(out)
    chosen = chosen_rates((MAIN, WORDS), records)
    for job in comparison_jobs(MAIN, chosen):
        if job.method == "taid" and job.seed > 0:
            records.add(replace(record_of(job), failed="the loss was not finite"))
    row = next(row for row in rows_of(MAIN, chosen, Records(out)) if row.method == "taid")
    assert row.difference is not None
    assert (row.interval, row.p, row.holm) == (None, None, None)
    text = write_page(out, tmp_path / "docs" / "study").read_text()
    assert f"{100 * row.difference:+.1f} (one seed) |  |  |" in text


def test_the_overview_sets_methods_against_each_other(out: Path, tmp_path: Path) -> None:
    text = write_page(out, tmp_path / "docs" / "study").read_text()
    records = Records(out).all
    taid, kl, rkl = (
        np.array([records[f"charts/{m}/seed-{s}"].figures["test"]["exact"] for s in range(3)])
        for m in ("taid", "kl", "rkl")
    )
    line = next(line for line in text.splitlines() if line.startswith(f"| {MAIN.title} | 3 |"))
    assert f"| {100 * (taid - kl).mean():+.1f} (" in line
    assert f"| {100 * (taid - rkl).mean():+.1f} (" in line
    assert f"TAID, {100 * taid.mean():.1f} |" in line


def test_short_and_long_answers_are_compared_alone(out: Path, tmp_path: Path) -> None:
    text = write_page(out, tmp_path / "docs" / "study").read_text()
    records = Records(out).all

    def share(method: str, seed: int, lengths: tuple[int, ...]) -> float:
        items = records[f"words/{method}/seed-{seed}"].items["test"]
        kept = [(a, n) for a, n in zip(items["agreed"], items["tokens"], strict=True) if n in lengths]
        return 100 * sum(a for a, _ in kept) / sum(n for _, n in kept)

    # The median of 3, 7, 12 and 15 is 9.5; a definition has whole tokens.
    for lengths, name in (((3, 7), "up to 9"), ((12, 15), "above 9")):
        taid, kl = (np.array([share(method, seed, lengths) for seed in range(2)]) for method in ("taid", "kl"))
        line = next(line for line in text.splitlines() if line.startswith(f"| {WORDS.title} | 100, {name} |"))
        assert f"| {kl.mean():.1f} |  | {(taid - kl).mean():+.1f} (" in line
    # Charts keep no tokens of their answers: they are in the overview alone.
    assert sum(line.startswith(f"| {MAIN.title} |") for line in text.splitlines()) == 1


def test_the_page_is_made_again_from_its_own_records(out: Path, tmp_path: Path) -> None:
    results = tmp_path / "docs" / "study"
    first = write_page(out, results).read_text()
    again = write_page(tmp_path / "nothing", results).read_text()
    assert first == again
    assert (results / "charts.png").stat().st_size > 1000
    assert (results / "charts-clocks.png").is_file()
    assert not re.search(r"/tmp|/root|None|nan", first)


def test_the_teacher_is_the_first_row_where_it_was_measured(out: Path, tmp_path: Path) -> None:
    page = write_page(out, tmp_path / "results")
    assert "*teacher*" not in page.read_text()
    figures = {"test": {"exact": 0.8125, "cross_entropy": 0.25, "kl": 0.0, "reverse_kl": 0.0}, "blank": {"exact": 0.5}}
    items = {"test": {"right": "1" * 13 + "0" * 3}, "blank": {"right": "10" * 8}}
    Records(out).add(teacher_record("t", figures, items))
    lines = write_page(out, tmp_path / "results").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| *teacher*"))
    assert lines[at].split(" | ")[3:6] == ["81.2", "31.2", "0.250"]
    assert lines[at - 1].startswith("|---")


def test_the_page_says_what_is_missing_and_what_failed(out: Path, tmp_path: Path) -> None:
    records = Records(out)
    gone = out / "records" / "charts" / "taid" / "seed-1.json"
    broken = records.all["charts/rkl/seed-0"]
    records.add(type(broken)(**{**vars(broken), "figures": {}, "items": {}, "failed": "not finite"}))
    gone.unlink()
    text = write_page(out, tmp_path / "docs" / "study").read_text()
    assert "runs of the plan that are not made: 1." in text
    assert "| RKL | 0.003 | 2, 1 failed |" in text


def test_runs_of_other_parts_are_not_compared(out: Path) -> None:
    records = Records(out)
    for seed in range(3):
        other = records.all[f"charts/taid/seed-{seed}"]
        records.add(type(other)(**{**vars(other), "made_of": {"teacher": "another"}}))
    rows = {row.method: row for row in rows_of(MAIN, chosen_rates((MAIN, WORDS), records), records)}
    assert rows["taid"].difference is None
    assert rows["rkl"].difference is not None


def test_what_a_person_concludes_is_part_of_the_page(out: Path, tmp_path: Path) -> None:
    results = tmp_path / "docs" / "study"
    results.mkdir(parents=True)
    (results / "reading.txt").write_text("## What it shows\n\nNothing yet.\n")
    assert "## What it shows" in write_page(out, results).read_text()
