"""Text of others in a card, read back by a parser of CommonMark and by one of YAML."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from taid_vlm.common.markdown import card, fenced, one_line, plain, read_card, table

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = [
    "---",
    "a\n---\nb",
    "# x",
    "<script>alert(1)</script>",
    "`a`",
    "```\n# x",
    "a | b",
    "a\\|b \\` \\",
    "[x](javascript:y)",
    "![x](y)",
    "*a* __b__ _c_ ~~d~~",
    "1. a",
    "- a",
    "> a",
    "&lt;b&gt; &#60;",
    "    code",
    "<!--",
    "\u202eb",
    "a\r\n\r\nb\u2028c",
    "easy_vqa 0.4 -1 (x)",
    "===",
    "+",
    "12)",
    "1 #",
    "a ##",
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("ab1 _*`<>|[]()#-+=.\\&;!~$\n"), max_size=12),
    st.text(max_size=12),
)


def inline(markdown: str) -> tuple[list[str], list[str]]:
    """Kinds of the blocks, and of what is read of each line of text its words; anything but text is told by its kind."""
    tokens = READER.parse(markdown)
    words = [
        "".join(
            one.content if one.type in ("text", "text_special") else f"({one.type})" for one in token.children or []
        )
        for token in tokens
        if token.type == "inline"
    ]
    return [token.type for token in tokens], words


@given(TEXTS)
@pytest.mark.parametrize("around", ["{}", "# {}", "- {}", "> {}", "{} ends", "Begins {}"])
def test_plain_text_is_read_as_it_is(around: str, text: str) -> None:
    shown = one_line(text)
    if not shown:
        return
    blocks, words = inline(around.format(plain(text)))
    usual, _ = inline(around.format("word"))
    assert blocks == usual
    assert words == [around.lstrip("#->").strip().format(shown).strip() if around != "{}" else shown]


@given(st.lists(TEXTS, min_size=2, max_size=2))
def test_cells_stay_in_their_columns(texts: list[str]) -> None:
    blocks, words = inline(table(("one", "two"), [tuple(map(plain, texts)), ("x", "y")]))
    usual, _ = inline(table(("one", "two"), [("a", "b"), ("x", "y")]))
    assert blocks == usual
    assert words == ["one", "two", *map(one_line, texts), "x", "y"]


@given(TEXTS)
def test_a_block_ends_where_it_is_closed(text: str) -> None:
    blocks = READER.parse(f"{fenced(text, 'yaml')}\n\nafter\n")
    assert [token.type for token in blocks] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert blocks[0].info == "yaml"


@given(
    st.dictionaries(
        st.sampled_from(["license", "tags", "x"]), st.one_of(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
    )
)
@example({"license": "\x85", "x": ["a\u2028b", "\u2029"], "tags": "é"})  # line breaks to YAML alone
def test_fields_are_read_as_they_were_written(fields: dict[str, object]) -> None:
    from huggingface_hub import RepoCard

    body = "# x\n\n---\n\nend\n"
    text = card(fields, body)
    kept = {key: value for key, value in fields.items() if value}
    assert read_card(text) == (kept, body)
    if kept:
        hub = RepoCard(text, ignore_metadata_errors=False)
        assert (hub.data.to_dict(), hub.text.lstrip("\n")) == (kept, body)


def test_what_has_no_fields_is_all_body() -> None:
    for text in ("# x\n", "", "--- \nx", "---\n- a list\n---\nbody", "---\na: [\n---\nbody"):
        assert read_card(text)[0] == {}
    assert read_card("---\na: [\n---\nbody")[1] == "body"
    assert read_card("# x\n---\na: b\n---\n") == ({}, "# x\n---\na: b\n---\n")
