"""What a scrape of a /metrics page adds to the stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from connectors import DecodeError
from connectors.scrape import Page, report
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


@pytest.mark.parametrize("page", ["a 1\n", "# EOF\nx", "# TYPE a wrong\n# EOF\n", "a{ 1\n# EOF\n"])
def test_malformed_openmetrics_fails_the_scrape(page: str):
    with pytest.raises(DecodeError, match="bad_page"):
        parse(page, OPENMETRICS)


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
    tracked: frozenset[bytes] = frozenset()
    seen = []
    for at_ms, text in [(AT_MS, "a 1\nb 1\nc 1 5\n"), (AT_MS + 1, "a 1\n"), (AT_MS + 2, None), (AT_MS + 3, "a 1\n")]:
        parsed = None if text is None else page.parse(text.encode(), TEXT, at_ms)
        result = report(TARGET, parsed, tracked, at_ms, 0.25)
        tracked = result.tracked
        bits = result.samples.values.view(np.uint64) == STALE_BITS
        found = rows(result.samples)
        seen.append({name: "stale" if stale else found[name][1] for name, stale in zip(found, bits, strict=True)})
    companions = {"scrape_duration_seconds": 0.25}
    assert seen == [
        {"a": 1, "b": 1, "c": 1, "up": 1, "scrape_samples_scraped": 3} | companions,
        {"a": 1, "b": "stale", "up": 1, "scrape_samples_scraped": 1} | companions,
        {"a": "stale", "up": 0, "scrape_samples_scraped": 0} | companions,
        {"a": 1, "up": 1, "scrape_samples_scraped": 1} | companions,
    ]
