"""Charts as inline SVG, drawn here: axes with units, round ticks, a legend, and in words what they show.

Colours are those of `STYLE`, which a page holds once; they can be told apart by colour-blind people, and lines also by
their dashes. Nothing is loaded and nothing runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT = 440, 252  # units of a line chart's own; a page shows it as wide as there is room
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 28, 42
ROW, LETTER = 26, 8.0  # of a bar chart; the mean width of a letter
MOST_LETTERS = 24  # of a bar's name
MOST_POINTS, MOST_DOTS, MOST_SMOOTHED = 400, 60, 1000
SMALLEST = 1e-300  # that a logarithmic axis has
PALETTE = 6
DASHES = ("", "8 3", "2 3", "10 3 2 3", "5 5", "1 4")
STYLE = """
.chart { margin: 0; break-inside: avoid } .chart > figcaption { font-weight: 600; margin-bottom: .2rem }
.chart > p { margin: .2rem 0 0; font-size: .85em; color: var(--dim) }
.chart > svg { width: 100%; height: auto; display: block; font: 14px system-ui, sans-serif }
.chart text { fill: var(--ink) } .chart .unit { fill: var(--dim) } .chart .grid { stroke: var(--line) }
.chart .axis, .chart .whisker { stroke: var(--ink) } .chart .whisker { stroke-width: 1.5 }
.chart .all { stroke: var(--ink); stroke-dasharray: 4 3 }
.chart .raw { stroke-width: 1; opacity: .35 } .chart .curve { stroke-width: 2 }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .2rem 0 0; padding: 0;
  font-size: .9em } .legend svg { width: 28px; height: 10px; margin-right: .4rem }
