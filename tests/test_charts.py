from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from refseg.charts import MOST_POINTS, Bar, Line, bar_chart, line_chart, round_ticks, smoothed, tick_text

RAMP = [(step, step / 100) for step in range(0, 1001, 100)]


def parsed(figure):
    """A chart as XML, which is stricter than a browser."""
    return ElementTree.fromstring(figure)


def texts(figure):
    return ["".join(found.itertext()) for found in parsed(figure).iter("text")]


def path_of(figure, kind="curve"):
    """The points of the first line of a kind, as (x, y) in units of the chart; the legend's are horizontal strokes."""
    found = [e.get("d") for e in parsed(figure).find("svg").iter("path") if e.get("class").startswith(kind)]
    return [[tuple(map(float, point.split())) for point in piece.split("L")] for piece in found[0].split("M")[1:]]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1000, [0, 200, 400, 600, 800, 1000]),
        (0.31, 1.66, [0.5, 1.0, 1.5]),
        (-0.02, 0.05, [-0.02, 0.0, 0.02, 0.04]),
        (8.4e-7, 9.7e-4, [2e-4, 4e-4, 6e-4, 8e-4]),
        (7, 7, [7]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert round_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "ticks", "text"),
    [(2500, [0, 2500], "2,500"), (0.0002, [0, 0.001], "0.0002"), (1e-5, [1e-5, 2e-5], "1e-5"), (0, [0, 1], "0"),
     (1.5, [1, 1.5], "1.5"), (30_000_000, [3e7], "3e7"), (0.30000000000000004, [0.3], "0.3")],
)  # fmt: skip
def test_ticks_are_short(value, ticks, text):
    assert tick_text(value, ticks) == text


def test_a_line_stands_where_its_numbers_are():
    figure = line_chart("Loss", "steps", "loss", [Line("run", RAMP)])
    [points] = path_of(figure)
    marks = {text: place for place, text in zip(places(figure, "x"), texts(figure), strict=True)}
    heights = {text: place for place, text in zip(places(figure, "y"), texts(figure), strict=True)}
    assert points[0][0] == pytest.approx(marks["0"], abs=60) and len(points) == len(RAMP)
    assert points[2][0] == pytest.approx(marks["200"], abs=0.2)
    assert points[4][1] == pytest.approx(heights["4"] - 4, abs=0.2)  # a text's foot is 4 below its line
    assert points[0][1] > points[-1][1]  # up is more
    assert {"steps", "loss", "0", "200", "2"} <= set(texts(figure))


def places(figure, side):
    return [float(found.get(side)) for found in parsed(figure).iter("text")]


def test_a_logarithmic_axis_has_decades_and_leaves_out_what_it_does_not_know():
    figure = line_chart("Norm", "steps", "norm", [Line("", [(0, 0.1), (1, 0.0), (2, 10.0), (3, math.inf)])], log=True)
    assert {"0.1", "1", "10", "norm, logarithmic"} <= set(texts(figure))
    one, two = path_of(figure)
    assert len(one) == len(two) == 1
    middle = [y for text, y in zip(texts(figure), places(figure, "y"), strict=True) if text == "1"]
    assert (one[0][1] + two[0][1]) / 2 == pytest.approx(middle[0] - 4, abs=0.2)  # 1 is halfway from 0.1 to 10


def test_lines_break_at_what_is_not_finite_and_peaks_are_kept():
    [one, two] = path_of(line_chart("x", "x", "y", [Line("a", [(0, 1), (1, 2), (2, math.nan), (3, 3), (4, 1)])]))
    assert len(one) == len(two) == 2
    many = [(i, 1000.0 if i == 31_234 else i % 7) for i in range(100_000)]
    [points] = path_of(line_chart("x", "x", "y", [Line("a", many)]))
    assert len(points) <= MOST_POINTS and min(y for _, y in points) < 40  # the peak reaches the top


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf]])
def test_nothing_to_draw_is_said(values):
    figure = line_chart("Loss", "steps", "loss", [Line("a", list(enumerate(values)))])
    assert "no numbers" in figure and "<svg" not in figure


