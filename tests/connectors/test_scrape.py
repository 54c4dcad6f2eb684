"""What a scrape of a /metrics page adds to the stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from connectors import DecodeError
from connectors._relabel import Step
from connectors.scrape import Page, PageOptions, Seen, ending, report
from engine.core import labels
from engine.core.batching import Samples
from engine.core.window import STALE_BITS

TARGET = {"job": "bridge", "instance": "bridge:8080"}
TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
AT_MS = 1_700_000_000_000


def rows(samples: Samples) -> dict[str, tuple[int, float]]:
    """Series as `name{labels beyond the target's}` -> (time, value)."""
    out = {}
    for raw, t_ms, value in zip(samples.series, samples.t_ms.tolist(), samples.values.tolist(), strict=True):
        names = labels.decode(raw)
        name = names.pop("__name__")
        assert names.pop("job") == "bridge"
        assert names.pop("instance") == "bridge:8080"
        out[name + "".join(f",{key}={value_}" for key, value_ in names.items())] = (t_ms, value)
    return out


def parse(text: str, content_type: str = TEXT) -> dict[str, tuple[int, float]]:
    return rows(Page(TARGET).parse(text.encode(), content_type, AT_MS).samples)


@pytest.mark.parametrize(
    ("line", "series", "value"),
    [
        ("a 1", "a", (AT_MS, 1.0)),
        ("a{} 2.5", "a", (AT_MS, 2.5)),
        ("  a\t3  ", "a", (AT_MS, 3.0)),
        ('a{b="c"} -1e-3', "a,b=c", (AT_MS, -0.001)),
        ('a{b="c",}4', "a,b=c", (AT_MS, 4.0)),
        ('a{b="} 1 2"} 5', "a,b=} 1 2", (AT_MS, 5.0)),
        (r'a{b="q\"\\\n"} 6', 'a,b=q"\\\n', (AT_MS, 6.0)),
        ("a 7 1234", "a", (1234, 7.0)),
        ("a +Inf", "a", (AT_MS, math.inf)),
        ("a -Inf -5", "a", (-5, -math.inf)),
        ('a{b=""} 8', "a", (AT_MS, 8.0)),
        ('a{job="x",instance="y"} 9', "a,exported_instance=y,exported_job=x", (AT_MS, 9.0)),
        ('a{exported_job="w",job="x"} 1', "a,exported_exported_job=x,exported_job=w", (AT_MS, 1.0)),
    ],
)
def test_a_line_becomes_a_sample_with_the_targets_labels(line: str, series: str, value: tuple[int, float]):
    assert parse(f"# HELP a x\n# TYPE a gauge\n{line}\n") == {series: value}


def test_a_value_that_is_no_number_is_a_sample_too():
    ((_, value),) = parse("a NaN\n").values()
    assert math.isnan(value)


@pytest.mark.parametrize(
    "line",
    ["a", "a x", 'a{b="c"', 'a{b="c} 1', "1a 1", "a 1 2 3", "a 1 1.5", "a 1_0", "a 1 99999999999999999999", "{} 1"],
)
def test_a_malformed_line_fails_the_scrape_and_is_named(line: str):
    with pytest.raises(DecodeError, match="line 2 of the page"):
        parse(f"ok 1\n{line}\n")


def test_a_page_that_is_not_utf8_fails_the_scrape():
    with pytest.raises(DecodeError, match="bad_utf8"):
        Page(TARGET).parse(b"a{b='\xff'} 1", TEXT, AT_MS)


def test_openmetrics_is_read_with_times_in_seconds():
    page = '# TYPE a counter\na_total{b="c"} 4.0 1700000000.5 # {t="1"} 1.0\n# TYPE g gauge\ng{b="c"} 3.0\n# EOF\n'
    assert parse(page, OPENMETRICS) == {"a_total,b=c": (AT_MS + 500, 4.0), "g,b=c": (AT_MS, 3.0)}


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("a 1\n", "does not end with # EOF"),
        ("# EOF\nx", "does not end with # EOF"),
        ("# EOF\n\n", "does not end with # EOF"),
        ("a 1\n# EOF\na 1\n# EOF\n", "line 2 of the page"),
        ("# TYPE a wrong\n# EOF\n", "line 1 of the page"),
        ("# a comment\n# EOF\n", "line 1 of the page"),
        ("\n# EOF\n", "line 1 of the page"),
        ("a{ 1\n# EOF\n", "line 1 of the page"),
        ("a 1 2 3\n# EOF\n", "line 1 of the page"),
        ("a 1 # exemplar\n# EOF\n", "line 1 of the page"),
    ],
)
def test_malformed_openmetrics_fails_the_scrape(page: str, reason: str):
    with pytest.raises(DecodeError, match=reason):
        parse(page, OPENMETRICS)


@pytest.mark.parametrize(
    ("line", "series", "value"),
    [
        (
            "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds x\na_seconds_total 1",
            "a_seconds_total",
            (AT_MS, 1),
        ),
        ("a_created 1700000000.25", "a_created", (AT_MS, 1_700_000_000.25)),
        ("a 1 1700000000", "a", (AT_MS, 1)),
        ("a 1 1700000000.123", "a", (AT_MS + 123, 1)),
        ('a_bucket{le="1"} 7 # {trace_id="x y"} 0.5', "a_bucket,le=1", (AT_MS, 7)),
        ('a_bucket{le="1"} 7 1700000000.5 # {trace_id="} 9"} 0.5 1700000000.1', "a_bucket,le=1", (AT_MS + 500, 7)),
        ('a{b="} # {c=\\"d\\"} 3"} 4', 'a,b=} # {c="d"} 3', (AT_MS, 4)),
        ("a 1 # {} 5", "a", (AT_MS, 1)),
    ],
)
def test_what_openmetrics_adds_is_read(line: str, series: str, value: tuple[int, float]):
    for _ in range(2):
        assert parse(f"{line}\n# EOF\n", OPENMETRICS) == {series: value}


def test_what_prometheus_client_exposes_is_read_back_whole():
    registry = CollectorRegistry()
    Counter("c", "c", ["k"], registry=registry).labels('v"\\\n').inc(3)
    Gauge("g", "g", registry=registry).set(2.5)
    Histogram("h", "h", buckets=[1, 2], registry=registry).observe(1.5)
    found = parse(generate_latest(registry).decode())
    wanted = {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert {series: value for series, (_, value) in found.items()} == wanted


@given(
    st.lists(st.tuples(st.sampled_from(["a", 'b{x="1"}', 'b{x="}"}', "c{}"]), st.floats(allow_nan=False)), max_size=9)
)
def test_a_second_page_is_read_from_the_cache_as_the_first_was(lines: list[tuple[str, float]]):
    text = "".join(f"{series} {value!r}\n" for series, value in lines).encode()
    page = Page(TARGET)
    first, second = (page.parse(text, TEXT, AT_MS) for _ in range(2))
    assert first.samples.values.tolist() == second.samples.values.tolist() == [value for _, value in lines]
    assert list(map(bytes, first.samples.series)) == list(map(bytes, second.samples.series))
    assert first.tracked == second.tracked


#  scrape      1        2        3 fails     4
#  a           1        1        stale       1
#  b           1        stale    -           -
#  up          1        1        0           1
def test_series_that_disappear_and_targets_that_fail_leave_staleness_markers():
    page = Page(TARGET)
    before = Seen()
    seen = []
    for at_ms, text in [(AT_MS, "a 1\nb 1\nc 1 5\n"), (AT_MS + 1, "a 1\n"), (AT_MS + 2, None), (AT_MS + 3, "a 1\n")]:
        parsed = None if text is None else page.parse(text.encode(), TEXT, at_ms)
        result = report(TARGET, parsed, before, at_ms, 0.25)
        before = result.seen
        bits = result.samples.values.view(np.uint64) == STALE_BITS
        found = rows(result.samples)
        seen.append({name: "stale" if stale else found[name][1] for name, stale in zip(found, bits, strict=True)})
    assert seen == [
        {"a": 1, "b": 1, "c": 1} | companions(up=1, scraped=3, added=3),
        {"a": 1, "b": "stale"} | companions(up=1, scraped=1, added=0),
        {"a": "stale"} | companions(up=0, scraped=0, added=0),
        {"a": 1} | companions(up=1, scraped=1, added=0),
    ]


def companions(up: int, scraped: int, added: int, kept: int | None = None) -> dict[str, float]:
    return {
        "up": up,
        "scrape_duration_seconds": 0.25,
        "scrape_samples_scraped": scraped,
        "scrape_samples_post_metric_relabeling": scraped if kept is None else kept,
        "scrape_series_added": added,
    }


def test_a_target_that_is_given_up_ends_with_its_companions():
    page = Page(TARGET)
    first = report(TARGET, page.parse(b"a 1\nc 1 5\n", TEXT, AT_MS), Seen(), AT_MS, 0.25)
    last = ending(TARGET, first.seen, AT_MS + 9)
    assert set(rows(last)) == {"a", *companions(1, 1, 1)}
    assert set(last.values.view(np.uint64).tolist()) == {STALE_BITS}
    assert set(last.t_ms.tolist()) == {AT_MS + 9}


def test_honoured_labels_win_over_the_targets_and_an_empty_one_takes_it_away():
    page = Page({"job": "bridge", "instance": "bridge:8080"}, PageOptions(honor_labels=True))
    found = page.parse(b'a{job="x"} 1\nb{instance=""} 1\nc 1\n', TEXT, AT_MS)
    assert [labels.decode(raw) for raw in found.samples.series] == [
        {"__name__": "a", "job": "x", "instance": "bridge:8080"},
        {"__name__": "b", "job": "bridge"},
        {"__name__": "c", "job": "bridge", "instance": "bridge:8080"},
    ]


def test_times_that_are_not_honoured_are_the_scrapes_and_their_series_are_watched():
    found = Page(TARGET, PageOptions(honor_timestamps=False)).parse(b"a 1 5\n", TEXT, AT_MS)
    assert rows(found.samples) == {"a": (AT_MS, 1)}
    assert len(found.tracked) == 1


def test_relabelling_drops_and_renames_series_and_the_companions_count_both():
    drop, rename = Step("drop", ["__name__"], regex="b"), Step(target_label="x", replacement="y")
    page = Page(TARGET, PageOptions(metric_relabel=[drop, Step("labeldrop", regex="secret"), rename]))
    seen = Seen()
    for added in (1, 0):
        found = page.parse(b'a{secret="s"} 1\nb 1\n', TEXT, AT_MS)
        result = report(TARGET, found, seen, AT_MS, 0.25)
        seen = result.seen
        values = {name: value for name, (_, value) in rows(result.samples).items()}
        assert values == {"a,x=y": 1} | companions(up=1, scraped=2, added=added, kept=1)


def test_a_page_over_its_limit_fails_as_a_whole_counted_after_relabelling():
    options = PageOptions(sample_limit=1, metric_relabel=[Step("drop", ["__name__"], regex="b")])
    assert len(Page(TARGET, options).parse(b"a 1\nb 1\n", TEXT, AT_MS).samples) == 1
    with pytest.raises(DecodeError, match="sample_limit"):
        Page(TARGET, options).parse(b"a 1\nc 1\n", TEXT, AT_MS)
