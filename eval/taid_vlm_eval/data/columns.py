"""From a row of a table to an item, by the columns that a task names."""

import math
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.data.rows import Row, listed
from taid_vlm_eval.data.store import PictureStore
from taid_vlm_eval.task import Data

ROLES = ("id", "question", "answer", "images", "options", "hint", "suffix")
ANSWERS = ("text", "letter", "index", "list", "yes-no", "none")
OPTIONS = ("lines", "inside")
_YES_NO = {"1": "yes", "yes": "yes", "true": "yes", "0": "no", "no": "no", "false": "no"}


def require_keys(data: Data) -> None:
    """Refuse values of ``data.options`` and ``data.answer`` that do not exist.

    Raises:
        UserError: see above.
    """
    for key, given, known in (("options", data.options, OPTIONS), ("answer", data.answer, ANSWERS)):
        if given not in known:
            raise UserError(f"unknown data.{key} {given!r}: {did_you_mean(given, known)}")


def require_columns(data: Data, row: Row, where: str) -> None:
    """Refuse columns that the first row of the data lacks.

    Raises:
        UserError: it names the column and those that are there.
    """
    for key, names in data.columns.items():
        for name in names if isinstance(names, list) else [names]:
            # Options and pictures may have columns that only larger files of the kind have (E, image_7).
            if name not in row and not (key in ("options", "images") and isinstance(names, list)):
                raise UserError(f"{where} has no column {name!r} (data.columns.{key}): {did_you_mean(name, row)}")


def is_empty(cell: Any) -> bool:
    """Whether a cell says nothing: None, not a number, or text that is blank or "nan"."""
    if isinstance(cell, float):
        return math.isnan(cell)
    return cell is None or (isinstance(cell, str) and cell.strip() in ("", "nan"))


def make_item(row: Row, number: int, data: Data, store: PictureStore) -> Item:
    """The item of a row; one that lacks what a question needs is marked as broken.

    Args:
        number: of the row, from 0; the id of an item without one.
    """
    columns = data.columns
    name = "-".join(str(one) for one in _cells(row, columns.get("id", [])) if not is_empty(one)) or str(number)
    facts = {key: _fact(row, names) for key, names in columns.items() if key not in ROLES}
    facts = {key: cell for key, cell in facts.items() if not is_empty(cell)}
    try:
        options = _options(row, columns.get("options", []))
        if options:
            facts["options"] = options
        truth = _truth(_first(row, columns.get("answer", [])), data.answer, options)
        question = _question(row, data, options)
        images = _images(row, columns.get("images", []), store)
    except ValueError as error:
        return Item(name, "", "", facts=facts, broken=f"record {number} is broken: {error}")
    bare, hint = (_text(row, columns.get(role, [])) for role in ("question", "hint"))
    return Item(name, question, truth, images, facts=facts, bare=bare, hint=hint)


def _cells(row: Row, names: str | list[str]) -> list[Any]:
    return [row.get(name) for name in ([names] if isinstance(names, str) else names)]


def _first(row: Row, names: str | list[str]) -> Any:
    return next(iter(_cells(row, names)), None)


def _text(row: Row, names: str | list[str]) -> str:
    cell = _first(row, names)
    return "" if is_empty(cell) else str(cell)


def _fact(row: Row, names: str | list[str]) -> Any:
    found = _cells(row, names)
    return found[0] if isinstance(names, str) else found


def _options(row: Row, names: str | list[str]) -> dict[str, str]:
    """Options by letter; empty cells are none, but letters are never moved."""
    cells = _cells(row, names)
    if isinstance(names, str):
        cells = cells[0] if isinstance(cells[0], list) else listed("" if is_empty(cells[0]) else str(cells[0]))
    return {chr(ord("A") + place): str(cell) for place, cell in enumerate(cells) if not is_empty(cell)}


def _truth(cell: Any, kind: str, options: dict[str, str]) -> str | list[str]:
    if kind == "none":
        return ""
    if kind == "list" and isinstance(cell, str):
        cell = listed(cell)
    if isinstance(cell, list):
        # VQAv2: one mapping for each of the people asked.
        texts = [str(one["answer"] if isinstance(one, dict) else one) for one in cell]
        if not texts:
            raise ValueError("no answer")
        return texts
    if is_empty(cell):
        raise ValueError("no answer")
    text = str(cell).strip()
    if kind == "text":
        return str(cell)
    if kind == "yes-no":
        if text.lower() not in _YES_NO:
            raise ValueError(f"answer is {cell!r}, expected 0, 1, yes or no")
        return _YES_NO[text.lower()]
    letter = text.strip("()").upper() if kind == "letter" else chr(ord("A") + int(text))
    if options and letter not in options:
        raise ValueError(f"answer is {cell!r}, expected one of {len(options)} options")
    return letter


def _question(row: Row, data: Data, options: dict[str, str]) -> str:
    cell, hint = _first(row, data.columns.get("question", [])), _first(row, data.columns.get("hint", []))
    lines = [] if is_empty(hint) else [f"{data.hint}{hint}"]
    # A task without such a column puts one and the same question, in its prompt.
    if "question" in data.columns:
        if is_empty(cell):
            raise ValueError("no question")
        lines.append(str(cell))
    if data.options == "lines":
        lines += [f"{letter}. {text}" for letter, text in options.items()]
    suffix = _first(row, data.columns.get("suffix", []))
    return "\n".join(lines) + ("" if is_empty(suffix) else str(suffix))


def _images(row: Row, names: str | list[str], store: PictureStore) -> list[Path]:
    """The pictures of an item. Of several columns some may be empty; a single one that is empty lacks its picture."""
    found = []
    for cell in _cells(row, names):
        for one in cell if isinstance(cell, list) else [cell]:
            if isinstance(one, ValueError):
                raise one
            path = one if isinstance(one, Path) else store.put(one)
            if path is not None:
                found.append(path)
    if isinstance(names, str) and not found:
        raise ValueError(f"no picture in column {names!r}")
    return found
