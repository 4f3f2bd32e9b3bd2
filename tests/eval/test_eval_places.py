"""Which process of a command takes which device, who of them prints, and how cores are shared."""

from pathlib import Path

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm_eval import cli
from taid_vlm_eval.cli import main
from taid_vlm_eval.processes import Place, helpers, place_of
from tests.eval.fakes import FakeModel, small_task


def launched(monkeypatch: pytest.MonkeyPatch, rank: int, local: int, world: int) -> None:
    for name, value in {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def test_without_a_launcher() -> None:
    assert place_of(None, 1) == Place(None, True)
    assert place_of(None, 3) == Place("cuda:0", True)
    assert place_of("cpu", 3) == Place("cpu", True)


@pytest.mark.parametrize(("rank", "local", "device"), [(0, 0, "cuda:0"), (3, 3, "cuda:3"), (6, 2, "cuda:2")])
def test_each_rank_of_a_launcher_has_its_own_device(
    monkeypatch: pytest.MonkeyPatch, rank: int, local: int, device: str
) -> None:
    launched(monkeypatch, rank, local, 8)
    assert place_of(None, 1) == Place(device, rank == 0)
    assert place_of("cpu", 1) == Place("cpu", rank == 0)


def test_a_launcher_and_processes_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, 0, 0, 2)
    with pytest.raises(UserError, match="found 2 processes to start, and a launcher that started 2; leave one of them"):
        place_of(None, 2)


def test_only_the_first_rank_prints_and_writes_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, model = small_task(tmp_path), FakeModel()
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: model)
    command = ["some/model", "--tasks", str(task), "--output", str(tmp_path / "out"), "--batch-size", "4"]
    launched(monkeypatch, 1, 1, 2)
    assert main(command) == 0
    assert capsys.readouterr() == ("", "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"small.answers.jsonl"}
    launched(monkeypatch, 0, 0, 2)
    assert main(command) == 0
    assert "0.5000" in capsys.readouterr().out
    assert (tmp_path / "out" / "small.result.json").is_file()
    assert model.tried == [4, 4, 2]  # what the other rank had answered is not asked again


def test_the_first_process_keeps_to_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taid_vlm_eval.processes.Helpers", lambda settings, count: Ended())
    monkeypatch.setattr("taid_vlm_eval.processes._share_of_cores", lambda processes: 12 // processes)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    with helpers({}, 4):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with helpers({}, 4):
        assert torch.get_num_threads() == before


class Ended:
    def end(self, wait: float) -> None:
        pass
