"""Rows of WebDataset shards: tar archives in which the files of a sample share a name and follow each other.

https://github.com/webdataset/webdataset describes the format. Only headers and texts are read; a picture is a stretch of
its archive until it is needed. Nothing is ever unpacked.
"""

import itertools
import re
import tarfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.data.pictures import PictureInArchive
from taid_vlm.data.sources.files import json_row
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.rows import Row, local_path
from taid_vlm.recipe.data_spec import DataSource

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm")
BLOCK = 512  # bytes of a tar archive that headers and files are rounded up to
BRACES = re.compile(r"\{([^{}]*)\}")


def shard_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A row a sample: the keys of its ``json``, other texts under their extension, its pictures under ``images``.

    Raises:
        UserError: no shards, or shards that are compressed.
    """
    for shard in _shards(source):
        yield from _samples(shard, layout.columns.get("images", "images"))


def expand(pattern: str) -> list[str]:
    """Names that a pattern with braces stands for: ``{00..11}`` counts, ``{a,b}`` lists.

    >>> expand("s-{08..10}.tar")
    ['s-08.tar', 's-09.tar', 's-10.tar']
    """
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    inside = found.group(1)
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if span:
        first, last = span.groups()
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        choices = inside.split(",")
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [name for choice in choices for name in expand(before + choice + after)]


def _shards(source: DataSource) -> list[Path]:
    path = local_path(source)
    if path.is_dir():
        shards = sorted(path.glob(f"{source.split}*.tar")) or sorted(path.glob("*.tar"))
    else:
        names = expand(str(path))
        absent = [name for name in names if not glob(name)]
        if absent:
            raise UserError(
                f"shards not found: {', '.join(absent[:3])}; give a .tar, a folder, or a pattern of .tar files"
            )
        shards = [Path(one) for name in names for one in sorted(glob(name))]
    if not shards:
        raise UserError(f"no shards in {path}; expected uncompressed .tar files")
    return shards


def _samples(shard: Path, image_column: str) -> Iterator[Row]:
    members = _members(shard)
    for key, group in itertools.groupby(members, key=lambda one: one[0]):
        place, unreadable = f"{shard}:{key}", None
        cells: dict[str, Any] = {}
        pictures: list[PictureInArchive] = []
        names: set[str] = set()
        for _, extension, content in group:
            if extension in names:
                unreadable = f"the archive has two files {extension!r} of this sample; which is meant cannot be told"
            names.add(extension)
            if extension == "broken archive":
                yield Row(str(shard), {}, shard.parent, str(content))
                return
            if isinstance(content, PictureInArchive):
                pictures.append(content)
            elif extension == "json":
                row = json_row(content, place, shard.parent)
                cells.update(row.cells)
                unreadable = unreadable or row.unreadable
            else:
                cells[extension] = content.decode("utf-8", errors="surrogateescape")
        if pictures:
            cells[image_column], stray = _in_order(pictures, cells.get(image_column), key)
            unreadable = unreadable or stray
        yield Row(place, cells, shard.parent, unreadable)


def _in_order(pictures: list[PictureInArchive], named: Any, key: str) -> tuple[list[PictureInArchive], str | None]:
    """The pictures as the sample's own list names them, or else by the numbers in their names; and what is wrong.

    An archive that was sorted by name has ``k.10.png`` before ``k.2.png``.
    """
    extensions = {picture.member.rpartition("/")[2].partition(".")[2]: picture for picture in pictures}
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        stem = key.rpartition("/")[2] + "."
        names = [name.rpartition("/")[2] for name in named]
        found = [extensions.get(name.removeprefix(stem), extensions.get(name)) for name in names]
        absent = [name for name, picture in zip(named, found, strict=True) if picture is None]
        wrong = (
            f"the archive has no picture {absent[0]!r} of this sample; it has {', '.join(extensions)}"
            if absent
            else None
        )
        return [picture for picture in found if picture is not None], wrong
    by_number = [(re.findall(r"\d+", extension), picture) for extension, picture in extensions.items()]
    if len(extensions) == len(pictures) and all(numbers for numbers, _ in by_number):
        return [picture for _, picture in sorted(by_number, key=lambda one: list(map(int, one[0])))], None
    return pictures, None


def _members(shard: Path) -> Iterator[tuple[str, str, Any]]:
    """Key, extension and content of each file: a picture's place, or the bytes of a text."""
    end = 0
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                end = member.offset_data + (-(-member.size // BLOCK) * BLOCK if member.isfile() else 0)
                key, extension = _key(member.name)
                # Links and devices are no files, and a few bytes of a sparse one can stand for any number of zeros.
                if not member.isfile() or member.issparse() or not extension:
                    continue
                if extension.rsplit(".", 1)[-1] in PICTURES:
                    yield key, extension, PictureInArchive(shard, member.name, member.offset_data, member.size)
                elif extension in ("json", "txt"):
                    stream = archive.extractfile(member)
                    yield key, extension, stream.read() if stream is not None else b""
    except tarfile.ReadError as error:
        if shard.suffix != ".tar" or _is_gzip(shard):
            raise UserError(f"{shard} is not an uncompressed tar archive ({error}); unpack it, with gunzip") from error
        yield "", "broken archive", f"the archive is damaged ({error}); what follows in it is lost"
        return
    with shard.open("rb") as file:
        file.seek(end)
        if any(file.read(BLOCK)):  # tarfile takes a header that it cannot read for the end
            yield "", "broken archive", f"the archive is damaged at byte {end}; what follows in it is lost"


def _is_gzip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _key(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, extension.lower()
