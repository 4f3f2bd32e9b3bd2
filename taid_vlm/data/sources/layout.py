"""Which columns of a row hold what."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.data.record import BadSampleError
from taid_vlm.data.sources.rows import names
from taid_vlm.recipe.data_spec import DataSource

CONTENTS = ("messages", "question", "answer", "text")
USUAL = ("images", "image")
MEDIA = ("video", "videos", "audio", "audios")
TALKS = ("messages", "conversations", "conversation", "texts")  # what sets call their messages


@dataclass(frozen=True)
class Layout:
    """Column of each field.

    Attributes:
        required: fields that a row must have.
        named: what a table must have as well; of lines and archives, rows without pictures may lack them.
    """

    columns: Mapping[str, str]
    required: frozenset[str]
    named: frozenset[str] = frozenset()

    def take(self, cells: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Values by field; a field that need not be there is None where it is not.

        Raises:
            BadSampleError: a column is missing.
        """
        missing = self._missing(self.required, cells)
        if missing is not None:
            raise BadSampleError(f"{place}: {missing}", "missing column")
        return {field: cells.get(column) for field, column in self.columns.items()}

    def check(self, found: Collection[str], place: str) -> None:
        """Refuse a table that lacks a column.

        Raises:
            UserError: with the columns found.
        """
        missing = self._missing(self.required | self.named, found) or self._other_pictures(found, found)
        if missing is not None:
            raise UserError(f"{place}: {missing}")

    def check_pictures(self, cells: Mapping[str, Any], place: str) -> None:
        """Refuse a row whose pictures would be left behind, for they stand under the other usual name, or are films or sounds.

        Raises:
            BadSampleError: with what to set.
        """
        film = next((name for name in MEDIA if cells.get(name)), None)
        if film is not None and film not in self.columns.values() and "images" in self.columns:
            raise BadSampleError(
                f"{place}: the row has {film!r}; only pictures are taken: take such rows out of the set, or set "
                f"data.on_bad_sample: skip",
                "wrong type",
            )
        other = self._other_pictures([column for column in USUAL if cells.get(column)], cells)
        if other is not None:
            raise BadSampleError(f"{place}: {other}", "missing column")

    def _other_pictures(self, filled: Collection[str], found: Collection[str]) -> str | None:
        column = self.columns.get("images")
        if column is None or column in found or "images" in self.named:
            return None
        for other in USUAL:
            if other in filled and other not in self.columns.values():
                return (
                    f"no column {column!r} for images, but one {other!r}: set columns: {{images: {other}}} in the recipe, or "
                    f"{{images: null}} to learn without pictures"
                )
        return None

    def _missing(self, fields: Collection[str], found: Collection[str]) -> str | None:
        for field in sorted(fields):
            column = self.columns[field]
            if column not in found:
                there = sorted(names(found))
                return (
                    f"no column {column!r} for {field}{self._near(field, column, there)} It has: {', '.join(there) or 'none'}. "
                    f"Set columns: {{{field}: NAME}} in the recipe"
                )
        return None

    def _near(self, field: str, column: str, there: list[str]) -> str:
        """The end of a sentence that says what may be meant: another usual name, questions and answers, or a name that is spelt alike."""
        if field == "messages":
            usual = [name for name in TALKS if name in there]
            if usual:
                return f"; did you mean {usual[0]!r}?"
            if {"question", "answer"} <= set(there):
                return "; rows of question and answer take columns: {question: question, answer: answer}."
        taken = set(self.columns.values())
        near = did_you_mean(column, [name for name in there if name not in taken])
        return f"; {near}" if near.startswith("did") else "."


def layout_of(source: DataSource, defaults: Mapping[str, str]) -> Layout:
    """The layout of a kind (``defaults``) with the columns that the recipe names.

    A recipe that names question or answer has its rows read as question and answer, one that names text as texts. Pictures
    and ids are optional unless the recipe names them, and pictures that it names are optional in rows that are no table's.
    """
    named: dict[str, str] = {field: column for field, column in source.columns.items() if column is not None}
    base = dict(defaults)
    if "question" in source.columns or "answer" in source.columns:
        base = {"images": defaults.get("images", "images"), "question": "question", "answer": "answer"}
    elif "text" in named:
        base = {"text": "text"}
    elif "messages" in named:
        base = {"images": defaults.get("images", "images"), "messages": named["messages"]}
    columns: dict[str, str] = {"id": "id", **base, **named}
    for field, column in source.columns.items():
        if column is None:
            columns.pop(field, None)
    required = {field for field in columns if (field in named and field != "images") or field in CONTENTS}
    return Layout(columns, frozenset(required), frozenset(named) & {"images"})
