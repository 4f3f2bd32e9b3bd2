"""Commands that get Ctrl-C or SIGTERM and go on: what was done is kept, and the end is that of a command that nothing stopped."""

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from taid_vlm.common.stopping import INTERRUPTED, TERMINATED
from taid_vlm.training.cache import fill
from tests.cli.stopped_programs import KEPT, STUDENT_ANSWERS, contents, evaluated, run, stop
from tests.eval.fakes import write_rows, write_task

pytestmark = pytest.mark.slow


def cached(folder: Path) -> dict[str, torch.Tensor]:
    """What all shards of a cache hold, by sample."""
    assert not list(folder.rglob(".writing-*"))
    return {key: tensor for file in folder.rglob("*.safetensors") for key, tensor in load_file(file).items()}


def test_a_cache_keeps_the_samples_that_the_teacher_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Path
) -> None:
    one_each = "import taid_vlm.training.cache.fill as fill\nfill.BATCH = 1"
    place = "taid_vlm.training.cache.fill:teacher_inputs"
    stopped = stop(tmp_path, signal.SIGINT, place, ["cache", "r.yaml"], pieces=1, before=one_each)
    assert stopped.status == INTERRUPTED
    assert stopped.errors.endswith(KEPT.format("cache r.yaml"))
    kept = cached(tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fill, "BATCH", 1)
    run("cache", "r.yaml")
    gone_on = cached(tmp_path / "cache")
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "whole"))
    run("cache", "r.yaml")
    whole = cached(tmp_path / "whole")
    assert 0 < len(kept) < len(whole)
    assert gone_on.keys() == whole.keys()
    for found in (kept, gone_on):
        assert all(torch.equal(tensor, whole[key]) for key, tensor in found.items())


def test_an_evaluation_keeps_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: Path) -> None:
    write_rows(tmp_path, [{"question": "?" * n, "answer": "a"} for n in range(1, 7)])
    write_task(tmp_path)
    arguments = ["eval", str(student), "--tasks", "small.yaml", "--batch-size", "2", "--output"]
    stopped = stop(tmp_path, signal.SIGTERM, STUDENT_ANSWERS, [*arguments, "cut"], pieces=1)
    assert stopped.status == TERMINATED
    assert stopped.errors.endswith(KEPT.format(" ".join([*arguments, "cut"])))
    kept = contents(tmp_path / "cut")
    assert set(kept) == {"small.answers.jsonl"}
    assert kept["small.answers.jsonl"].count(b'"answer"') == 2
    monkeypatch.chdir(tmp_path)
    run(*arguments, "cut")
    run(*arguments, "whole")
    assert evaluated(tmp_path / "cut") == evaluated(tmp_path / "whole")
