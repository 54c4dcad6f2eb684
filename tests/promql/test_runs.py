"""Long ranges: what digests of runs say is, to the bit, what a look at every sample says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import digests
from engine.core.labels import encode
from engine.core.window import STALE, MetricWindow
from engine.promql import ranges, runs

KERNELS = {
    name: getattr(ranges, name)
    for name in (
        "rate", "increase", "changes", "resets", "min_over_time", "max_over_time", "sum_over_time", "avg_over_time",
    )
}  # fmt: skip
KEYS = [encode({"__name__": "m", "i": str(number)}) for number in range(5)]

whole = st.integers(-9, 9).map(float)
odd = st.sampled_from([0.1, 0.7, 1e300, 2.0**53, float("nan"), float("inf"), STALE])
samples = st.tuples(st.sampled_from(KEYS), st.integers(0, 60), st.one_of(whole, whole, whole, odd))
steps = st.lists(
    st.one_of(
        st.lists(samples, min_size=1, max_size=60).map(lambda batch: ("append", batch)),
        st.integers(0, 30).map(lambda before: ("evict", before)),
        st.tuples(st.integers(-1, 60), st.integers(0, 70)).map(lambda bounds: ("look", bounds)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "RUN", 3)
    monkeypatch.setattr(runs, "_LONG", 1)


@settings(max_examples=150)
@given(steps=steps)
def test_digests_say_what_a_rescan_says_whatever_came_or_went_in_which_order(steps: list[tuple[str, object]]) -> None:
    window = MetricWindow()
    for kind, what in [*steps, ("look", (-1, 99)), ("look", (10, 40))]:
        if kind == "append":
            keys, times, values = zip(*what, strict=True)  # type: ignore[call-overload]  # it is a batch
            window.append(keys, np.array(times), np.array(values))
        elif kind == "evict":
            window.evict(what)  # type: ignore[arg-type]  # it is a time
        else:
            start_ms, end_ms = what  # type: ignore[misc]  # it is a pair
            compare(window, start_ms, end_ms)


def compare(window: MetricWindow, start_ms: int, end_ms: int) -> None:
    together = window.ranges(*np.array([[start_ms, 0], [end_ms, 50], [end_ms, 45]]))
    for data in (window.range(start_ms, end_ms), together):
        for name, kernel in KERNELS.items():
            by_digest, present = kernel(data)
            by_rescan, also_present = kernel(replace(data, digests=None))
            assert present.tolist() == also_present.tolist()
            np.testing.assert_array_equal(by_digest[present], by_rescan[present], err_msg=name)


def test_only_runs_that_are_new_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def each(_: np.ndarray, here: np.ndarray) -> np.ndarray:
        seen.append(here.size)
        return here.copy()

    digest = digests.Digest(each, np.add, 0.0)
    values, known, rows = np.arange(2 * 300.0).reshape(2, 300), digests.Digests(), np.arange(2)
    for stop in (240, 241, 242, 243):
        seen.clear()
        total = known.over(digest, values, rows, np.full(2, 1), np.full(2, stop))
        assert total.tolist() == values[:, 1:stop].sum(axis=1).tolist()
        assert sum(seen) <= (2 * 240 if stop == 240 else 0) + 2 * 3 * 3
