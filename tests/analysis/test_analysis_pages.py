"""Answers as text, JSON, page and picture: all text is text, and a browser draws what is there."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from taid_vlm.analysis.found import Found, Table, as_json, as_text
from taid_vlm.analysis.output import page, picture, write
from taid_vlm.analysis.regression import Asked, regression
from taid_vlm.common.errors import UserError
from taid_vlm.report.chart import Chart, Line
from tests.browser import needs_browser, visit

EVIL = '<script>document.title="taken"</script>"\'&\u202e]]>\n'


@pytest.fixture(scope="module")
def evil() -> Found:
    line = Line(EVIL, [1, 2, 3], [1.0, 2.0, math.nan], 1, [(0.5, 1.5), (1.5, 2.5), (math.nan, math.nan)])
    chart = Chart(EVIL, EVIL, [line], EVIL, x_title=EVIL, missing=(EVIL,))
    return Found(EVIL, [Table(EVIL, [EVIL, EVIL], [[EVIL, EVIL]])], [EVIL], [chart], {EVIL: math.inf})


def test_text_of_runs_is_shown_as_text(evil: Found) -> None:
    for made in (page(evil).split("\n", 1)[1], picture(evil)):
        tags = {one.tag.rsplit("}")[-1] for one in ElementTree.fromstring(made).iter()}
        assert "script" not in tags
        assert "\u202e" not in made
    assert "\u202e" not in as_text(evil)
    assert as_text(evil).count("\n") == 4  # line breaks of names break no line
    assert json.loads(as_json(evil))[EVIL] is None


def test_columns_are_lined_up_and_sentences_can_be_left_out() -> None:
    found = Found("title", [Table("", ["a", "figure"], [["longer", "1"], ["b", "22"]])], ["A sentence."])
    assert as_text(found) == "a       figure\nlonger       1\nb           22\n\nA sentence."
    assert as_text(found, sentences=False).endswith("22")


def test_a_picture_has_every_chart_with_its_legend() -> None:
    found = regression(Asked(points=12, rounds=5))
    tree = ElementTree.fromstring(picture(found))
    words = {"".join(one.itertext()) for one in tree.iter() if one.tag.endswith("}text")}
    for chart in found.charts:
        assert chart.title in words
        assert {line.name for line in chart.lines} <= words
    width, height = float(tree.get("width", "0")), float(tree.get("height", "0"))
    for one in tree:
        if one.tag.endswith("}svg"):
            assert float(one.get("x", "0")) + float(one.get("width", "0")) <= width
            assert float(one.get("y", "0")) + float(one.get("height", "0")) <= height


def test_the_name_says_what_is_written(tmp_path: Path, evil: Found) -> None:
    assert write(evil, tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert write(evil, tmp_path / "a.svg").read_text().startswith("<svg ")
    with pytest.raises(UserError, match=r"'\.png', expected \.html"):
        write(evil, tmp_path / "a.png")


@pytest.mark.slow
@needs_browser
def test_a_browser_shows_the_page(tmp_path: Path, evil: Found) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "evil").mkdir()
    seen = visit(page(regression(Asked(points=12, rounds=5))), tmp_path / "plain", width=400, dark=True)
    assert (seen.errors, seen.scripts, seen.dead, seen.wider, seen.unreachable) == ([], 0, [], False, 0)
    assert seen.background == "rgb(13, 17, 23)"
    seen = visit(page(evil), tmp_path / "evil")
    assert (seen.errors, seen.scripts) == ([], 0)
