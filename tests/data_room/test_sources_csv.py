"""A quote that is not closed costs its own row, and never the others."""

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.data import Record, read_records
from taid_vlm.data.sources.csv_file import csv_rows
from taid_vlm.data.sources.layout import layout_of
from taid_vlm.recipe.data_spec import DataSource


def read(folder: Path, text: str) -> list[Record]:
    (folder / "x.csv").write_text(text, newline="")
    return read_records([DataSource(kind="csv", path=str(folder / "x.csv"))], seed=0)


def told(records: list[Record]) -> dict[int, str]:
    """Line and message of each broken record."""
    broken = [record for record in records if record.broken is not None]
    assert all(record.broken is not None and record.broken.reason == "unreadable row" for record in broken)
    return {int(r.id.rsplit(":", 1)[1]): r.broken.message.split(": ", 1)[1] for r in broken if r.broken is not None}


def answers(records: list[Record]) -> list[str]:
    return [record.messages[-1]["content"] for record in records if record.broken is None]


ROWS = [f",question {n},answer {n}\n" for n in range(20)]
OTHERS = [",no quote,a\n", ',"a comma, inside",b\n', ',"two\nlines","c"\n', ',"He said ""no""",d\n', ',"",e\n']
OPEN = ['{},"not closed,x\n', '"{},not closed,x\n', '{},not closed,"x\n']


@pytest.mark.parametrize("broken", OPEN)
@pytest.mark.parametrize("after", [[], *[[one] for one in OTHERS], OTHERS, OTHERS * 50])
def test_a_quote_that_is_not_closed_costs_its_own_row(tmp_path: Path, broken: str, after: list[str]) -> None:
    before = [",first,first\n", ',"second\nof two lines",second\n']
    records = read(tmp_path, "".join(["image,question,answer\n", *before, broken.format(""), *after]))
    assert answers(records) == ["first", "second"] + [one.split(",")[-1].strip('"\n') for one in after]
    found = told(records)
    assert list(found) == [5]
    assert (
        found[5].startswith("a quote is opened on this line and not closed") or "fields; the header has 3" in found[5]
    )


def test_a_whole_file_is_not_swallowed(tmp_path: Path) -> None:
    rows = list(ROWS)
    rows[4] = ',"question 4,answer 4\n'
    rows[11] = ',question 11,"answer 11\n'
    records = read(tmp_path, "image,question,answer\n" + "".join(rows))
    assert answers(records) == [f"answer {n}" for n in range(20) if n not in (4, 11)]
    assert list(told(records)) == [6, 13]


def test_a_long_text_that_is_not_closed_is_one_row(tmp_path: Path) -> None:
    poem = "a line of it\nand, another\n\nand the last\n"
    records = read(tmp_path, f'image,question,answer\n,a,b\n,"{poem}')
    assert answers(records) == ["b"]
    assert told(records)[3].startswith("lines 3 to 6 are no row: a quote is opened")
    records = read(tmp_path, f'image,question,answer\n,"{poem}",too,many\n,a,b\n')
    assert told(records) == {2: "lines 2 to 6 are no row: 4 fields; the header has 3"}
    assert answers(records) == ["b"]


def test_a_quote_inside_a_field_must_be_written_twice(tmp_path: Path) -> None:
    records = read(tmp_path, 'image,question,answer\n,"Say "yes" now",b\n,c,d\n')
    assert list(told(records)) == [2]
    assert answers(records) == ["d"]
    # In a field that is not quoted it means itself.
    assert answers(read(tmp_path, 'image,question,answer\n,5" or 6",b\n')) == ["b"]


@pytest.mark.parametrize("text", ['"two lines\nand "one" more",b\n', '"He said "yes"\nand left",b\n'])
def test_the_rest_of_a_broken_field_is_no_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text("question,answer\n" + text + "c,d\n")
    source = DataSource(kind="csv", path=str(tmp_path / "x.csv"))
    records = read_records([source], seed=0)
    assert list(told(records)) == [2, 3]
    assert answers(records) == ["d"]


def test_a_row_that_stands_alone_is_one_also_behind_a_stray_quote(tmp_path: Path) -> None:
    records = read(tmp_path, 'image,question,answer\n,"what is "this"?",cat\n,how long is a 5" nail?,long\n,x,y\n')
    assert answers(records) == ["long", "y"]
    assert list(told(records)) == [2]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_columns_may_be_separated_otherwise(tmp_path: Path, mark: str) -> None:
    lines = ["image,question,answer", ",a,b", ',"open,x', ',"c\n",d', ",e,f"]
    text = "\n".join(lines).replace(",", mark).replace("b", "b, with a comma") + "\n"
    records = read(tmp_path, text)
    assert answers(records) == ["b, with a comma", "d", "f"]
    assert list(told(records)) == [3]


def test_a_header_that_is_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.csv: the header is not a line of a CSV"):
        read(tmp_path, 'image,"question,answer\n,a,b\n')


FIELDS = st.text(st.sampled_from('ab,"\n\r '), max_size=6)


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_what_the_module_writes_is_read_as_it_was(rows: list[list[str]], end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.csv"
        with open(file, "w", newline="") as stream:
            csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
        source = DataSource(kind="csv", path=str(file))
        layout = layout_of(source, {"images": "a", "question": "b", "answer": "c"})
        assert [list(row.cells.values()) for row in csv_rows(source, layout)] == rows
