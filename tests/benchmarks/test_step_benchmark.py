"""The benchmark of a step: its arithmetic on made findings, the official step against the toolkit's own loss, and that it runs."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from taid_vlm.data import Join, PairedBatch, StepOrder, make_loader
from taid_vlm.data.collate import PaddedSide
from taid_vlm.losses import LossSpec, taid_cross_entropy
from taid_vlm.models.student import ModelInputs
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.training.inputs import model_inputs
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.step import DistillationStep
from taid_vlm.training.timing import LAPS, OTHER

FOLDER = Path(__file__).parents[2] / "benchmarks"
PROGRAM = FOLDER / "step.py"
SIZES = {
    "quick": True,
    "batch": 4,
    "warmup": 1,
    "steps": 3,
    "epoch": 8,
    "official_batch": 2,
    "official_steps": 1,
    "small_steps": 2,
    "length": 64,
}


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


class MadeBench:
    """A bench whose jobs take times that are known: a step with the teacher 1 s, without it 0.25 s, and 3 s to fill a cache that is empty."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.sizes = scratch, SIZES
        self.jobs: list[tuple[str, str]] = []

    def job(self, kind: str, steps: int, overrides: list[str] | None = None, **more: Any) -> dict[str, Any]:
        text = " ".join(overrides or [])
        self.jobs.append((kind, text))
        folder = more.get("env", {}).get("TAID_VLM_CACHE", "")
        filled = Path(folder, "filled") if folder else None
        cached = "enabled=true" in text
        seconds = 0.25 if cached or "loss.name=sft" in text else 1.0
        if more.get("processes") == 2:
            seconds = 0.6
        fill = 3.0 if cached and filled is not None and not filled.exists() else 0.0
        if filled is not None and filled.parent.is_dir():
            filled.touch()
        if kind == "alone":
            return {"steps": [{"teacher": 0.6, "student": 0.3}] * steps}
        if kind == "trl":
            return {"not_run": "ModuleNotFoundError: No module named 'trl'"}
        peak = 10_000 if kind == "official" else 1_500
        row = {"seconds": 8.0 if kind == "official" else seconds, "answers": 6, "tokens": 60}
        laps = {f"seconds_{name}": seconds / 8 for name in (*LAPS, OTHER)}
        return {"steps": [{**row, **laps}] * steps, "wall": 7 + fill + steps * seconds, "peak_bytes": peak}


def test_shares_rates_and_targets_are_of_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, report = module("step_parts", monkeypatch), module("step_report", monkeypatch)
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "usual"))
    (tmp_path / "scratch").mkdir()
    found = {name: part(MadeBench(tmp_path / "scratch"), 2) for name, part in parts.PARTS.items()}
    assert found["split"]["share_of_passes"] == pytest.approx(0.9)
    assert all(lap["share"] == pytest.approx(1 / 8) for lap in found["split"]["laps"].values())
    assert found["cache"]["speedup_of_an_epoch"] == pytest.approx(4.0)
    # An epoch is two steps: 2 s online, 0.5 s cached and once 3 s of filling.
    for count, run in found["cache"]["runs"].items():
        assert run["online"]["median"] == pytest.approx(2.0 * count)
        assert run["cached"]["median"] == pytest.approx(3.0 + 0.5 * count)
    ours, theirs = (found["official"]["contestants"][f"taid, {who}"] for who in ("ours", "official"))
    assert (ours["answer_tokens_per_second"], theirs["answer_tokens_per_second"]) == (6.0, 0.75)
    assert set(found["official"]["not_run"]) == {"gkd, TRL", "sft, TRL"}
    targets = {row["target"]: row for row in report.verdicts(found)}
    assert [row["met"] for row in targets.values()] == [True, True, True, True, True, True]
    assert targets["peak memory over the official step"]["measured"] == pytest.approx(0.15)
    assert targets["samples per second, two processes over one"]["measured"] == pytest.approx(1 / 0.6)


