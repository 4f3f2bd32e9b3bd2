"""A preview on the terminal."""

from collections.abc import Iterable

from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taid_vlm.common.secrets import without_secrets
from taid_vlm.preview.schema import Figures, Left, PictureView, Piece, Preview, SampleView
from taid_vlm.preview.tokens import shortened, visible

WIDTH = 120  # where the output is no terminal
PIECES = 240  # of a rendering that are shown
BAR = 24
STYLES = {"text": "", "special": "magenta", "image": "cyan"}
TAUGHT = "bold green underline"


def show(preview: Preview, console: Console | None = None) -> None:
    """Print all of a preview. What comes from data is printed as it is spelt: no markup, no control characters."""
    out = console or Console(highlight=False, emoji=False, markup=False)
    if console is None and not out.is_terminal:
        out.width = WIDTH
    _say(out, f"{preview.title}: {preview.description}" if preview.description else preview.title, "bold")
    for warning in preview.warnings:
        _say(out, f"note: {warning}", "bold red")
    if preview.samples:
        _say(out, f"\nSamples: {preview.chosen}. ", end="")
        out.print(_legend(), soft_wrap=True)
    for sample in preview.samples:
        _sample(sample, out)
    _figures(preview, out)


def _say(out: Console, text: str, style: str = "", end: str = "\n") -> None:
    # The signs of line breaks are for data; the text of this file breaks its own lines.
    out.print(
        Text("\n".join(visible(without_secrets(line)) for line in text.split("\n")), style), soft_wrap=True, end=end
    )


def _legend() -> Text:
    text = Text("Tokens are set apart by ")
    text.append("|", "dim")
    text.append("; ").append("[[", "dim").append("supervised", TAUGHT).append("]]", "dim")
    text.append(", ").append("control token", STYLES["special"])
    return text.append(", ").append("<image> x number", STYLES["image"]).append(" of equal tokens in a row")


def _sample(sample: SampleView, out: Console) -> None:
    _say(out, f"\n{sample.id}{' (trimmed to fit)' if sample.trimmed else ''}", "bold")
    for picture in sample.pictures:
        _picture(picture, out)
    if sample.more_pictures:
        _say(out, f"  and {sample.more_pictures} more pictures")
    for side in sample.sides:
        _say(out, f"  {side.name}: {len(side.ids):,} tokens, {side.supervised:,} of them supervised")
        if side is not sample.sides[0] and side.pieces == sample.sides[0].pieces:
            _say(out, f"  the same as the {sample.sides[0].name}'s")
        else:
            out.print(rendering(shortened(side.pieces, PIECES)), soft_wrap=not out.is_terminal)


def _picture(picture: PictureView, out: Console) -> None:
    _say(out, f"  picture {picture.name}, {picture.size[0]} x {picture.size[1]}")
    for cut in picture.cuts:
        _say(out, f"    {' and '.join(cut.names)}: {cut.text}")
    if out.is_terminal and out.color_system in ("256", "truecolor"):
        out.print(half_blocks(picture.cuts[0].mosaic if picture.cuts else picture.image))


def rendering(pieces: Iterable[Piece | Left]) -> Text:
    """Token by token; supervised stretches are coloured and stand in double brackets."""
    text, open_ = Text(), False
    for index, piece in enumerate(pieces):
        taught = isinstance(piece, Piece) and piece.supervised
        if open_ and not taught:
            text.append("]]", "dim")
        elif taught and not open_:
            text.append("[[", "dim")
        elif index:
            text.append("|", "dim")
        open_ = taught
        if isinstance(piece, Left):
            text.append(f" ... {piece.tokens:,} tokens, {piece.supervised:,} of them supervised ... ", "dim")
        else:
            repeated = f" x {piece.repeats:,}" if piece.repeats > 1 else ""
            text.append(visible(piece.text) + repeated, TAUGHT if taught else STYLES[piece.kind])
    if open_:
        text.append("]]", "dim")
    text.rstrip()
    return text


def half_blocks(image: Image.Image, columns: int = 40) -> Text:
    """A small picture of upper half blocks, two pixels in each cell; at most ``columns`` x ``columns`` pixels."""
    scale = columns / max(image.size)
    width, lines = max(1, round(image.width * scale)), max(1, round(image.height * scale / 2))
    small = image.resize((width, 2 * lines))
    text = Text()
    for y in range(0, 2 * lines, 2):
        for x in range(width):
            upper, lower = (_rgb(small.getpixel((x, y + below))) for below in (0, 1))
            text.append("▀", f"{upper} on {lower}")
        text.append("\n")
    text.rstrip()
    return text


def _rgb(pixel: object) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel) if isinstance(pixel, tuple) else "#000000"


def _figures(preview: Preview, out: Console) -> None:
    figures = preview.figures
    _say(out, f"\nFigures of {figures.scope}{preview.held_out}", "bold")
    dropped = sum(one.count for one in figures.dropped)
    _say(
        out,
        f"  {figures.usable:,} samples can be used, {figures.trimmed:,} of them trimmed to fit; {dropped:,} are dropped",
    )
    for one in figures.dropped:
        _say(out, f"  dropped, {one.reason}: {one.count:,}")
        _say(out, f"    {one.example}")
    if figures.sides:
        table = _table("", "median", "95 % up to", "longest", "tokens", "supervised", "share")
        for side in figures.sides:
            numbers = (side.median, side.p95, side.longest, side.tokens, side.answers)
            table.add_row(side.name, *(f"{number:,}" for number in numbers), f"{side.share:.1%}")
        out.print(table)
        _say(out, f"  the limit data.max_length is {figures.limit:,}")
        _histogram(figures, out)


def _histogram(figures: Figures, out: Console) -> None:
    names = [side.name for side in figures.sides]
    most = max(max(one.counts.values()) for one in figures.histogram)
    table = _table("tokens", *(column for name in names for column in (name, "")))
    for one in figures.histogram:
        row = [f"{one.low:,}" if one.low == one.high else f"{one.low:,} to {one.high:,}"]
        for name in names:
            count = one.counts[name]
            row += [f"{count:,}", "█" * -(-count * BAR // most)]
        table.add_row(*row)
    out.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index and column else "left", no_wrap=True)
    return table
