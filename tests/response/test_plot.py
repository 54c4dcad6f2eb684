"""The plot and the page of a report: what is drawn where, and that nothing from an event becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.response.model import Evidence
from engine.response.plot import HEIGHT, WIDTH, Mark, plot
from engine.response.record import EvidenceRow
from engine.response.report import render
from engine.response.report_html import STYLE, render_html
from engine.response.series import AROUND_MS, STEP_MS, MetricSeries, fitting, merged
from tests.response.test_report import RECORD, ROWS, SEEN, START_MS, STATE, row

POINTS = [(START_MS + t * STEP_MS, 0.01 * t) for t in range(11)]
SERIES = MetricSeries("rate(x[5m])", POINTS, ">", 0.05)
FROM_MS, TO_MS = START_MS, START_MS + 10 * STEP_MS


def drawn(series: MetricSeries = SERIES, marks: list[Mark] | None = None) -> ET.Element:
    return ET.fromstring(plot(series, marks or [], FROM_MS, TO_MS))  # noqa: S314  # our own


def lines(svg: ET.Element) -> list[list[tuple[float, float]]]:
    found = [one.attrib["points"] for one in svg.iter("polyline")]
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())] for text in found]


def test_later_is_to_the_right_and_more_is_up_and_all_is_within_the_picture() -> None:
    [line] = lines(drawn())
    assert line == sorted(line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)


def test_the_threshold_lies_where_the_value_reaches_it() -> None:
    svg = drawn()
    [threshold] = [one for one in svg.iter("line") if one.attrib["class"] == "threshold"]
    assert float(threshold.attrib["y1"]) == pytest.approx(lines(svg)[0][5][1], abs=0.1)
    assert "> 0.05" in [one.text for one in svg.iter("text")]


def test_a_mark_stands_at_its_time_and_one_outside_is_left_out() -> None:
    svg = drawn(marks=[Mark(POINTS[5][0], "fired", "fired"), Mark(TO_MS + 1, "resolved", "resolved")])
    [mark] = [one for one in svg.iter("line") if one.attrib["class"].startswith("mark")]
    assert float(mark.attrib["x1"]) == pytest.approx(lines(svg)[0][5][0], abs=0.1)


def test_a_gap_in_the_data_stays_a_gap_and_a_lone_value_is_seen() -> None:
    points = [*POINTS[:3], POINTS[10]]
    close = [(START_MS + t * 1000, 1.0) for t in range(30)]
    assert [len(line) for line in lines(drawn(MetricSeries("x", [*close, POINTS[10]])))] == [30, 2]
    assert len(lines(drawn(MetricSeries("x", points)))) == 1, "as far apart as values are on the whole"


def test_without_values_or_threshold_there_are_still_axes() -> None:
    svg = drawn(MetricSeries("x", []))
    assert lines(svg) == []
    assert len(list(svg.iter("text"))) > 5


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64).filter(lambda v: abs(v) < 1e300), max_size=50),
    st.none() | st.floats(-1e300, 1e300),
)
def test_whatever_the_values_are_the_plot_is_well_formed_and_within_its_frame(
    values: list[float], threshold: float | None
) -> None:
    points = [(START_MS + i * STEP_MS, value) for i, value in enumerate(values)]
    svg = drawn(MetricSeries("x", points, ">", threshold))
    for line in lines(svg):
        assert all(-1 <= x <= WIDTH + 1 and -1 <= y <= HEIGHT + 1 for x, y in line)


def test_many_values_keep_their_peaks() -> None:
    points = [(START_MS + t * 10, 1.0) for t in range(14_000)]
    points[7_777] = (points[7_777][0], 99.0)
    found = lines(drawn(MetricSeries("x", points)))
    assert sum(len(line) for line in found) <= 1000
    highest = min(y for line in found for _, y in line)
    assert highest == min(y for line in lines(drawn(MetricSeries("x", [points[7_777], points[0]]))) for _, y in line)


# The page -------------------------------------------------------------------------------------------------------------

EVIL = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} & \"'"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


def test_nothing_an_event_wrote_becomes_markup_anywhere_on_the_page() -> None:
    seen = msgspec.structs.replace(SEEN, alertname=EVIL, labels={"service": EVIL}, annotations={"summary": EVIL})
    state = msgspec.structs.replace(STATE, cause=EVIL, alerts={"f": seen}, acknowledged_by=EVIL, acknowledged_ms=1)
    rows = [*ROWS, row(7, 1, EVIL, EVIL, EVIL), row(8, 2, "alert.firing", EVIL, value=EVIL, lines=[EVIL])]
    rows.append(row(9, 3, "step.decided", EVIL, because=EVIL, condition=EVIL))
    evidence = [
        EvidenceRow(1, EVIL, START_MS, {}, Evidence(True, START_MS, [{EVIL: EVIL}])),
        EvidenceRow(1, "http", START_MS, {}, Evidence(True, START_MS, status=500, body=EVIL)),
        EvidenceRow(1, "failed", START_MS, {}, Evidence(False, START_MS, error=EVIL)),
    ]
    series = MetricSeries(EVIL, POINTS, EVIL, 0.5, EVIL)
    record = msgspec.structs.replace(
        RECORD, state=state, title=EVIL, timeline=rows, evidence=evidence, series=series, commands=[]
    )
    page = render_html(record, TO_MS)
    plain = render_html(msgspec.structs.replace(RECORD, series=SERIES), TO_MS)
    assert {tag for tag, _ in tags(page).found} <= {tag for tag, _ in tags(plain).found} | {"pre", "li", "code"}
    assert not [name for _, attrs in tags(page).found for name, _ in attrs if name.startswith("on") or name == "src"]
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|>49<", page)
    assert "&lt;script&gt;" in page


def test_the_page_needs_nothing_from_outside() -> None:
    page = render_html(msgspec.structs.replace(RECORD, series=SERIES), TO_MS)
    assert page.count("<style>") == 1
    assert STYLE in page
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert "@import" not in page


def test_page_and_markdown_say_the_same() -> None:
    page, text = render_html(RECORD, TO_MS), render(RECORD)
    for said in ("mallory broke policies 11 times, of 12 in all", "Review the limits", "succeeded after 50ms", "1m15s"):
        assert said in page
        assert said in text
    assert "No values of the alert&#39;s metric are kept" in page


def test_the_plot_spans_a_quarter_of_an_hour_on_both_sides() -> None:
    ended_ms = STATE.resolved_ms or 0
    points = [(t, 1.0) for t in range(START_MS - 2 * AROUND_MS, ended_ms + 2 * AROUND_MS, STEP_MS)]
    page = render_html(msgspec.structs.replace(RECORD, series=MetricSeries("x", points)), ended_ms + 10 * AROUND_MS)
    [drawn_points] = re.findall(r'points="([^"]+)"', page)
    shown = [t for t, _ in points if START_MS - AROUND_MS <= t <= ended_ms + AROUND_MS]
    assert len(drawn_points.split()) == len(shown)
    for label in ("fired", "http.request", "resolved"):
        assert f">{label}</text>" in page


def test_the_impact_names_the_farthest_value_and_the_error_rate_that_was_measured() -> None:
    rate = EvidenceRow(1, "error_rate", START_MS, {}, Evidence(True, START_MS, [{"labels": {}, "value": 0.0734}]))
    record = msgspec.structs.replace(RECORD, series=SERIES, evidence=[rate])
    assert "- Farthest value: 0.1 at 00:02:30, threshold 0.05" in render(record)
    assert "- Error rate: 7.34% at 00:00:00" in render(record)
    below = msgspec.structs.replace(record, series=MetricSeries("up", [(START_MS, 1.0), (START_MS + 1, 0.0)], "<", 1.0))
    assert "- Farthest value: 0 at 00:00:00, threshold 1" in render(below)


def test_a_root_cause_is_named_with_the_evidence_that_its_condition_looks_at() -> None:
    decided = row(
        9, 3, "step.decided", "attack", because="mallory does most", condition="size(suspects.rows) > 0", then="block"
    )
    text = render(msgspec.structs.replace(RECORD, timeline=[*ROWS, decided]))
    assert "- mallory does most, shown by suspects (condition: size(suspects.rows) > 0)" in text


# The series -----------------------------------------------------------------------------------------------------------


def test_points_of_two_askings_are_each_there_once_and_the_later_word_counts() -> None:
    assert merged([(1, 1.0), (2, 2.0)], [(2, 9.0), (3, 3.0)]) == [(1, 1.0), (2, 9.0), (3, 3.0)]


@pytest.mark.parametrize(
    ("labels", "value"),
    [({"job": "a", "pod": "p"}, 2.0), ({"job": "a"}, 1.0), ({"job": "b"}, 3.0), ({"job": "c"}, None)],
)
def test_the_series_is_the_one_whose_labels_are_all_the_alerts(labels: dict[str, str], value: float | None) -> None:
    found = [
        ({"__name__": "x", "job": "a"}, [(1, 1.0)]),
        ({"job": "a", "pod": "p"}, [(1, 2.0)]),
        ({"job": "b"}, [(1, 3.0)]),
    ]
    assert fitting(found, {**labels, "alertname": "X"}) == ([(1, value)] if value is not None else [])
