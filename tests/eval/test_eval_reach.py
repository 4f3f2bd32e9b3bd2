"""One question a process whether there is a network, and no waiting for it."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.data import data_folder, hub, reach
from taid_vlm_eval.data.reach import why_unreachable
from taid_vlm_eval.runner import cannot_run


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    why_unreachable.cache_clear()
    yield
    why_unreachable.cache_clear()


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address that says 404 to everything, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()
        thread.join()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_any_answer_will_do_and_is_asked_for_once(server: tuple[str, list[str]]) -> None:
    address, asked = server
    assert [why_unreachable(address), why_unreachable(address)] == ["", ""]
    assert len(asked) == 1


def test_nobody_there_is_told() -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    assert why_unreachable(address).startswith(f"{address} cannot be reached: ")


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.perf_counter()
        assert why_unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.perf_counter() - started < 2


def test_without_a_network_every_task_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "0")
    asked: list[str] = []

    def probe(address: str) -> str:
        asked.append(address)
        return "no such host"

    monkeypatch.setattr(hub, "why_unreachable", probe)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *args, **given: pytest.fail("asked the hub"))

    def snapshot(local_files_only: bool = False, **given: object) -> str:
        assert local_files_only
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match=r"was not fetched \(no such host\); where there is a network"):
        data_folder(load_task("mmstar"))
    reasons = cannot_run([load_task("mmstar"), load_task("ai2d")])
    assert set(reasons) == {"mmstar", "ai2d"}
    assert asked
