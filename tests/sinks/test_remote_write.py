"""Recorded series as remote write: what is packed is what our own receiver reads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from connectors.remote_write import decode
from engine.core import labels as label_sets
from engine.core.batching import Samples
from engine.core.messages import MetricBatch, pack
from engine.core.window import STALE, is_stale
from engine.sinks.remote_write import HEADERS, Newest, Packer, Sample, halves, portions, samples_of
from tests.core.builders import batch, label_bytes

X, Y = label_bytes("x"), label_bytes("y{job=a}")


def received(body: bytes) -> list[Sample]:
    events = decode(body, HEADERS, 0).events
    assert isinstance(events, Samples)
    return list(zip(map(bytes, events.series), events.t_ms.tolist(), events.values.tolist(), strict=True))


_names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
_labels = st.dictionaries(_names, st.text(min_size=1, max_size=5), max_size=4)
_series = _labels.map(lambda labels: label_sets.encode({**labels, "__name__": "m"}))
_times = st.integers(0, 2**42)
_samples = st.lists(st.tuples(_series, _times, st.floats(allow_nan=False)), max_size=20)


@given(_samples)
def test_any_samples_arrive_with_their_labels_times_and_values(samples: list[Sample]) -> None:
    assert sorted(received(Packer({}).body(samples))) == sorted(samples)


@given(_samples)
def test_a_series_stands_in_a_request_once_with_its_samples_in_order(samples: list[Sample]) -> None:
    got = received(Packer({}).body(samples))
    series = [key for key, _, _ in got]
    assert [key for i, key in enumerate(series) if i == 0 or series[i - 1] != key] == list(dict.fromkeys(series))
    for key in set(series):
        assert [one for one in got if one[0] == key] == [one for one in samples if one[0] == key]


def test_special_values_arrive_bit_by_bit() -> None:
    special = pack([STALE, math.nan, math.inf, -math.inf, -0.0])
    sent = MetricBatch("rules/g", 1, 1, 0, 0, [Raw(X)] * 5, [1, 2, 3, 4, 5], special)
    values = np.array([value for _, _, value in received(Packer({}).body(samples_of(sent)))])
    assert is_stale(values).tolist() == [True, False, False, False, False]
    assert math.isnan(values[1])
    assert values[2:4].tolist() == [math.inf, -math.inf]
    assert str(values[4]) == "-0.0"


def test_external_labels_are_added_where_a_series_has_none_and_labels_are_sorted() -> None:
    body = Packer({"cluster": "c1", "job": "external"}).body([(Y, 1, 2.0), (X, 1, 3.0)])
    assert received(body) == [
        (label_bytes("y{cluster=c1,job=a}"), 1, 2.0),
        (label_bytes("x{cluster=c1,job=external}"), 1, 3.0),
    ]


def test_a_batch_with_more_values_than_series_is_refused() -> None:
    broken = MetricBatch("rules/g", 1, 1, 0, 0, [Raw(X)], [1], pack([0.0, 1.0]))
    with pytest.raises(ValueError, match="zip"):
        samples_of(broken)


def test_what_was_read_before_is_not_fresh() -> None:
    """
    first read    1 2 3
    then          . 2 3 4 5      2 and 3 once more
    other series  1              of its own
    """
    newest = Newest()
    assert len(newest.fresh([(X, t_ms, 0.0) for t_ms in (3, 1, 2)])) == 3
    assert newest.fresh([(X, t_ms, 0.0) for t_ms in (2, 3, 4, 5)]) == [(X, 4, 0.0), (X, 5, 0.0)]
    assert newest.fresh([(Y, 1, 0.0)]) == [(Y, 1, 0.0)]


def test_of_two_samples_at_one_time_the_first_counts() -> None:
    assert Newest().fresh([(X, 1, 5.0), (X, 1, 6.0)]) == [(X, 1, 5.0)]


@given(st.lists(st.integers()), st.integers(1, 7))
def test_portions_and_halves_lose_nothing_and_keep_the_order(items: list[int], most: int) -> None:
    assert [one for part in portions(items, most) for one in part] == items  # type: ignore[arg-type,comparison-overlap]  # any items
    assert all(len(part) <= most for part in portions(items, most))  # type: ignore[arg-type]  # any items
    older, newer = halves(items)  # type: ignore[arg-type]  # any items
    assert [*older, *newer] == items
    assert 0 <= len(newer) - len(older) <= 1


def test_a_batch_becomes_its_samples() -> None:
    assert samples_of(batch("rules/g", 1, 9, [("x", 5, 1.5), ("y{job=a}", 6, 2.5)])) == [(X, 5, 1.5), (Y, 6, 2.5)]
