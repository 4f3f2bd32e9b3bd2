"""Rows of tables: Parquet files and Hugging Face data sets, through the ``datasets`` library.

The library keeps a table as Arrow files that are mapped into memory. Texts are read from them once; of a picture only the
place of its cell is taken, so a set may be larger than the memory, and workers map the same files.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.files import new_folder
from taid_vlm.data.pictures import PictureInTable, arrow_table
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.rows import Row, local_path, picture_folder
from taid_vlm.data.sources.shards import expand
from taid_vlm.recipe.data_spec import DataSource

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
BATCH = 256


def parquet_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """Rows of Parquet files: one, a pattern of them, or those of a folder whose names begin with the split.

    Raises:
        UserError: no files, or files that cannot be read, or lack a column.
    """
    path = local_path(source)
    if path.is_dir():
        files = _of_split(path, source.split)
        there = ", ".join(sorted(file.name for file in path.rglob("*.parquet"))[:8])
    else:
        files = sorted(name for pattern in expand(str(path)) for name in glob(pattern))
        there = ""
    if not files:
        raise UserError(f"no Parquet files of split {source.split!r} at {path}{there and f'; it has {there}'}")
    for folder in sorted(
        {Path(file).parent for file in files}
    ):  # relative picture paths start from their own file's folder
        some = [file for file in files if Path(file).parent == folder]
        table = _loaded(source, "parquet", data_files={"rows": some}, split="rows", cache_dir=_own_cache())
        place = f"{some[0] if len(some) == 1 else folder} split {source.split}"
        yield from _table_rows(_mapped(table, [some]), source, layout, folder, place)


def _of_split(folder: Path, split: str) -> list[str]:
    """The files of a folder and its folders that belong to a split: its name alone or with a number, or else all that begin with it.

    Raises:
        UserError: these are of several splits, such as train_sft and train_gen.
    """
    files = sorted(folder.rglob(f"{split}*.parquet"))
    stems = {file: re.sub(r"[-_.]*\d.*$", "", file.stem) for file in files}
    exact = [file for file in files if stems[file] == split]
    others = sorted(set(stems.values()))
    if not exact and len(others) > 1:
        raise UserError(
            f"the files of {folder} that begin with {split!r} are of several splits: {', '.join(others)}; set split to one of them, or give "
            f"a pattern of files as path"
        )
    return list(map(str, exact or files))


def huggingface_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """Rows of a data set by hub id, of a folder of data files, or of a folder written by ``save_to_disk``.

    Raises:
        UserError: the set, its split, its configuration or a column is not there.
    """
    path = local_path(source)
    if not path.exists() and not HUB_ID.fullmatch(source.path):
        raise UserError(f"data set not found: {path}; give a folder that is there, or a hub id such as owner/name")
    if source.streaming:
        return _streamed_rows(source, layout, str(path) if path.exists() else source.path)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        table = _saved(source, path)
    elif path.exists():
        table = _loaded(source, str(path), source.config, split=source.split, cache_dir=_own_cache())
    else:
        table = _loaded(source, source.path, source.config, split=source.split)
    key = [source.path, source.config, source.split]
    place = _place(source)
    return _table_rows(_mapped(table, key, whole=_names_a_whole_split(source)), source, layout, path, place)


def _place(source: DataSource) -> str:
    """Names the rows of a set: other splits and configurations have row 0 as well."""
    return " ".join([source.path, *([f"config {source.config}"] if source.config else []), f"split {source.split}"])


def _own_cache() -> str:
    return str(cache_folder() / "datasets")


def _names_a_whole_split(source: DataSource) -> bool:
    return re.fullmatch(r"[\w.-]+", source.split) is not None


def _loaded(source: DataSource, *arguments: Any, **options: Any) -> Any:
    from datasets import load_dataset

    try:
        # Streams have no memory to be kept in; all else must be files, whatever the environment says.
        kept = {} if options.get("streaming") else {"keep_in_memory": False}
        return load_dataset(*arguments, **options, **kept)
    except Exception as error:  # the library, its readers and its downloads raise many types
        why = " ".join(str(error).splitlines()[:2]) or type(error).__name__
        folder = local_path(source) / (source.config or "")
        hint = (
            f"; {folder} is a folder, give it as path and leave config out" if source.config and folder.is_dir() else ""
        )
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise UserError(
            f"cannot load the data set {source.path}, split {source.split!r}: {why[:400]}{cause}; check path, split and config{hint}"
        ) from error


def _saved(source: DataSource, path: Path) -> Any:
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path), keep_in_memory=False)
    except Exception as error:
        raise UserError(f"cannot read the saved data set {path}: {error}; save it again with save_to_disk") from error
    if not isinstance(found, DatasetDict):
        if not _names_a_whole_split(source):
            raise UserError(
                f"{path} is one saved split, of which {source.split!r} cannot be cut: leave split out and set a limit"
            )
        return found  # one split, whatever its name
    if source.split not in found:
        raise UserError(f"{path} has no split {source.split!r}: {did_you_mean(source.split, map(str, found))}")
    return found[source.split]


def _mapped(table: Any, key: Any, whole: bool = True) -> Any:
    """The table as Arrow files of which every row is one of its rows; a slice of a split is written anew."""
    from datasets import load_from_disk

    files = [Path(file["filename"]) for file in table.cache_files]
    if whole and sum(arrow_table(file).num_rows for file in files) == len(table):
        return table
    about = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    name = hashlib.sha256(repr((key, len(table), about)).encode()).hexdigest()[:24]
    folder = cache_folder() / "datasets" / "slices" / name
    if not folder.is_dir():
        try:
            with new_folder(folder) as temporary:
                table.save_to_disk(str(temporary))
        except (OSError, UserError):
            if not folder.is_dir():  # where it is, another process was faster, and wrote the same
                raise
    return load_from_disk(str(folder), keep_in_memory=False)


def _table_rows(table: Any, source: DataSource, layout: Layout, beside: Path, name: str) -> Iterator[Row]:
    layout.check(table.column_names, source.path)
    folder = picture_folder(source, beside)
    images = layout.columns.get("images", "")
    wanted = [c for c in dict.fromkeys(layout.columns.values()) if c in table.column_names and c != images]
    number = 0
    for file in [Path(one["filename"]) for one in table.cache_files]:
        arrow = arrow_table(file)
        pictures = arrow[images] if images in table.column_names else None
        for start in range(0, arrow.num_rows, BATCH):
            size = min(BATCH, arrow.num_rows - start)
            texts = arrow.select(wanted).slice(start, size).to_pylist() if wanted else [{}] * size
            for offset, cells in enumerate(texts):
                place = f"{name} row {number}"
                if pictures is not None:
                    at = partial(PictureInTable, file, start + offset, images)
                    cells = {**cells, images: _picture_cell(pictures[start + offset], at, place)}
                yield Row(place, cells, folder)
                number += 1


def _picture_cell(cell: Any, at: Any, place: str) -> Any:
    """Where the bytes of a cell are, its paths, or else what it holds."""
    import pyarrow as pa

    if not cell.is_valid:
        return None
    if not isinstance(cell, (pa.ListScalar, pa.LargeListScalar)):
        return _one_picture(cell, partial(at, None), f"{place} picture")
    return [_one_picture(one, partial(at, i), f"{place} picture {i + 1}") for i, one in enumerate(cell.values or [])]


def _one_picture(cell: Any, at: Any, place: str) -> Any:
    import pyarrow as pa

    if isinstance(cell, pa.StructScalar) and cell.is_valid and "bytes" in cell and cell["bytes"].is_valid:
        return at(place)
    if isinstance(cell, (pa.BinaryScalar, pa.LargeBinaryScalar)) and not isinstance(cell, pa.StringScalar):
        return at(place) if cell.is_valid else None
    return cell.as_py()


def _streamed_rows(source: DataSource, layout: Layout, path: str) -> Iterator[Row]:
    """The first rows, with their pictures in memory."""
    stream = _loaded(source, path, source.config, split=source.split, streaming=True).decode(False)
    if stream.column_names is not None:
        layout.check(stream.column_names, source.path)
    folder = picture_folder(source, Path(path))
    assert source.limit is not None
    for number, cells in enumerate(stream.take(source.limit)):
        if number == 0 and stream.column_names is None:  # they are known from a row alone
            layout.check(cells, source.path)
        yield Row(f"{_place(source)} row {number}", cells, folder)
