"""From a row to a record, or to a record that says what is wrong with the row."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from taid_vlm.data.record import BadSampleError, Broken, Record
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.picture_cells import pictures_of
from taid_vlm.data.sources.rows import Row, shown
from taid_vlm.data.sources.turns import Message, clean_text, exchange, marked, messages_of, pictures_first


@dataclass(frozen=True)
class Format:
    """How rows are understood.

    Attributes:
        turns: from the messages column to messages.
        mark: text that stands where a picture belongs.
        first: pictures come before the first user text.
    """

    turns: Callable[[Any, str], list[Message]] = messages_of
    mark: str | None = None
    first: bool = False


def records_of(rows: Iterable[Row], layout: Layout, form: Format) -> Iterator[Record]:
    """One record for each row, in order."""
    for row in rows:
        try:
            yield _record(row, layout, form)
        except BadSampleError as error:
            yield Record(row.place, [], broken=Broken(error.reason, str(error)))


def _record(row: Row, layout: Layout, form: Format) -> Record:
    if row.unreadable is not None:
        raise BadSampleError(f"{row.place}: {row.unreadable}", "unreadable row")
    values = layout.take(row.cells, row.place)
    # An id of the set's own may come back in another file; the place does not.
    name = row.place if values.get("id") is None else f"{row.place} (id {shown(values['id'])[:80].strip(chr(39))})"
    if "text" in values:
        return Record(name, [], text=clean_text(values["text"], row.place))
    pictures = pictures_of(values.get("images"), row.folder, row.place)
    asked = "messages" not in values
    if asked:
        messages = exchange(values.get("question"), values["answer"], row.place)
    else:
        messages = form.turns(values["messages"], row.place)
    if form.first or (asked and not (form.mark and form.mark in messages[0]["content"])):
        messages = pictures_first(messages, len(pictures))
    elif form.mark is not None:
        messages = marked(messages, form.mark)
    return Record(name, messages, pictures)
