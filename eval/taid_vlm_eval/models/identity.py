"""Recognise a checkpoint by its content without reading all of it."""

import hashlib
from pathlib import Path

from taid_vlm.common.files import samples_of

# What can change an answer. Results, logs and optimizer states lie in other files or do not count.
_COUNTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jinja", ".model", ".txt", ".py"}
_READ_WHOLE = 8 << 20  # bytes
_SAMPLES, _SAMPLE = 64, 64 << 10  # bytes of each sample


def folder_fingerprint(folder: Path) -> str:
    """SHA-256 over names, sizes and contents of the files of a checkpoint, wherever it lies and whatever its dates.

    Files above 8 MiB are read at 64 evenly spaced places of 64 KiB: training changes nearly every weight, so two
    checkpoints that agree there are the same one for the purpose of resuming an evaluation.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _COUNTS or path.name.endswith(".result.json") or not path.is_file():
            continue
        size = path.stat().st_size
        total.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        for piece in [path.read_bytes()] if size <= _READ_WHOLE else samples_of(path, _SAMPLES, _SAMPLE):
            total.update(piece)
    return total.hexdigest()