def test_a_target_that_is_missed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    report = module("step_report", monkeypatch)
    rows = report.verdicts({"split": {"share_of_passes": 0.8}, "processes": {"not_run": "one core"}})
    assert [row["met"] for row in rows] == [False, None]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Setup, Recipe, PairedBatch]:
    """The quick pair with a batch of three."""
    jobs = module("step_jobs", monkeypatch)
    recipe = load_recipe(jobs.quick_recipe(tmp_path), [jobs.ONLINE])
    setup = prepare(recipe, Accelerator(cpu=True), None, "fp32", lambda line: None)
    order = StepOrder(len(setup.train), 3, 3, 0, 0, 1)
    loader = make_loader(setup.train, order, Join(setup.processor.tokenizer.eos_token_id))
    return setup, recipe, next(iter(loader))


@pytest.mark.slow
def test_the_official_step_is_taid_over_all_tokens(
    pair: tuple[Setup, Recipe, PairedBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it pads, its loss is the cross-entropy of the TAID target, averaged over all tokens of the conversations."""
    setup, recipe, batch = pair
    step = module("official_step", monkeypatch).OfficialStep(setup, recipe, torch.device("cpu"), SIZES["length"])
    expected = independent(setup, batch, setup.clock.t)
    assert step(batch) == pytest.approx(expected, rel=1e-4)
    assert step(batch) != pytest.approx(expected, rel=1e-4)  # it learns


def independent(setup: Setup, batch: PairedBatch, t: float) -> float:
    """The same by the plain function of the toolkit, sample by sample without any padding."""
    assert setup.teacher is not None
    assert setup.store is not None
    total, count = 0.0, 0
    for index in range(len(batch.ids)):
        length = int(batch.student.attention_mask[index].sum())
        logits = []
        for model in (setup.student, setup.teacher.model):
            ids = batch.student.input_ids[index : index + 1, :length]
            features = setup.store.take([batch.picture_keys[index]])
            inputs = ModelInputs(ids, torch.ones_like(ids), torch.arange(1), image_features=features)
            with torch.no_grad():
                logits.append(model.language_model(inputs_embeds=model.embed(inputs)).logits[0, :-1])
        student, teacher = logits
        total += float(taid_cross_entropy(student, teacher, t).sum())
        count += length - 1
    return total / count


def test_labels_stand_behind_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = module("step_peers", monkeypatch)
    ids = torch.tensor([[5, 6, 7, 8], [9, 1, 2, 3]])
    side = PaddedSide(ids, torch.ones_like(ids), torch.tensor([1, 2, 4]))
    assert peers.labels_of(side, torch.tensor([7, 8, 1])).tolist() == [[-100, -100, 7, 8], [-100, 1, -100, -100]]


@pytest.mark.slow
def test_transformers_step_is_fine_tuning(
    pair: tuple[Setup, Recipe, PairedBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, recipe, batch = pair
    own = DistillationStep(setup.student, LossSpec.of("sft"), None, recipe.loss).eval()
    out = own(model_inputs(batch, batch.student, setup.processor, setup.store), batch.labels, 1.0)
    step = module("step_peers", monkeypatch).TransformersStep(setup, recipe, torch.device("cpu"))
    assert step(batch) == pytest.approx(float(out.loss.detach()) / len(batch.labels), rel=1e-4)


@pytest.mark.slow
def test_a_quick_run_of_one_part_keeps_the_others(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    out.write_text(json.dumps({"parts": {"processes": {"not_run": "an earlier run"}}}))
    command = [sys.executable, str(PROGRAM), "--quick", "--rounds", "1", "--parts", "split", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    assert set(report["parts"]) == {"split", "processes"}
    split = report["parts"]["split"]
    assert set(split["laps"]) == {*LAPS, OTHER}
    assert sum(lap["share"] for lap in split["laps"].values()) == pytest.approx(1, abs=0.02)
    for name in ("teacher", "student_forward", "loss", "backward", "optimizer"):
        assert split["laps"][name]["median"] > 0
        assert f"| {name.replace('_', ' ')} |" in done.stdout
    assert "an earlier run" in done.stdout


def test_an_unknown_part_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--parts", "splitt"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "splitt" in done.stderr
