"""What goes wrong around a run: other settings at the same time, no locks, many broken records, a server's faults, little memory."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models.faults import AnswerFault
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, sees_colour, small_task, without_speed, write_rows, write_task

ROOT = Path(__file__).parents[2]
HOLDS = """
import sys, pathlib
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel
def wait(request):
    print("asked", flush=True)
    sys.stdin.read()
    return "red"
evaluate(FakeModel(wait), [sys.argv[1]], output_dir=sys.argv[2], seed=0, batch_size=1, workers=0)
"""


def test_other_settings_at_the_same_time_are_refused(tmp_path: Path) -> None:
    task, out = small_task(tmp_path), tmp_path / "out"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "eval")])
    command = [sys.executable, "-c", HOLDS, str(task), str(out)]
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"asked\n"
        with pytest.raises(UserError, match=r"another process is evaluating into .*small\.answers\.jsonl.*seed"):
            evaluate(FakeModel(), [task], output_dir=out, seed=1)
        other.stdin.close()
        assert other.wait(60) == 0
    assert without_speed(out / "small.result.json")["seed"] == 0
    evaluate(FakeModel(), [task], output_dir=out, seed=1)  # now it may
    assert without_speed(out / "small.result.json")["seed"] == 1


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("taid_vlm_eval.locks.fcntl.lockf", no_locks)
    task, said = small_task(tmp_path), list[str]()
    with pytest.raises(
        UserError, match="has no locks, so processes cannot share work there; evaluate with one process"
    ):
        evaluate(FakeModel(), [task], output_dir=tmp_path / "shared", finish=False)
    evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "alone", say=said.append)
    assert len(said) == 1
    assert "has no locks" in said[0]
    assert without_speed(tmp_path / "alone" / "small.result.json")["value"] == 1.0


@pytest.mark.slow
def test_ten_thousand_records_with_many_broken_ones_lose_none(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "junk.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:50])
    (tmp_path / "folder.png").mkdir()
    bad = ["empty", "junk", "cut", "folder", "missing"]
    count = 10_000
    pictures = [f"{bad[n % 5]}.png" if n % 7 == 0 else "good.png" for n in range(count)]
    write_rows(
        tmp_path, [{"id": f"q{n}", "question": "?", "answer": "red", "images": [one]} for n, one in enumerate(pictures)]
    )
    task, out = write_task(tmp_path), tmp_path / "out"
    (result,) = evaluate(FakeModel(sees_colour, dies_after=100_000), [task], output_dir=out, batch_size=128)
    broken = [n for n, one in enumerate(pictures) if one != "good.png"]
    assert (result.n, result.errors) == (count, len(broken))
    assert result.value == pytest.approx(1 - len(broken) / count)
    assert [one["id"] for one in result.first_errors] == [f"q{n}" for n in broken[:5]]
    lines = [json.loads(line) for line in (out / "small.answers.jsonl").read_text().splitlines()[1:]]
    assert [line["id"] for line in lines] == [f"q{n}" for n in range(count)]
    assert [n for n, line in enumerate(lines) if line["error"] is not None] == broken


def test_thousands_of_malformed_lines_are_counted_and_the_rest_is_scored(tmp_path: Path) -> None:
    bad = (b'{"id": "b", "quest', b'\xff\xfe{"id"', b"[1, 2]", b'{"question": 7, "answer": "x"}')
    lines = [b'{"id": "q%d", "question": "?", "answer": "x"}' % n if n % 4 else bad[n // 4 % 4] for n in range(4000)]
    task, out = write_task(tmp_path), tmp_path / "out"
    (tmp_path / "small.jsonl").write_bytes(b"\n".join(lines))
    (result,) = evaluate(FakeModel(lambda _: "x", dies_after=100_000), [task], output_dir=out, batch_size=128)
    assert (result.n, result.errors, result.value) == (4000, 1000, 0.75)
    assert [one["id"] for one in result.first_errors] == ["line 1", "line 5", "line 9", "12", "line 17"]
    assert "line 1 is not valid JSON" in result.first_errors[0]["error"]


class Faulty(FakeModel):
    """A server that fails every third request, until it is mended."""

    def __init__(self, broken: bool) -> None:
        super().__init__(sees_colour)
        self.broken, self.asked = broken, list[Request]()

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str | AnswerFault]:  # type: ignore[override]
        said: list[str | AnswerFault] = []
        for request in requests:
            self.asked.append(request)
            fails = self.broken and len(self.asked) % 3 == 0
            said.append(AnswerFault("no reply in 120 s") if fails else self.rule(request))
        return said


def test_faults_of_a_server_are_counted_and_asked_again_by_the_next_call(tmp_path: Path) -> None:
    task, out = small_task(tmp_path, 12), tmp_path / "out"
    (first,) = evaluate(Faulty(broken=True), [task], output_dir=out, batch_size=4)
    assert (first.n, first.errors) == (12, 4)
    assert {one["error"] for one in first.first_errors} == {"no reply in 120 s"}
    mended = Faulty(broken=False)
    (second,) = evaluate(mended, [task], output_dir=out, batch_size=4)
    assert len(mended.asked) == 4
    assert (second.n, second.errors, second.value) == (12, 0, 1.0)
    evaluate(FakeModel(sees_colour), [task], output_dir=tmp_path / "never failed", batch_size=4)
    name = "small.answers.jsonl"
    assert (out / name).read_bytes() == (tmp_path / "never failed" / name).read_bytes()


def test_faults_that_last_are_not_asked_again(tmp_path: Path) -> None:
    class Refuses(Faulty):
        def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str | AnswerFault]:  # type: ignore[override]
            self.asked += requests
            return [AnswerFault("the item has no options", lasting=True) for _ in requests]

    task, model = small_task(tmp_path, 6), Refuses(broken=True)
    for _ in range(2):
        (result,) = evaluate(model, [task], output_dir=tmp_path / "out", batch_size=4)
        assert result.errors == 6
    assert len(model.asked) == 6


class Prepares(FakeModel):
    """One that prepares batches, as checkpoints do."""

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        return list(requests)

    def answer(self, prepared: list[Request], max_new_tokens: int) -> list[str]:
        return FakeModel.generate(self, prepared, max_new_tokens)

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        raise AssertionError("what prepares is asked by answer")


@pytest.mark.parametrize("memory", [1000, 3, 1])
def test_workers_change_nothing_even_where_memory_runs_out(tmp_path: Path, memory: int) -> None:
    task = small_task(tmp_path, 23)
    for workers in (0, 1, 4):
        model = Prepares(sees_colour, memory=memory)
        evaluate(model, [task], output_dir=tmp_path / f"by-{workers}", batch_size=8, workers=workers)
        if memory == 1000:
            assert model.tried == [8, 8, 7]
        assert max(map(len, model.batches)) <= memory
    files = [tmp_path / f"by-{workers}" for workers in (0, 1, 4)]
    assert len({(one / "small.answers.jsonl").read_bytes() for one in files}) == 1
    results = [without_speed(one / "small.result.json") for one in files]
    assert results[0]["value"] == 1.0
    assert results[1:] == results[:1] * 2