""" + "".join(f".k{i} {{ stroke: var(--k{i}) }} .f{i} {{ fill: var(--k{i}) }}\n" for i in range(PALETTE))


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: In the legend; empty for a line that belongs to another one.
        points: x and y; a y that is not finite breaks the line.
        colour: Number of its colour and dashes.
        raw: Drawn thin and faint, as that from which a smoothed line was made.
        dots: Its points are seen, unless they are many.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    raw: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar of a chart.

    Attributes:
        name: Left of it.
        value: Its length.
        interval: From where to where the value may be, if known.
        note: Right of its value.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    note: str = ""


def line_chart(title: str, x: str, y: str, lines: Sequence[Line], log: bool = False, note: str = "") -> str:
    """Lines over a common x.

    Args:
        title: What is shown.
        x: Name of the x axis, with its unit.
        y: Name of the y axis, with its unit.
        lines: The lines; one without a finite point is left out.
        log: A logarithmic y axis, on which only what is above 0 is drawn.
        note: A sentence below the chart.

    Returns:
        A `figure`.
    """
    seen = [replace(line, points=_drawable(line.points, log)) for line in lines]
    seen = [line for line in seen if any(math.isfinite(value) for _, value in line.points)]
    if not seen:
        return _figure(title, "<p>There are no numbers of this yet.</p>", [], note)
    across = [place for line in seen for place, _ in line.points]
    values = [value for line in seen for _, value in line.points if math.isfinite(value)]
    start = 0 if 0 <= min(across) <= max(across) / 2 or min(across) == max(across) > 0 else min(across)
    xs = _Axis(start, max(across), LEFT, WIDTH - RIGHT)
    ys = _Axis(min(values), max(values), HEIGHT - BOTTOM, TOP, log, room=True)
    parts = []
    for value, text in ys.ticks():
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{ys(value):.1f}" x2="{WIDTH - RIGHT}" y2="{ys(value):.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{ys(value) + 4:.1f}" text-anchor="end">{text}</text>')  # fmt: skip
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>')
    for value, text in xs.ticks():
        anchor = "end" if xs(value) > WIDTH - RIGHT - 12 else "middle"
        parts.append(f'<line class="axis" x1="{xs(value):.1f}" y1="{bottom}" x2="{xs(value):.1f}" y2="{bottom + 4}"/>'
                     f'<text x="{xs(value):.1f}" y="{bottom + 18}" text-anchor="{anchor}">{text}</text>')  # fmt: skip
    scale = ", logarithmic" if log else ""
    parts.append(f'<text class="unit" x="2" y="12">{escape(y + scale)}</text>')
    parts.append(f'<text class="unit" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x)}</text>')
    parts += [_drawn(line, xs, ys) for line in sorted(seen, key=lambda line: not line.raw)]
    named = [line for line in seen if line.name]
    said = f"{title}: {y} over {x}. " + " ".join(_in_words(line) for line in named or seen[:1])
    legend = [(line.name, _stroke(line)) for line in named]
    return _figure(title, _svg(HEIGHT, parts, said), legend, note)


def bar_chart(
    title: str, unit: str, bars: Sequence[Bar], whole: tuple[str, float] | None = None, note: str = ""
) -> str:
    """Bars from 0 to the right, one below the other, with their intervals.

    Args:
        title: What is shown.
        unit: Name of the axis, with its unit.
        bars: The bars, of values from 0.
        whole: Name and value of a line through all bars.
        note: A sentence below the chart.

    Returns:
        A `figure`.
    """
    bars = [bar for bar in bars if math.isfinite(bar.value)]
    if not bars:
        return _figure(title, "<p>There are no numbers of this.</p>", [], note)
    right = max(len(_value_text(bar)) for bar in bars) * LETTER + 12
    left = min(MOST_LETTERS, max(len(bar.name) for bar in bars)) * LETTER + 12
    bottom = 8 + ROW * len(bars)
    reach = [bar.value for bar in bars] + [bar.interval[1] for bar in bars if bar.interval]
    xs = _Axis(0, max([*reach, *([whole[1]] if whole else [])]) or 1, left, WIDTH - right, room=True)
    parts = []
    for value, text in xs.ticks():
        parts.append(f'<line class="grid" x1="{xs(value):.1f}" y1="4" x2="{xs(value):.1f}" y2="{bottom}"/>'
                     f'<text x="{xs(value):.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>')  # fmt: skip
    for number, bar in enumerate(bars):
        parts.append(_bar(bar, 8 + ROW * number, left, xs))
    if whole:
        place = f"{xs(whole[1]):.1f}"
        parts.append(f'<line class="all" x1="{place}" y1="4" x2="{place}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{left:.1f}" y1="4" x2="{left:.1f}" y2="{bottom}"/>')
    parts.append(f'<text class="unit" x="{WIDTH - 4}" y="{bottom + 34}" text-anchor="end">{escape(unit)}</text>')
    said = f"{title}, {unit}. " + " ".join(_bar_in_words(bar) for bar in bars)
    keys = [(f"{whole[0]}: {whole[1]:.1f}", '<line class="all" x1="0" y1="5" x2="28" y2="5"/>')] if whole else []
    if any(bar.interval for bar in bars):
        keys.append(("95 % interval", '<path class="whisker" fill="none" d="M2 5H26M2 1V9M26 1V9"/>'))
    return _figure(title, _svg(bottom + 38, parts, said), keys, note)


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Every y as the mean of its `window` nearest neighbours (an odd number; fewer at both ends), without delay.

    What is not finite is left out of a mean, and stays where all of them are. Of very many points, neighbours are
    brought together first.
    """
    size = len(points) // MOST_SMOOTHED
    if size > 1:
        groups = [points[first : first + size] for first in range(0, len(points), size)]
        points = [(some[len(some) // 2][0], _mean([value for _, value in some])) for some in groups]
        window = max(1, window // size)
    half, found = window // 2, []
    for i, (place, _) in enumerate(points):
        reach = min(half, i, len(points) - 1 - i)
        found.append((place, _mean([value for _, value in points[i - reach : i + reach + 1]])))
    return found


def _mean(values: Sequence[float]) -> float:
    """Of those that are finite; nan of none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(value / len(finite) for value in finite) if finite else math.nan  # no sum that could be infinite


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from at or above `low` to at or below `high`, `about` so many."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next((power * m for m in (1, 2, 5) if span / (power * m) <= about), power * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick as short as it can be told from the others: 2,500 or 0.02 or 1e-5."""
    largest = max(abs(tick) for tick in ticks)
    if value == 0 or abs(value) < 1e-9 * largest:
        return "0"
    if largest >= 1e7 or largest < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f"{value:,.10f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:,.6g}"
    return text if abs(value) < 1e6 else f"{value:,.0f}"


class _Axis:
    """From values to places.

    Args:
        low: Smallest value.
        high: Largest value.
        start: Place of the smallest.
        end: Place of the largest.
        log: Logarithmic.
        room: Reach from a round number to a round number.
    """

    def __init__(
        self, low: float, high: float, start: float, end: float, log: bool = False, room: bool = False
    ) -> None:
        if not high > low:  # of a single value
            low, high = (
                (low / 2 or low, high * 2) if log else (low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1))
            )
        self.log, self.start, self.end = log, start, end
        if room and not log:
            ticks = round_ticks(low, high)
            step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        low, high = self._inner(self.low), self._inner(self.high)
        return self.start + (self._inner(value) - low) / (high - low) * (self.end - self.start)

    def _inner(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[tuple[float, str]]:
        found = round_ticks(self.low, self.high)
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) < 5 else (1,)
            marks = [m * 10.0**e for e in decades[:: max(1, len(decades) // 6)] for m in steps]
            fit = [mark for mark in marks if self.low * (1 - 1e-9) <= mark <= self.high * (1 + 1e-9)]
            found = fit if len(fit) > 1 else [tick for tick in found if tick > 0]
            return [(tick, tick_text(tick, [tick])) for tick in found]
        return [(tick, tick_text(tick, found)) for tick in found]


def _drawable(points: Sequence[tuple[float, float]], log: bool) -> list[tuple[float, float]]:
    """Points without those that a logarithm does not know, and as few as can be told apart."""
    least = SMALLEST if log else -math.inf
    kept = [(place, value if math.isfinite(value) and value >= least else math.nan) for place, value in points]
    if len(kept) <= MOST_POINTS:
        return kept
    size = math.ceil(2 * len(kept) / MOST_POINTS)
    found: list[tuple[float, float]] = []
    for first in range(0, len(kept), size):  # the lowest and the highest of each group, so that no peak is lost
        some = [point for point in kept[first : first + size] if math.isfinite(point[1])]
        found += sorted({min(some, key=_second), max(some, key=_second)}) if some else [kept[first]]
    return found


def _second(point: tuple[float, float]) -> float:
    return point[1]


def _pieces(points: Iterable[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Runs of points that are finite."""
    piece: list[tuple[float, float]] = []
    for point in points:
        if math.isfinite(point[1]):
            piece.append(point)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _drawn(line: Line, xs: _Axis, ys: _Axis) -> str:
    path, dots = "", ""
    few = line.dots and len(line.points) <= MOST_DOTS
    for piece in _pieces(line.points):
        path += "M" + "L".join(f"{xs(place):.1f} {ys(value):.1f}" for place, value in piece)
        if few or len(piece) == 1:
            dots += "".join(
                f'<circle class="f{line.colour % PALETTE}" cx="{xs(place):.1f}" cy="{ys(value):.1f}" r="3">'
                f"<title>{escape(line.name)} {place:,.6g}: {value:,.4g}</title></circle>"
                for place, value in piece
            )
    return _stroke(line, path) + dots


def _stroke(line: Line, path: str = "M0 5H28") -> str:
    dashes = DASHES[line.colour % len(DASHES)] if not line.raw else ""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    kind = "raw" if line.raw else "curve"
    return f'<path class="{kind} k{line.colour % PALETTE}" fill="none"{dashed} d="{path}"/>'


def _bar(bar: Bar, top: float, left: float, xs: _Axis) -> str:
    middle = top + ROW / 2 - 2
    name = bar.name if len(bar.name) <= MOST_LETTERS else bar.name[: MOST_LETTERS - 1] + "…"
    parts = [
        f'<text x="{left - 8:.1f}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}'
        f"<title>{escape(bar.name)}</title></text>",
        f'<rect class="f0" opacity=".75" x="{left:.1f}" y="{top + 1:.1f}" '
        f'width="{max(0.0, xs(bar.value) - left):.1f}" height="{ROW - 6}"/>',
    ]
    if bar.interval:
        low, high = (xs(value) for value in bar.interval)
        parts.append(f'<path class="whisker" fill="none" d="M{low:.1f} {middle:.1f}H{high:.1f}'
                     f'M{low:.1f} {middle - 5:.1f}v10M{high:.1f} {middle - 5:.1f}v10"/>')  # fmt: skip
    parts.append(f'<text x="{WIDTH - 4}" y="{middle + 4:.1f}" text-anchor="end">{escape(_value_text(bar))}</text>')
    return "".join(parts)


def _value_text(bar: Bar) -> str:
    return f"{bar.value:.1f} {bar.note}".strip()


def _bar_in_words(bar: Bar) -> str:
    interval = f", interval {bar.interval[0]:.1f} to {bar.interval[1]:.1f}" if bar.interval else ""
    return f"{bar.name}: {_value_text(bar)}{interval}."


def _in_words(line: Line) -> str:
    """What a line does, for whoever does not see it."""
    points = [point for point in line.points if math.isfinite(point[1])]
    (start, first), (end, last) = points[0], points[-1]
    name = f"{line.name}: " if line.name else ""
    if len(points) == 1:
        return f"{name}{first:.4g} at {start:,.6g}."
    low, high = min(points, key=_second), max(points, key=_second)
    return (
        f"{name}{first:.4g} at {start:,.6g}, {last:.4g} at {end:,.6g}, lowest {low[1]:.4g} at {low[0]:,.6g}, "
        f"highest {high[1]:.4g} at {high[0]:,.6g}."
    )


def _svg(height: float, parts: Sequence[str], said: str) -> str:
    inside = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(said)}">\n{inside}\n</svg>'


def _figure(title: str, shown: str, legend: Sequence[tuple[str, str]], note: str) -> str:
    keys = "".join(
        f'<li><svg viewBox="0 0 28 10" aria-hidden="true">{drawn}</svg>{escape(name)}</li>' for name, drawn in legend
    )
    listed = f'\n<ul class="legend">{keys}</ul>' if keys else ""
    said = f"\n<p>{escape(note)}</p>" if note else ""
    return f'<figure class="chart"><figcaption>{escape(title)}</figcaption>\n{shown}{listed}{said}\n</figure>'
