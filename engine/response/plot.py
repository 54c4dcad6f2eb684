"""A plot of a metric around an incident as SVG, drawn without a library: it has to stand alone in a report.

Colours come from the page's custom properties, so that the plot follows light and dark. Every text goes through an XML
writer: nothing that an event wrote can become markup.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from msgspec import Struct

from engine.response.series import STEP_MS, MetricSeries, Point

WIDTH, HEIGHT = 920, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 58, 30
_GAP = 3 * STEP_MS  # values farther apart are not joined
_POINTS_MAX = 800
_TINY = 1e-300
_TICKS_S = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


class Mark(Struct, frozen=True):
    """A moment to be marked. `kind` is its CSS class: fired, acted or resolved."""

    t_ms: int
    kind: str
    label: str


class Frame(Struct, frozen=True):
    """What part of time and value is shown."""

    from_ms: int
    to_ms: int
    low: float
    high: float

    def x(self, t_ms: float) -> float:
        """Where a time is."""
        return _LEFT + (t_ms - self.from_ms) / (self.to_ms - self.from_ms) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Where a value is."""
        return HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - _TOP - _BOTTOM)


def plot(series: MetricSeries, marks: Sequence[Mark], from_ms: int, to_ms: int) -> str:
    """The SVG element. Values outside of the time shown are left out; there may be none."""
    points = [p for p in series.points if from_ms <= p[0] <= to_ms and math.isfinite(p[1])]
    frame = _frame(points, series.threshold, from_ms, max(to_ms, from_ms + 60_000))
    svg = ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "class": "plot", "role": "img"})
    ET.SubElement(svg, "title").text = f"{series.query} around the incident"
    _axes(svg, frame)
    if series.threshold is not None:
        _threshold(svg, frame, f"{series.op} {series.threshold:g}", series.threshold)
    for run in _runs(_thinned(points)):
        path = " ".join(f"{frame.x(t):.1f},{frame.y(v):.1f}" for t, v in run)
        ET.SubElement(svg, "polyline", {"class": "value", "points": path})
    for number, mark in enumerate(sorted(marks, key=lambda one: one.t_ms)):
        if from_ms <= mark.t_ms <= to_ms:
            _mark(svg, frame, mark, number % 3)
    return ET.tostring(svg, encoding="unicode")


def _frame(points: Sequence[Point], threshold: float | None, from_ms: int, to_ms: int) -> Frame:
    values = [value for _, value in points] + ([threshold] if threshold is not None else [])
    low, high = min([0.0, *values]), max([0.0, *values])
    if high - low < _TINY:
        high = low + 1
    step = _nice((high - low) / 4)
    high += (high - low) / 50
    return Frame(from_ms, to_ms, math.floor(low / step) * step, math.ceil(high / step) * step)


def _nice(span: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no smaller."""
    power = 10 ** math.floor(math.log10(span))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span * 0.999))


def _axes(svg: ET.Element, frame: Frame) -> None:
    step = _nice((frame.high - frame.low) / 5)
    for number in range(round((frame.high - frame.low) / step) + 1):
        value = frame.low + number * step
        y = f"{frame.y(value):.1f}"
        ET.SubElement(svg, "line", {"class": "grid", "x1": str(_LEFT), "x2": str(WIDTH - _RIGHT), "y1": y, "y2": y})
        _text(svg, _LEFT - 8, frame.y(value) + 4, f"{value:.6g}", "tick end")
    wanted_s = (frame.to_ms - frame.from_ms) / 1000 / 8
    tick_ms = next((tick for tick in _TICKS_S if tick >= wanted_s), _TICKS_S[-1]) * 1000
    for t_ms in range(-(-frame.from_ms // tick_ms) * tick_ms, frame.to_ms + 1, tick_ms):
        _text(svg, frame.x(t_ms), HEIGHT - 10, f"{dt.datetime.fromtimestamp(t_ms / 1000, dt.UTC):%H:%M}", "tick middle")


def _threshold(svg: ET.Element, frame: Frame, label: str, value: float) -> None:
    y = f"{frame.y(value):.1f}"
    ET.SubElement(svg, "line", {"class": "threshold", "x1": str(_LEFT), "x2": str(WIDTH - _RIGHT), "y1": y, "y2": y})
    _text(svg, WIDTH - _RIGHT - 4, frame.y(value) - 5, label, "threshold-label end")


def _mark(svg: ET.Element, frame: Frame, mark: Mark, row: int) -> None:
    x = frame.x(mark.t_ms)
    place = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": str(_TOP - 8), "y2": str(HEIGHT - _BOTTOM)}
    ET.SubElement(svg, "line", {"class": f"mark {mark.kind}", **place})
    near_end = x > WIDTH - 150
    _text(svg, x + (-4 if near_end else 4), 12 + row * 15, mark.label, f"mark-label {mark.kind}{' end' * near_end}")


def _text(svg: ET.Element, x: float, y: float, text: str, kind: str) -> None:
    ET.SubElement(svg, "text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}"}).text = text


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most so many points, of each stretch its lowest and its highest, so that no peak is lost."""
    if len(points) <= _POINTS_MAX:
        return list(points)
    size = math.ceil(2 * len(points) / _POINTS_MAX)
    out: set[Point] = set()
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        out |= {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
    return sorted(out)


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Points that belong together: a gap in the data stays a gap. A lone point gets a length, to be seen."""
    allowed_ms = max(_GAP, 3 * (points[-1][0] - points[0][0]) // max(1, len(points) - 1)) if points else 0
    run: list[Point] = []
    for point in points:
        if run and point[0] - run[-1][0] > allowed_ms:
            yield run
            run = []
        run.append(point)
    if run:
        yield run if len(run) > 1 else [run[0], (run[0][0] + STEP_MS // 4, run[0][1])]
