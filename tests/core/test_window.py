"""Metric windows: columns must answer exactly as plain lists of samples do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.labels import encode
from engine.core.window import STALE, STALE_BITS, MetricWindow, is_stale

LOOKBACK_MS = 50


def key(number: int) -> bytes:
    return encode({"__name__": "m", "i": str(number)})


def fill(window: MetricWindow, *samples: tuple[int, int, float]) -> None:
    series, times, values = zip(*samples, strict=True)
    window.append([key(s) for s in series], np.array(times), np.array(values, dtype=np.float64))


def instants(window: MetricWindow, at_ms: int) -> dict[str, float]:
    view = window.instant(at_ms, LOOKBACK_MS)
    return {view.series.labels[i]["i"]: float(view.values[i]) for i in np.flatnonzero(view.present).tolist()}


def ranges(window: MetricWindow, start_ms: int, end_ms: int) -> dict[str, list[tuple[int, float]]]:
    view = window.range(start_ms, end_ms)
    return {
        labels["i"]: [
            (int(view.times[row, column]), float(view.values[row, column]))
            for column in range(view.first[row], view.stop[row])
        ]
        for row, labels in enumerate(view.series.labels)
        if view.stop[row] > view.first[row]
    }


class Model:
    """The same window as lists: series -> time -> value."""

    def __init__(self) -> None:
        self.held: dict[int, dict[int, float]] = {}

    def append(self, batch: list[tuple[int, int, float]]) -> None:
        for series, t, value in batch:
            self.held.setdefault(series, {}).setdefault(t, value)

    def evict(self, before_ms: int) -> None:
        kept = {s: {t: v for t, v in held.items() if t >= before_ms} for s, held in self.held.items()}
        self.held = {s: held for s, held in kept.items() if held}

    def instants(self, at_ms: int) -> dict[str, float]:
        result = {}
        for series, held in self.held.items():
            times = [t for t in held if t <= at_ms]
            if times and max(times) > at_ms - LOOKBACK_MS and held[max(times)] is not STALE:
                result[str(series)] = held[max(times)]
        return result

    def ranges(self, start_ms: int, end_ms: int) -> dict[str, list[tuple[int, float]]]:
        result = {}
        for series, held in self.held.items():
            samples = sorted((t, v) for t, v in held.items() if start_ms < t <= end_ms and v is not STALE)
            if samples:
                result[str(series)] = samples
        return result


samples = st.tuples(
    st.integers(0, 6),
    st.integers(0, 200),
    st.one_of(st.integers(-5, 5).map(float), st.just(STALE)),
)
steps = st.lists(
    st.one_of(st.lists(samples, min_size=1, max_size=30), st.integers(0, 220)),
    max_size=12,
)


@settings(max_examples=300)
@given(steps, st.integers(0, 220), st.integers(0, 220))
def test_window_answers_as_lists_do_whatever_the_order_of_samples_and_evictions(
    plan: list[list[tuple[int, int, float]] | int], at_ms: int, start_ms: int
) -> None:
    window, model = MetricWindow(), Model()
    for step in plan:
        if isinstance(step, int):
            window.evict(step)
            model.evict(step)
        else:
            fill(window, *step)
            model.append(step)
        assert len(window) == sum(map(len, model.held.values()))
        assert len(window.series) == len(model.held)
        assert instants(window, at_ms) == model.instants(at_ms)
        assert ranges(window, start_ms, at_ms) == model.ranges(start_ms, at_ms)


@settings(max_examples=200)
@given(st.lists(samples.filter(lambda s: s[2] is not STALE), min_size=1, max_size=60), st.randoms())
def test_last_fall_is_known_however_samples_arrive(batch: list[tuple[int, int, float]], random: object) -> None:
    window, model = MetricWindow(), Model()
    for sample in batch:
        fill(window, sample)
    model.append(batch)
    view = window.range(-1, 1000)
    for row, labels in enumerate(view.series.labels):
        held = sorted(model.held[int(labels["i"])].items())
        falls = [t for (_, a), (t, b) in pairwise(held) if b < a]
        assert (int(view.drop_ms[row]) if view.drop_ms[row] >= 0 else None) == max(falls, default=None)


def test_the_first_of_two_samples_at_one_time_wins() -> None:
    window = MetricWindow()
    fill(window, (1, 10, 1.0), (1, 10, 2.0))
    fill(window, (1, 10, 3.0))
    assert ranges(window, 0, 10) == {"1": [(10, 1.0)]}


@pytest.mark.parametrize(
    ("at_ms", "seen"),
    # time    0    10   20   30 ... 60   69   70
    # sample       1.0       stale  2.0
    [(9, {}), (10, {"1": 1.0}), (29, {"1": 1.0}), (30, {}), (59, {}), (60, {"1": 2.0}), (109, {"1": 2.0}), (110, {})],
)
def test_instant_sees_the_newest_sample_within_the_lookback_unless_it_went_stale(
    at_ms: int, seen: dict[str, float]
) -> None:
    window = MetricWindow()
    fill(window, (1, 10, 1.0), (1, 30, STALE), (1, 60, 2.0))
    assert instants(window, at_ms) == seen


def test_range_is_open_on_the_left_and_closed_on_the_right() -> None:
    window = MetricWindow()
    fill(window, *[(1, t, float(t)) for t in (10, 20, 30, 40)])
    assert ranges(window, 10, 30) == {"1": [(20, 20.0), (30, 30.0)]}


def test_an_ordinary_nan_is_no_staleness_marker() -> None:
    values = np.array([np.nan, STALE, 1.0])
    assert is_stale(values).tolist() == [False, True, False]
    assert values.view(np.uint64)[1] == STALE_BITS


def test_memory_is_bounded_while_series_come_and_go() -> None:
    window = MetricWindow()
    for t in range(0, 20_000, 10):
        fill(window, *[(t * 10 + i, t, 1.0) for i in range(5)])
        window.evict(t - 100)
    assert len(window.series) == 55
    assert window._samples.times.size < 2_000


def test_columns_are_given_back_after_a_burst() -> None:
    window = MetricWindow()
    fill(window, *[(1, t, 1.0) for t in range(5_000)])
    window.evict(4_990)
    assert len(window) == 10
    assert window._samples.times.shape[1] < 100


#               samples of one series            at   labels         presence
PRESENCE = {
    "sampled lately": ([(0, 1.0), (10, 1.0)], 30, {"job": "a"}, "live"),
    "silent for three distances": ([(0, 1.0), (10, 1.0)], 40, {"job": "a"}, "vanished"),
    "stale": ([(0, 1.0), (10, 1.0), (15, STALE)], 16, {"job": "a"}, "vanished"),
    "back after it was stale": ([(0, 1.0), (15, STALE), (20, 1.0)], 21, {"job": "a"}, "live"),
    "the marker is still to come": ([(0, 1.0), (10, 1.0), (15, STALE)], 14, {"job": "a"}, "live"),
    "a label it does not have is no contradiction": ([(0, 1.0), (10, 1.0)], 30, {"other": "x"}, "live"),
    "never there": ([(0, 1.0), (10, 1.0)], 30, {"job": "b"}, "absent"),
    "before its first sample": ([(10, 1.0)], 5, {"job": "a"}, "vanished"),
}


@pytest.mark.parametrize(("samples", "at_s", "labels", "expected"), PRESENCE.values(), ids=PRESENCE.keys())
def test_presence_tells_data_that_ends_from_data_that_goes_on(samples, at_s, labels, expected) -> None:
    window = MetricWindow()
    key = encode({"__name__": "x", "job": "a"})
    for t_s, value in samples:
        window.append([key], np.array([t_s * 1000]), np.array([value]))
    assert window.presence(at_s * 1000, labels) == expected


def test_one_live_series_is_enough() -> None:
    window = MetricWindow()
    for t_s in (0, 10, 20, 30, 40, 50):
        window.append([encode({"job": "a", "i": "1"})], np.array([t_s * 1000]), np.array([1.0]))
    for t_s in (0, 10):
        window.append([encode({"job": "a", "i": "2"})], np.array([t_s * 1000]), np.array([1.0]))
    assert window.presence(50_000, {"job": "a"}) == "live"
    assert window.presence(50_000, {"job": "a", "i": "2"}) == "vanished"
