"""What is run, in which order, by whom; and that a finished run is not made again."""

import threading
from pathlib import Path
from typing import ClassVar

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.study import go, plan
from taid_vlm.study.go import Asked, work
from taid_vlm.study.plan import Job
from taid_vlm.study.records import Records, teacher_record
from taid_vlm.study.status import told
from taid_vlm.study.tuning import chosen_rates
from tests.study.study_cases import AROUND, MAIN, WORDS, record_of


class Bench:
    """Trains nothing; may be killed before a run, or break a run down."""

    made: ClassVar[list[str]] = []
    taught: ClassVar[list[str]] = []
    die_at: int | None = None
    failing: tuple[str, ...] = ()

    def __init__(self, folder: Path, say) -> None:
        self.folder = folder

    def run(self, job: Job):
        if Bench.die_at is not None and len(Bench.made) >= Bench.die_at:
            raise KeyboardInterrupt
        Bench.made.append(job.key)
        if job.method in Bench.failing:
            return record_of(
                job, figures={}, items={}, failed="the loss or its gradient was not finite in 10 steps in a row"
            )
        return record_of(job)

    def teacher(self, job: Job):
        Bench.taught.append(job.key)
        return teacher_record("t", {"test": {"exact": 0.9}}, {})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go, "SETTINGS", (MAIN, AROUND))
    monkeypatch.setattr(plan, "SETTINGS", (MAIN, AROUND))
    monkeypatch.setattr(go, "prepare", lambda recipe: None)
    monkeypatch.setattr(go, "WAIT", 0.01)
    monkeypatch.setattr("taid_vlm.study.bench.Bench", Bench)
    Bench.made, Bench.taught, Bench.die_at, Bench.failing = [], [], None, ()


def run(asked: Asked) -> Records:
    work(asked, lambda line: None)
    return Records(asked.out, asked.results)


def test_rates_are_tried_first_and_the_best_on_validation_is_used(tmp_path: Path) -> None:
    records = run(Asked(tmp_path, tmp_path / "results"))
    assert Bench.made[:2] == ["charts/sft/lr-0.001", "charts/sft/lr-0.003"]
    assert len(Bench.made) == len(set(Bench.made)) == 4 * 2 + 4 * 3 + 2 * 2
    assert all("lr-" in key for key in Bench.made[:8])
    assert chosen_rates([MAIN], records)["charts", "kl"] == 1e-3
    assert chosen_rates([MAIN], records)["charts", "taid"] == 3e-3
    assert records.all["charts-long/taid/seed-1"].lr == 3e-3


def test_a_teacher_is_measured_once(tmp_path: Path) -> None:
    records = run(Asked(tmp_path, tmp_path / "results"))
    assert Bench.taught == Bench.made[:1]
    found = records.teacher_of(records.all["charts/kl/seed-0"])
    assert found is not None
    assert not found.is_run
    assert found.figures["test"]["exact"] == 0.9


def test_a_killed_study_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    asked = Asked(tmp_path, tmp_path / "results")
    for die_at in (3, 9, 15):
        Bench.die_at = die_at
        with pytest.raises(KeyboardInterrupt):
            run(asked)
    Bench.die_at = None
    interrupted = run(asked)
    assert len(Bench.made) == len(set(Bench.made)) == 24
    whole = run(Asked(tmp_path / "other", tmp_path / "results"))
    assert interrupted.all == whole.all


def test_records_that_came_with_the_results_are_finished_runs(tmp_path: Path) -> None:
    results = tmp_path / "results"
    run(Asked(tmp_path / "first", results)).write_lines(results)
    Bench.made = []
    run(Asked(tmp_path / "second", results))
    assert Bench.made == []


def test_a_run_of_another_recipe_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(tmp_path, tmp_path / "results")
    run(asked)
    Bench.made = []
    changed = plan.Setting(**{**vars(AROUND), "overrides": ("training.steps=500",)})
    monkeypatch.setattr(go, "SETTINGS", (MAIN, changed))
    run(asked)
    assert sorted(Bench.made) == [f"charts-long/{m}/seed-{s}" for m in ("kl", "taid") for s in (0, 1)]


def test_processes_side_by_side_share_the_work(tmp_path: Path) -> None:
    asked = Asked(tmp_path, tmp_path / "results")
    threads = [threading.Thread(target=work, args=(asked, lambda line: None)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Bench.made) == sorted(set(Bench.made))
    assert len(Bench.made) == 24


def test_parts_can_be_asked_for(tmp_path: Path) -> None:
    asked = Asked(tmp_path, tmp_path / "results", only=("charts",), methods=("kl",), seeds=1)
    assert set(run(asked).all) == {"charts/kl/lr-0.001", "charts/kl/lr-0.003", "charts/kl/seed-0", "teacher/t"}
    assert told(asked) == [
        "charts, learning rates: 2 of 2 runs, 10 s of training each",
        "charts, seeds: 1 of 1 runs, 10 s of training each",
    ]


def test_a_setting_around_needs_the_rates_of_its_main_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tuned in charts"):
        run(Asked(tmp_path, tmp_path / "results", only=("charts-long",)))


def test_a_rate_that_breaks_down_is_a_finding_and_a_method_without_any_is_told(tmp_path: Path) -> None:
    Bench.failing = ("rkl",)
    asked = Asked(tmp_path, tmp_path / "results", only=("charts",))
    with pytest.raises(UserError, match="rkl"):
        run(asked)
    records = Records(asked.out, asked.results)
    assert records.all["charts/rkl/lr-0.003"].failed
    assert "charts/taid/seed-2" in records.all  # the others were all made


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run(Asked(tmp_path, tmp_path / "results", only=("charts",), methods=("kl",), seeds=1))
    file = tmp_path / "records" / "charts" / "kl" / "seed-0.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(UserError, match=r"seed-0\.json"):
        Records(tmp_path)


def test_text_is_tuned_by_agreement() -> None:
    records = Records(Path("/nowhere"))
    job = next(iter(plan.tuning_jobs(WORDS)))
    records.all[job.key] = record_of(job)
    assert chosen_rates([WORDS], records) == {("words", "kl"): 1e-3}
