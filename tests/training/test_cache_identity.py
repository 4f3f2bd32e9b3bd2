"""Which cache belongs to a teacher, told from its files: a change is always seen, and large files are read once."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training.cache import identity
from taid_vlm.training.cache.identity import FileHashes, identity_of
from tests.tiny.language_model import save_tiny_llama


def aged(file: Path) -> None:
    """Give a file a modification time long ago; when its inode changed cannot be set."""
    os.utime(file, ns=(10**18, 10**18))


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED", -1e12)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    read: list[Path] = []
    real = identity.sha256_of
    monkeypatch.setattr(identity, "sha256_of", lambda path: read.append(path) or real(path))
    hashes = FileHashes()
    first = hashes[file]
    hashes.save()
    assert FileHashes()[file] == first == real(file)
    assert len(read) == 1
    aged(file)
    assert FileHashes()[file] == first
    assert len(read) == 2  # its inode changed


def test_a_change_behind_the_same_size_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED", -1e12)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    aged(file)
    hashes = FileHashes()
    first = hashes[file]
    hashes.save()
    file.write_bytes(b"two")
    aged(file)
    assert FileHashes()[file] != first


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    hashes = FileHashes()
    _ = hashes[file]
    hashes.save()
    assert hashes._known == {}
    assert not hashes._file.exists()


def test_a_folder_of_notes_that_is_damaged_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    notes = FileHashes()._file
    notes.parent.mkdir(parents=True)
    for text in ("", "[1]", "{"):
        notes.write_text(text)
        assert len(FileHashes()[file]) == 64


def test_what_decides_the_weights_decides_the_identity(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "a")
    copy = save_tiny_llama(tmp_path / "b")
    other = save_tiny_llama(tmp_path / "c", seed=1)

    def of(source: Path, **changes: object) -> str | None:
        dtype = changes.pop("dtype", "float32")
        return identity_of(
            TeacherSpec.model_validate({"language_model": {"source": str(source), **changes}, "dtype": dtype})
        )

    assert of(folder) == of(copy)  # not where it lies
    found = [of(folder), of(other), of(folder, layers=2), of(folder, dtype="bfloat16")]
    assert None not in found
    assert len(set(found)) == 4


def test_a_hub_id_is_known_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = iter(["a" * 40, "a" * 40, "b" * 40, None])
    monkeypatch.setattr(
        "transformers.AutoConfig.from_pretrained", lambda *_, **__: SimpleNamespace(_commit_hash=next(commits))
    )
    spec = TeacherSpec.model_validate({"checkpoint": "somebody/model"})
    first, same, moved, unknown = (identity_of(spec) for _ in range(4))
    assert first == same != moved
    assert unknown is None
