"""The page is one well-formed file that asks for nothing, shows markup as text, and can be read in light and dark."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.common.pages import STYLE
from taid_vlm.preview import make_preview, page
from taid_vlm.preview.html_page import FOLDER
from taid_vlm.preview.schema import Dropped, Figures, Piece, Preview, SampleView, SideView
from taid_vlm.preview.tokens import visible
from taid_vlm.recipe import Recipe
from tests.browser import dump, needs_browser, visit
from tests.colours import colours_of, contrast
from tests.preview.records import HOSTILE

VOID = {"meta", "img"}


class Structure(HTMLParser):
    """Elements as an HTML parser meets them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def html(recipe: Recipe) -> str:
    return page(make_preview(recipe, "<tiny> & [bold]own[/]"))


def test_it_is_well_formed_and_asks_for_nothing(html: str) -> None:
    root = ET.fromstring(html)
    assert root.tag == "html"
    parser = Structure()
    parser.feed(html)
    assert parser.open == []
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "div",
        "span",
        "p",
        "b",
        "h1",
        "h2",
    }
    allowed |= {"h3", "details", "summary", "figure", "figcaption", "img", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in parser.seen} <= allowed | {"ul", "li", "mark", "code"}
    for tag, attributes in parser.seen:
        assert not any(name.startswith("on") for name in attributes)
        assert not {"href", "action", "srcset", "data"} & set(attributes)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/")
            assert attributes["alt"]
    assert not re.search(r"url\(|@import|https?:|<script", html)


def test_what_users_wrote_is_text(html: str) -> None:
    body = ET.fromstring(html)
    shown = [
        "".join("".join(one.itertext()) for one in region.iter() if "t" in (one.get("class") or "").split())
        for region in body.iter()
        if region.get("class") == "tokens"
    ]
    assert sum(visible(HOSTILE) in text for text in shown) == 2  # of student and teacher
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<b>bold" not in html
    assert "".join(body.find("body/header/h1").itertext()) == "Preview of <tiny> & [bold]own[/]"  # type: ignore[union-attr]


def test_supervised_tokens_are_marked_in_the_document_too(html: str) -> None:
    marks = ["".join(one.itertext()) for one in ET.fromstring(html).iter("mark")]
    assert marks.count("red<|im_end|>") == 2
    assert "supervised" in html
    assert "&lt;empty_output&gt; x 12</span>" in html


def test_long_renderings_are_cut_and_say_so(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taid_vlm.preview.html_page.PIECES", 10)
    html = page(make_preview(recipe, "tiny", samples=1))
    assert re.search(r"\.\.\. \d+ tokens, 0 of them supervised \.\.\.", html)


def test_a_preview_without_samples_is_a_page(recipe: Recipe) -> None:
    data = recipe.data.model_copy(update={"max_length": 8})
    html = page(make_preview(recipe.model_copy(update={"data": data}), "tiny"))
    ET.fromstring(html)
    assert "no sample is left" in html


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters()), min_size=5, max_size=5))
def test_any_text_gives_a_well_formed_page(texts: list[str]) -> None:
    title, name, reason, message, words = texts
    piece = Piece(words, (1,), "text", True)
    sample = SampleView(name, True, [], 3, [SideView("student", [1], 1, [piece])])
    figures = Figures(1, 1, 1, 0, 0, 8, (Dropped(reason, 1, message),), (), ())
    root = ET.fromstring(page(Preview(title, "", "train", "", figures, [sample], (message,))))
    assert "".join(root.find("body/header/h1").itertext()) == f"Preview of {visible(title)}"  # type: ignore[union-attr]
    assert ["".join(mark.itertext()) for mark in root.iter("mark")][1:] == [visible(words)]


PAIRS = [
    ("text", "page"),
    ("text", "panel"),
    ("muted", "page"),
    ("muted", "panel"),
    ("taught-text", "taught"),
    ("special-text", "special"),
    ("image-text", "image"),
    ("warn-text", "warn"),
]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_have_contrast(dark: bool) -> None:
    colours = colours_of([STYLE, FOLDER / "page.css"], dark)
    for front, back in PAIRS:
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    for bar in ("student", "teacher", "taught-line"):
        assert contrast(colours[bar], colours["page"]) >= 3, bar


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_on_a_phone(html: str, tmp_path: Path, dark: bool) -> None:
    seen = visit(html, tmp_path, width=360, dark=dark)
    assert (seen.errors, seen.scripts, seen.wider) == ([], 0, False)
    assert seen.pictures
    assert all(width > 0 for width in seen.pictures)
    assert seen.background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


@pytest.mark.slow
@needs_browser
def test_a_browser_finds_no_script(html: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html)
    shown = dump(tmp_path / "page.html")
    assert "<script" not in shown
    assert "&lt;" in shown
    assert shown.count('<details open="open">') >= 5
