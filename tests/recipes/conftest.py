"""Stand-ins for the hub, made once for a worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taid_vlm.export.gate import FreshProcess
from tests.recipes.shrunk import Hub


@pytest.fixture(scope="session")
def hub_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where models and data sets are made, and the cache folder of the tests that use them."""
    root = tmp_path_factory.mktemp("hub")
    (root / "cache").mkdir()
    return root, root / "cache"


@pytest.fixture
def hub(hub_folders: tuple[Path, Path], own_cache: None, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub in small; the test's cache folder is its own."""
    monkeypatch.setenv("TAID_VLM_CACHE", str(hub_folders[1]))
    return Hub(*hub_folders)


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcess]:
    """One fresh process for all exports of a worker."""
    with FreshProcess() as process:
        yield process
