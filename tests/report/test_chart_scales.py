"""Axes and lines of the report's charts."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from taid_vlm.report.chart import HEIGHT, POINTS, WIDTH, Chart, Line, draw, smoothed, thinned
from taid_vlm.report.scale import fitted, nice_step, short


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[0.013, 2.7, 40.0], [1e-9, 3e-4], [5.0], [99.0, 101.0], [0.4, 1.0]])
def test_all_values_and_ticks_lie_between_the_ends(values: list[float], log: bool) -> None:
    scale = fitted(values, 200.0, 10.0, log=log)
    places = [scale.place(value) for value in values]
    assert all(10 <= place <= 200 for place in places)
    assert places == sorted(places, reverse=True)  # larger is higher
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 6
    assert all(9.99 <= scale.place(tick) <= 200.01 for tick in ticks)


def test_equal_ratios_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    scale = fitted([0.01, 100.0], 0.0, 300.0, log=True)
    one, two, three = (scale.place(value) for value in (0.1, 1.0, 10.0))
    assert two - one == pytest.approx(three - two)


def test_values_without_a_place_do_not_spoil_an_axis() -> None:
    assert fitted([1.0, math.nan, math.inf, 3.0], 0, 1).high < 4
    assert fitted([0.0, -2.0, 1.0, 10.0], 0, 1, log=True).low > 0.5
    assert fitted([math.nan], 0, 1).ticks()  # an empty axis is an axis


def test_steps_of_ticks_are_round() -> None:
    assert [nice_step(value) for value in (0.11, 0.2, 3.0, 7.0)] == [0.2, 0.2, 5.0, 10.0]
    assert [short(v) for v in (0.00012, 1234.5, 25_000, 3.2e6)] == ["0.00012", "1234", "25 k", "3.2 M"]


def test_no_spike_is_lost_when_a_long_line_is_thinned() -> None:
    values = [1.0] * 10_000
    values[4321], values[77] = 50.0, -9.0
    points = thinned(range(10_000), values)
    assert len(points) <= 1.5 * POINTS
    assert {(4321, 50.0), (77, -9.0), (0, 1.0), (9_999, 1.0)} <= set(points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


@pytest.mark.parametrize("log", [False, True])
def test_a_straight_line_stays_straight_when_it_is_smoothed(log: bool) -> None:
    values = [math.exp(-step / 50) if log else 3.0 - step / 100 for step in range(400)]
    assert smoothed(values, log) == pytest.approx(values)


def test_smoothing_takes_noise_away_and_leaves_gaps() -> None:
    noisy = [1.0 + (-1) ** step for step in range(400)]
    assert max(abs(value - 1.0) for value in smoothed(noisy)[5:-5]) < 0.2
    noisy[200] = math.nan
    assert [math.isnan(value) for value in smoothed(noisy)].index(True) == 200


def test_a_line_is_drawn_where_its_values_are_and_breaks_at_a_gap() -> None:
    line = Line("run", [1, 2, 3, 4, 5], [1.0, 2.0, math.nan, 2.0, 1.0])
    svg = str(draw(Chart("Loss", "nats", [line]), "c"))
    path = re.search(r'<path class="[^"]*" d="([^"]*)"', svg)
    assert path is not None
    assert path[1].count("M") == 2
    points = [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([\d. ]+)", path[1])]
    assert points[0][1] == points[3][1] > points[1][1] == points[2][1]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_a_chart_says_in_words_and_in_a_table_what_it_draws() -> None:
    line = Line("run", [10, 20], [0.5, 0.7], intervals=[(0.4, 0.6), (0.6, 0.8)])
    chart = Chart("vqa", "accuracy", [line])
    svg = ElementTree.fromstring(str(draw(chart, "c")))
    title, description = svg[0], svg[1]
    assert (title.text, svg.attrib["aria-labelledby"]) == ("vqa", "c-t c-d")
    assert description.text is not None
    assert "run: 0.5 at 10, 0.7 at 20" in description.text
    points = [one for one in svg.iter() if one.get("tabindex") == "0"]
    assert [one.get("aria-label") for one in points] == [
        "run, step 10: 0.5 (0.4 to 0.6)",
        "run, step 20: 0.7 (0.6 to 0.8)",
    ]
    assert svg.attrib["role"] == "group"  # a picture's points could not be reached
    rows = [["10", "0.5 (0.4 to 0.6)"], ["20", "0.7 (0.6 to 0.8)"]]
    assert chart.table == (["optimizer step", "run"], rows)


def test_steps_of_a_run_have_round_marks_from_the_first_on() -> None:
    line = Line("run", range(1, 101), [1.0 / step for step in range(1, 101)])
    svg = str(draw(Chart("Loss", "nats", [line], x_bounds=(0, 100)), "c"))
    marks = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">([^<]*)<', svg)
    assert [said for _, said in marks] == ["0", "20", "40", "60", "80", "100"]
    places = [float(x) for x, _ in marks]
    assert len({round(b - a, 1) for a, b in pairwise(places)}) == 1
    assert 'role="img"' in svg


def test_error_bars_of_several_lines_lie_beside_each_other_and_in_the_picture() -> None:
    lines = [Line(f"run {n}", [0, 50, 100], [0.5] * 3, n, [(0.4, 0.6)] * 3) for n in range(8)]
    svg = str(draw(Chart("vqa", "accuracy", lines), "c"))
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert len(set(places)) == 24
    assert all(46 <= x <= WIDTH - 4 for x in places)
    clip = re.search(r'<clipPath[^>]*><rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    assert clip is not None
    left, width = float(clip[1]), float(clip[2])
    assert all(left <= x - 4 and x + 4 <= left + width for x in places)  # a whole circle has radius 4


def test_a_wide_mark_at_the_end_stays_in_the_picture() -> None:
    svg = str(draw(Chart("Loss", "nats", [Line("run", [1, 123_456_000], [1.0, 2.0])]), "c"))
    for x, said in re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">([^<]*)<', svg):
        assert float(x) + 3 * len(said) <= WIDTH


def test_nothing_is_drawn_of_nothing() -> None:
    assert str(draw(Chart("Loss", "nats", []), "c")) == ""
    assert str(draw(Chart("Loss", "nats", [Line("run", [1], [math.nan])]), "c")) == ""


def test_names_in_a_chart_are_text() -> None:
    line = Line("<script>alert(1)</script>", [1, 2], [1.0, 2.0], intervals=[(0.5, 1.5), (1.5, 2.5)])
    svg = str(draw(Chart("<b>&", "x", [line]), "c"))
    assert "<script" not in svg
    assert "<b>" not in svg
    ElementTree.fromstring(svg)