@pytest.mark.parametrize("value", [0.0, 1e-300, -5.0, 1e300, 7e-5])
def test_a_single_point_is_seen(value):
    figure = line_chart("x", "steps", "y", [Line("a", [(50, value)])])
    [circle] = parsed(figure).iter("circle")
    assert 0 <= float(circle.get("cx")) <= 440 and 0 <= float(circle.get("cy")) <= 252 and len(texts(figure)) > 3


def test_lines_differ_by_colour_and_dashes_and_stand_in_the_legend():
    lines = [Line(f"run {i}", RAMP, i) for i in range(6)]
    figure = parsed(line_chart("x", "x", "y", lines))
    curves = [e for e in figure.find("svg").iter("path")]
    assert len({e.get("class") for e in curves}) == len({e.get("stroke-dasharray") for e in curves}) == 6
    legend = figure.find("ul")
    assert ["".join(item.itertext()) for item in legend] == [line.name for line in lines]
    assert [e.get("stroke-dasharray") for e in legend.iter("path")] == [e.get("stroke-dasharray") for e in curves]


def test_a_chart_is_told_in_words():
    figure = parsed(line_chart("Loss", "steps", "nats", [Line("dice", [(50, 2.0), (100, 0.5), (150, 1.0)])]))
    said = figure.find("svg").get("aria-label")
    assert figure.find("svg").get("role") == "img"
    for word in ("Loss: nats over steps", "dice: 2 at 50, 1 at 150", "lowest 0.5 at 100", "highest 2 at 50"):
        assert word in said


def test_bars_are_as_long_as_their_values_and_have_whiskers():
    bars = [Bar("small", 20.0, (10.0, 40.0), "(12)"), Bar("large", 40.0), Bar("a" * 60, 0.0)]
    figure = bar_chart("Kinds", "mIoU, percent", bars, ("all", 30.0))
    small, large, none = (float(e.get("width")) for e in parsed(figure).iter("rect"))
    assert large == pytest.approx(2 * small, abs=0.2) and none == 0
    [whisker] = [e for e in parsed(figure).find("svg").iter("path") if e.get("class") == "whisker"]
    low, high = re.match(r"M([\d.]+) [\d.]+H([\d.]+)", whisker.get("d")).groups()
    left = float(next(parsed(figure).iter("rect")).get("x"))
    assert (float(low) - left, float(high) - left) == pytest.approx((small / 2, 2 * small), abs=0.2)
    assert "20.0 (12)" in texts(figure) and "small: 20.0 (12), interval 10.0 to 40.0." in figure
    assert "all: 30.0" in figure and "95 % interval" in figure and "95 %" not in bar_chart("x", "y", bars[1:])
    assert "no numbers" in bar_chart("x", "y", [Bar("a", math.nan)])


def test_texts_are_escaped():
    evil = "<script>&\"'"
    for figure in (line_chart(evil, evil, evil, [Line(evil, RAMP, dots=True)], note=evil),
                   bar_chart(evil, evil, [Bar(evil, 1.0, None, evil)], (evil, 1.0), evil)):  # fmt: skip
        assert "<script" not in figure
        assert evil in "".join(parsed(figure).itertext())


def test_smoothing_is_a_mean_without_delay():
    points = list(enumerate([1.0, 2.0, 6.0, 4.0, math.nan, 8.0]))
    found = smoothed(points, 3)
    assert [x for x, _ in found] == [0, 1, 2, 3, 4, 5]
    assert [y for _, y in found] == pytest.approx([1.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    assert smoothed(points[:4], 1) == points[:4] and smoothed([], 5) == []
    ramp = smoothed(RAMP, 5)
    assert [y for _, y in ramp] == pytest.approx([y for _, y in RAMP])  # a straight line stays, also at its ends
