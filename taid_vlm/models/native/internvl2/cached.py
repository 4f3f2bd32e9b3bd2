"""Original checkpoints where a stock one is expected: converted into the cache folder once, then opened there."""

import hashlib
from pathlib import Path

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.file_lock import alone
from taid_vlm.common.files import disk_errors, samples_of
from taid_vlm.common.telling import tell
from taid_vlm.models.native.internvl2.convert import FORMAT, convert_internvl2
from taid_vlm.models.native.internvl2.original import MODEL_TYPE, is_original
from taid_vlm.models.native.internvl2.weights import weight_files

WANTED = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "LICENSE*")
SAMPLE = 1 << 20  # bytes at either end of a weight file
PLACES = 16


def stock_source(source: str, revision: str | None = None, *, weights: bool = True) -> str:
    """The folder of the stock checkpoint that ``source`` is converted to, or ``source`` itself where it is none of this layout.

    Args:
        source: a folder, or a hub id, whose files are downloaded if it is of this layout.
        weights: False where the config and the processor will do; nothing large is read or written then.

    Raises:
        UserError: see :func:`convert_internvl2`.
    """
    folder = Path(source).expanduser()
    name = folder.resolve().name
    if not folder.is_dir():
        if not _hub_has_it(source, revision):
            return source
        name = source.replace("/", "--")
        folder = _downloaded(source, revision, weights)
    if not is_original(folder):
        return source
    kind = "" if weights else "-config"
    target = cache_folder() / "converted" / f"{name}-{_identity(folder, weights)}{kind}"
    with disk_errors(target.name, target.parent), alone(target.with_name(f".{target.name}.lock")):
        if not (target / "config.json").is_file():
            if weights:
                tell(f"converting {source} to the stock class InternVL, once, into {target}")
            convert_internvl2(folder, target, weights=weights)
    return str(target)


def _identity(folder: Path, weights: bool) -> str:
    """Changes with any small file, and with nearly any weight: large files are read at some places."""
    total = hashlib.sha256(f"{FORMAT}".encode())
    large = weight_files(folder) if weights else []
    small = [path for pattern in ("*.json", "*.model", "*.txt") for path in folder.glob(pattern)]
    for path in [*sorted(small), *large]:
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for piece in [path.read_bytes()] if path in small else samples_of(path, PLACES, SAMPLE):
            total.update(piece)
    return total.hexdigest()[:16]


def _hub_has_it(source: str, revision: str | None) -> bool:
    from huggingface_hub import hf_hub_download

    if source.count("/") != 1:
        return False
    try:
        config = Path(hf_hub_download(source, "config.json", revision=revision))
    except Exception:  # whatever keeps the hub away is told by whoever opens the name next
        return False
    return is_original(config.parent)


def _downloaded(source: str, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [pattern for pattern in WANTED if weights or pattern not in ("*.safetensors", "*.bin")]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    except Exception as error:  # many types: of the network, of the hub, of the disk
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{source} is of the layout {MODEL_TYPE!r}, but its files cannot be fetched: {reason}"
        ) from error
