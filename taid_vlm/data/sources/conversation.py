"""From a row to a record, or to a record that says what is wrong with the row."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.data.pictures import Picture
from taid_vlm.data.record import BadSampleError, Broken, Record, image_places
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.parts import Message, taken_out
from taid_vlm.data.sources.picture_cells import pictures_of
from taid_vlm.data.sources.rows import Row, names, shown
from taid_vlm.data.sources.turns import clean_text, exchange, marked, messages_of, pictures_first

MOST_NAMES = 40  # of columns, in a message
MARKS = ("<image>", "<|image|>", "<ImageHere>")  # usual ones, for a hint


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
    """One record for each row, in order.

    Raises:
        UserError: no row at all has the column of pictures that the recipe names.
    """
    column = layout.columns["images"] if "images" in layout.named else None
    absent, there = column is not None, dict[str, None]()
    for row in rows:
        if row.unreadable is None and absent:
            absent = column not in row.cells
            there |= dict.fromkeys(names(row.cells)) if len(there) < MOST_NAMES else {}
        try:
            yield _record(row, layout, form)
        except BadSampleError as error:
            yield Record(row.place, [], broken=Broken(error.reason, str(error)))
    if absent and column is not None and there:
        near = did_you_mean(column, there)
        raise UserError(
            f"no row of this source (the last is {row.place}) has the column {column!r} for images{f'; {near}' if near[0] == 'd' else '.'} "
            f"They have: {', '.join(there)}. Correct columns: {{images: NAME}}, or leave it out"
        )


def _record(row: Row, layout: Layout, form: Format) -> Record:
    if row.unreadable is not None:
        raise BadSampleError(f"{row.place}: {row.unreadable}", "unreadable row")
    values = layout.take(row.cells, row.place)
    # An id of the set's own may come back in another file; the place does not.
    name = row.place if values.get("id") is None else f"{row.place} (id {shown(values['id'])[:80].strip(chr(39))})"
    if "text" in values:
        return Record(name, [], text=clean_text(values["text"], row.place))
    layout.check_pictures(row.cells, row.place)
    pictures = pictures_of(values.get("images"), row.folder, row.place)
    asked = "messages" not in values
    if asked:
        messages = exchange(values.get("question"), values["answer"], row.place)
    else:
        messages, held, places = taken_out(form.turns(values["messages"], row.place))
        pictures = _either(pictures, held, row)
        pictures = _by_place(pictures, places, row.place)
    if form.first or (asked and not (form.mark and form.mark in messages[0]["content"])):
        messages = pictures_first(messages, len(pictures))
    elif form.mark is not None:
        messages = marked(messages, form.mark)
    _check_count(messages, pictures, name)
    return Record(name, messages, pictures)


def _by_place(pictures: tuple[Picture, ...], places: list[int | None], where: str) -> tuple[Picture, ...]:
    """The pictures in the order in which the messages name them, by their index in the column; as they come where none is named."""
    named = [place for place in places if place is not None]
    if not named:
        return pictures
    if len(named) < len(places) or sorted(named) != list(range(len(pictures))):
        raise BadSampleError(
            f"{where}: pictures are named by the indices {places}, and there are {len(pictures)}: expected each of them once, counted "
            f"from 0; leave the indices out where pictures come in turn",
            "image count",
        )
    return tuple(pictures[place] for place in named)


def _either(column: tuple[Picture, ...], held: list[Any], row: Row) -> tuple[Picture, ...]:
    """The pictures of the row's column, or those that stand in its messages."""
    own = [one for one in held if one is not None]
    if own and column:
        raise BadSampleError(
            f"{row.place}: {len(own)} pictures stand in the messages and {len(column)} in the column of images; which belong where "
            f"cannot be told: keep one of the two (columns: {{images: null}} ignores the column)",
            "image count",
        )
    if own and len(own) < len(held):
        raise BadSampleError(
            f"{row.place}: {len(held)} image parts stand in the messages, and {len(held) - len(own)} of them name no picture",
            "image count",
        )
    return pictures_of(own, row.folder, row.place) if own else column


def _check_count(messages: list[Message], pictures: tuple[Picture, ...], name: str) -> None:
    places = image_places(messages)
    if places == len(pictures):
        return
    texts = [m["content"] for m in messages if m["role"] == "user" and isinstance(m["content"], str)]
    mark = next((mark for mark in MARKS if not places and any(mark in text for text in texts)), None)
    hint = f"; where {mark} stands for one, set image_mark: {mark}" if mark else ""
    raise BadSampleError(f"sample {name} has {places} image places and {len(pictures)} pictures{hint}", "image count")
