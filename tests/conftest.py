"""Shared tiny checkpoints; nothing here needs a network."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Workers that run side by side share the cores; each with a thread for every core would only wait for the others.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))
# Triton decides when it is imported whether kernels are compiled or interpreted, and some test or other imports it.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"

from tests.tiny.data import write_easy_vqa
from tests.tiny.language_model import save_tiny_llama

# Minutes each: begun last, one worker would be at them alone when the others have nothing left.
LONG = ("tests/test_readme.py", "tests/test_quickstart.py", "tests/packaging/", "tests/test_end_to_end.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Llama with tokenizer."""
    return save_tiny_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def easy_vqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder laid out like the easy-vqa package."""
    return write_easy_vqa(tmp_path_factory.mktemp("easy-vqa"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Each test has a cache of its own, but for those that need the real assets."""
    if request.node.get_closest_marker("assets") is None:
        monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
