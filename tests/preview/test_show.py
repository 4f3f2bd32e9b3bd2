"""A preview on the terminal: text is spelt, never obeyed."""

import io

from PIL import Image
from rich.console import Console

from taid_vlm.preview import make_preview, show
from taid_vlm.preview.schema import Left, Piece
from taid_vlm.preview.show import half_blocks, rendering
from taid_vlm.preview.tokens import visible
from taid_vlm.recipe import Recipe


def shown(recipe: Recipe, **options: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False, emoji=False, **options)  # type: ignore[arg-type]
    show(make_preview(recipe, "[bold]tiny[/] \x1b]0;title\x07"), console)
    return out.getvalue()


def test_a_plain_terminal_gets_no_escape(recipe: Recipe) -> None:
    text = shown(recipe)
    assert "\x1b" not in text
    assert "\\x1b" in text
    assert text.startswith("[bold]tiny[/] \\x1b]0;title\\x07")
    for words in (
        "[[r|e|d|<|im_end|>]]",
        "<empty_output> x 12",
        "<script>",
        "[|b|o|l|d| |r|e|d|]",
        "Figures of all 13",
    ):
        assert words in text.replace("<|s|c|r|i|p|t|>", "<script>"), words
    assert "teacher: 1 x 2 tiles and the whole picture, each 64 x 64 pixels" in text
    assert "dropped, " in text


def test_colours_are_the_only_escapes_of_a_colour_terminal(recipe: Recipe) -> None:
    text = shown(recipe, force_terminal=True, color_system="truecolor")
    assert "▀" in text
    assert {part.split("m")[0].strip("0123456789;[") for part in text.split("\x1b")[1:]} == {""}


def test_supervised_stretches_stand_in_brackets() -> None:
    pieces = [
        Piece("[red]", (1,), "text", False),
        Left(5, 2),
        Piece("a", (1,), "text", True),
        Piece("\x1b", (2,), "text", True),
        Piece("b", (3,), "text", False),
        Piece("<i>", (9,), "image", True, 12),
    ]
    expected = "[red]| ... 5 tokens, 2 of them supervised ... [[a|\\x1b]]b[[<i> x 12]]"
    assert rendering(pieces).plain == expected
    assert visible("\x1b") == "\\x1b"


def test_half_blocks_keep_the_shape() -> None:
    image = Image.new("RGB", (200, 100), (255, 0, 0))
    image.paste((0, 0, 255), (0, 50, 200, 100))
    lines = half_blocks(image).plain.splitlines()
    assert [len(line) for line in lines] == [40] * 10
    assert [len(line) for line in half_blocks(image.rotate(90, expand=True)).plain.splitlines()] == [20] * 20
