"""Which teacher a recipe means, told from its files, so that its weights need not be loaded to find its cache.

A cache belongs to a fingerprint of the weights as they are in memory. That a set of files gives this fingerprint is remembered when they
have been loaded once; a file that changed, or libraries that did, make it unknown again, and the weights are loaded to see.
"""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from taid_vlm import __version__
from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import sha256_of, write_atomic
from taid_vlm.common.paths import resolve
from taid_vlm.common.remote_code import trusted
from taid_vlm.models.native.loading import is_native
from taid_vlm.models.saved import allowed_spec, read_about
from taid_vlm.models.specs import LanguageModelSpec, VisionEncoderSpec
from taid_vlm.models.teacher import Teacher, outline_of
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training.placement.quantized import placed_fingerprint

SETTLED = 2.0  # seconds after which a file that changes again gets another time


def known_teacher(spec: TeacherSpec, dtype: Any) -> Teacher | None:
    """The teacher without weights, with its fingerprint; None where that is not known without loading them."""
    identity = identity_of(spec)
    if identity is None:
        return None
    teacher = outline_of(spec, dtype)
    try:
        teacher.fingerprint = _memory(identity, teacher).read_text().strip()
    except OSError:
        return None
    if len(teacher.fingerprint) != 64:
        return None
    teacher.fingerprint = placed_fingerprint(teacher.fingerprint, spec.quantization)
    return teacher


def remember(identity: str | None, spec: TeacherSpec, teacher: Teacher) -> None:
    """Note the fingerprint of a teacher that was loaded.

    Args:
        identity: of its files before they were loaded; if they have changed since, nothing is noted.
    """
    if identity is not None and identity == identity_of(spec):
        _note(_memory(identity, teacher), teacher.fingerprint + "\n")


def identity_of(spec: TeacherSpec) -> str | None:
    """Hash of everything the weights come from; None where that cannot be told from files or a commit."""
    hashes = FileHashes()
    if spec.checkpoint is None:
        assert spec.language_model is not None
        sources: list[Any] = [_language_model(spec.language_model, hashes)]
    elif is_native(resolve(spec.checkpoint)):
        sources = [_folder_or_commit(resolve(spec.checkpoint), spec.revision, False, hashes)]
    else:
        folder = Path(resolve(spec.checkpoint)).expanduser()
        sources = [hashes.folder(folder)]
        about = read_about(folder)
        if about["weights"] == "trained":  # completed from the parts that its spec names
            student = allowed_spec(folder, about, spec.trust_remote_code)
            sources.append(_language_model(student.language_model, hashes))
            if student.vision_encoder is not None:
                sources.append(_encoder(student.vision_encoder, hashes))
    hashes.save()
    if None in sources:
        return None
    import torch
    import transformers

    versions = [__version__, torch.__version__, transformers.__version__]
    return hashlib.sha256(json.dumps([sources, spec.dtype, versions], sort_keys=True).encode()).hexdigest()


class FileHashes:
    """SHA-256 of files, remembered by their name, size, times and inode.

    The time of the last change of an inode cannot be set, so a file that is replaced by one of the same size and modification time is
    seen, too. A file that has just changed is not remembered: it might change again within the clock's step.
    """

    def __init__(self) -> None:
        self._file = cache_folder() / "teacher" / "file-hashes.json"
        try:
            found = json.loads(self._file.read_text())
            self._known: dict[str, list[Any]] = found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            self._known = {}
        self._new = False

    def __getitem__(self, file: Path) -> str:
        """In hexadecimal."""
        path = file.resolve()
        stat = path.stat()
        about = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known is not None and known[:-1] == about:
            return str(known[-1])
        asked = time.time()
        sha256 = sha256_of(path)
        if asked - max(stat.st_ctime, stat.st_mtime) > SETTLED:
            self._known[str(path)], self._new = [*about, sha256], True
        return sha256

    def folder(self, folder: Path) -> list[list[str]]:
        """Names and hashes of all files in it and below, hidden ones left out."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [(file, file.relative_to(folder)) for file in files]
        return [[str(name), self[file]] for file, name in names if not any(p.startswith(".") for p in name.parts)]

    def save(self) -> None:
        """For the next run; of two that write at once one wins, and the other hashes again."""
        if self._new:
            _note(self._file, json.dumps(self._known, indent=0))


def _note(file: Path, text: str) -> None:
    """Write what only saves time: a folder that others filled, and that cannot be written to, does without."""
    with suppress(UserError):
        write_atomic(file, text)


def _memory(identity: str, teacher: Teacher) -> Path:
    """Where the fingerprint of these weights with this processor is noted."""
    about = json.dumps([identity, teacher.processor.identity()], sort_keys=True)
    return cache_folder() / "teacher" / "known" / hashlib.sha256(about.encode()).hexdigest()[:24]


def _language_model(spec: LanguageModelSpec, hashes: FileHashes) -> Any:
    source = _folder_or_commit(resolve(spec.source), spec.revision, spec.trust_remote_code, hashes)
    return None if source is None else [source, spec.model_dump(mode="json", exclude={"source"})]


def _encoder(spec: VisionEncoderSpec, hashes: FileHashes) -> Any:
    weights = Path(resolve(spec.weights)).expanduser()
    if not weights.is_file():  # drawn anew, or a library's own download
        return None
    named = Path(spec.name).expanduser()
    return [hashes[weights], hashes.folder(named) if named.is_dir() else spec.name]


def _folder_or_commit(source: str, revision: str | None, trust: bool, hashes: FileHashes) -> Any:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return hashes.folder(folder)
    from transformers import AutoConfig

    try:
        code = trusted(source, revision, trust)
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=code)
    except (OSError, ValueError):
        return None  # loading it will say what is wrong
    commit = getattr(config, "_commit_hash", None)
    return None if commit is None else [source, commit]
