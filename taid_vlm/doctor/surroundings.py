"""What lies around: disks, caches, the hub, accelerate's settings, threads."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.reach import why_unreachable
from taid_vlm.common.secrets import without_secrets

PATIENCE = 2.0  # seconds for the hub
WALK = 1.0  # seconds for the size of a folder


@dataclass(frozen=True)
class Folder:
    """A folder that may grow.

    Attributes:
        free: bytes on its disk.
        size: bytes in it; ``counted`` is False where there was no time for all of them.
    """

    what: str
    path: str
    free: int
    size: int
    counted: bool


@dataclass(frozen=True)
class Hub:
    """Whether models and data can be fetched. ``state``: reached, not reached, offline or not tried."""

    address: str
    state: str
    why: str = ""


def folders() -> tuple[Folder, ...]:
    """Where runs, our caches and the hub's files go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    here = Path.cwd()
    return (
        Folder("runs", str(here / "runs"), _free(here), *_size(here / "runs")),
        Folder("cache", str(cache_folder()), _free(cache_folder()), *_size(cache_folder())),
        Folder("hub", str(HF_HUB_CACHE), _free(Path(HF_HUB_CACHE)), *_size(Path(HF_HUB_CACHE))),
    )


def hub(offline: bool) -> Hub:
    """Ask the hub for one byte, for ``PATIENCE`` seconds at most."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    address = without_secrets(ENDPOINT)
    if HF_HUB_OFFLINE:
        return Hub(address, "offline", "HF_HUB_OFFLINE is set")
    if offline:
        return Hub(address, "not tried", "--offline")
    why = without_secrets(why_unreachable(ENDPOINT, PATIENCE))
    return Hub(address, "not reached" if why else "reached", why)


def accelerate_config() -> str | None:
    """The file that ``accelerate launch`` would read when none is named; None where there is none."""
    from accelerate.commands.config.config_args import default_config_file

    return default_config_file if Path(default_config_file).is_file() else None


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _size(path: Path) -> tuple[int, bool]:
    """Bytes of the files in a folder, links not followed, and whether all were counted."""
    until, total, waiting = time.monotonic() + WALK, 0, [str(path)] if path.is_dir() else []
    while waiting:
        if time.monotonic() > until:
            return total, False
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # a folder of somebody else, or one that has just gone
    return total, True
