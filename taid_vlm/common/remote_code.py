"""Code that comes with a checkpoint: run only where that was asked for, and told when it is.

transformers asks on the terminal where it is told neither yes nor no; so it is told one of them everywhere.
"""

import json
import os
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

from taid_vlm.common.telling import tell

# torch's own message of a pickle that it refuses names the switch that would run it.
NOT_PLAIN = (
    "its weight file holds more than tensors, which might be code; it was not run. Get the weights as safetensors"
)


def trusted(source: str, revision: str | None, trust: bool) -> bool:
    """``trust``, after a line on standard error that tells what code is about to run; once for a source, by one process of several.

    Args:
        source: folder or hub id.
        revision: of a hub id; None for the newest.
    """
    if trust and os.environ.get("RANK", "0") == "0":
        _tell(source, revision)
    return trust


def refusal(error: Exception, allow: str = "") -> str:
    """What to tell where loading failed since code would have had to run; empty where it failed for another reason.

    Args:
        allow: how it is allowed, as the end of a sentence; empty where it cannot be.
    """
    if isinstance(error, UnpicklingError):
        return NOT_PLAIN
    if "trust_remote_code" not in str(error):
        return ""
    way = f"read that code, and allow it with {allow}" if allow else "that cannot be allowed here"
    return f"it comes with code of its own, which was not run: {way}"


@cache
def _tell(source: str, revision: str | None) -> None:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        whose = f"that the hub has under {source}, revision {revision or 'main (its newest; name a commit to stay with one)'}"
    elif modules := _modules(folder):
        whose = f"of {folder}: {', '.join(modules)}"
    else:
        return
    tell(f"remote code: running code {whose}; trust_remote_code allows it")


def _modules(folder: Path) -> list[str]:
    """What the configs of a checkpoint name as their own classes, by the modules that these are in."""
    found: set[str] = set()
    for file in sorted(folder.glob("*config.json")):
        try:
            own = json.loads(file.read_text(encoding="utf-8")).get("auto_map") or {}
        except (OSError, ValueError, AttributeError):
            continue
        for value in own.values() if isinstance(own, dict) else []:
            names = value if isinstance(value, list) else [value]
            found |= {name.rpartition(".")[0] for name in names if isinstance(name, str)}
    return sorted(found)
