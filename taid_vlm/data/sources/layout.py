"""Which columns of a row hold what."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.data.record import BadSampleError
from taid_vlm.data.sources.rows import names
from taid_vlm.recipe.schema import DataSource

CONTENTS = ("messages", "question", "answer", "text")


@dataclass(frozen=True)
class Layout:
    """Column of each field, and the fields that a row must have."""

    columns: Mapping[str, str]
    required: frozenset[str]

    def take(self, cells: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Values by field; a field that need not be there is None where it is not.

        Raises:
            BadSampleError: a column is missing.
        """
        missing = self._missing(cells)
        if missing is not None:
            raise BadSampleError(f"{place}: {missing}", "missing column")
        return {field: cells.get(column) for field, column in self.columns.items()}

    def check(self, found: Collection[str], place: str) -> None:
        """Refuse a table that lacks a column.

        Raises:
            UserError: with the columns found.
        """
        missing = self._missing(found)
        if missing is not None:
            raise UserError(f"{place}: {missing}")

    def _missing(self, found: Collection[str]) -> str | None:
        for field in sorted(self.required):
            column = self.columns[field]
            if column not in found:
                there = sorted(names(found))
                return (
                    f"no column {column!r} for {field}; {did_you_mean(column, there)} "
                    f"It has: {', '.join(there) or 'none'}. Set columns: {{{field}: NAME}} in the recipe"
                )
        return None


def layout_of(source: DataSource, defaults: Mapping[str, str]) -> Layout:
    """The layout of a kind (``defaults``) with the columns that the recipe names.

    A recipe that names question or answer has its rows read as question and answer, one that names text as texts. Pictures
    and ids are optional unless the recipe names them.
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
    if "question" in source.columns and source.columns["question"] is None:
        columns.pop("question", None)
    required = {field for field in columns if field in named or field in CONTENTS}
    return Layout(columns, frozenset(required))
