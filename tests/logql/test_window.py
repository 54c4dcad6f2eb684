"""The window of lines: order, borders, forgetting, evidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.expression import LogWindow as Contract
from engine.logql.evidence import LINES_PER_SERIES, EvidenceStore
from engine.logql.window import LogWindow

MS = 1_000_000
A, B = b'{"user":"a"}', b'{"user":"b"}'
FAILED = b'{"__error_details__":"x","user":"f"}'


def window(*lines: tuple[bytes, int, str]) -> LogWindow:
    """A window with lines (series, nanoseconds, text), each appended alone."""
    result = LogWindow()
    for series, t_ns, text in lines:
        result.append_lines([series], np.array([t_ns]), np.ones(1), [text], {"job": "x"})
    return result


def held(own: LogWindow, start_ms: int, end_ms: int) -> list[tuple[str, int, float]]:
    """The rows of a slice."""
    found = own.slice(start_ms, end_ms)
    rows = zip(found.ids.tolist(), found.times.tolist(), found.values.tolist(), strict=True)
    return [(found.series.labels[number]["user"], t_ns, value) for number, t_ns, value in rows]


def test_it_is_what_the_core_asks_for() -> None:
    assert isinstance(LogWindow(), Contract)


def test_a_range_leaves_out_its_start_and_takes_its_end_to_the_nanosecond() -> None:
    #   ...|10ms.......20ms|...
    #       ^out  ^in    in^ ^out
    own = window((A, 10 * MS, "0"), (A, 10 * MS + 1, "1"), (A, 20 * MS, "2"), (A, 20 * MS + 1, "3"))
    assert [t_ns for _, t_ns, _ in held(own, 10, 20)] == [10 * MS + 1, 20 * MS]


LINES = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 60 * MS), st.floats(-5, 5)), max_size=30)


@given(
    batches=st.lists(LINES, max_size=8),
    borders=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    evict=st.integers(0, 40),
)
def test_it_holds_what_a_plain_list_would_hold(
    batches: list[list[tuple[bytes, int, float]]], borders: tuple[int, int], evict: int
) -> None:
    own = LogWindow()
    naive: list[tuple[str, int, float]] = []
    for batch in batches:
        series, times, values = [b[0] for b in batch], [b[1] for b in batch], [b[2] for b in batch]
        own.append_lines(series, np.array(times, np.int64), np.array(values), ["line"] * len(batch), {})
        naive += [("a" if s == A else "b", t, v) for s, t, v in batch]
    start, end = sorted(borders)
    in_range = sorted((row for row in naive if start * MS < row[1] <= end * MS), key=lambda row: row[1])
    assert held(own, start, end) == in_range
    assert len(own) == len(naive)
    own.evict(evict)
    assert len(own) == sum(t >= evict * MS for _, t, _ in naive)
    assert held(own, max(start, evict), max(end, evict)) == [
        row for row in sorted(naive, key=lambda row: row[1]) if max(start, evict) * MS < row[1] <= max(end, evict) * MS
    ]


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from([A, B, FAILED]), st.integers(-30, 30)), max_size=6),
        st.integers(0, 15),
        st.booleans(),
        st.sampled_from([10, 25]),
    ),
    max_size=12,
)


@settings(max_examples=200)
@given(steps=STEPS, value=st.sampled_from([1.0, 3.0, -2.0, 0.5]))
def test_totals_of_a_moving_range_are_what_summing_its_lines_gives(
    steps: list[tuple[list[tuple[bytes, int]], int, bool, int]], value: float
) -> None:
    own = LogWindow()
    own.append([A], np.array([0]), np.array([value]))
    naive = [(A, 0)]
    now_ms = 50
    for lines, moved_ms, evict, range_ms in steps:
        now_ms += moved_ms
        series, times = [line[0] for line in lines], [max(0, now_ms + line[1]) for line in lines]
        own.append(series, np.array(times, np.int64), np.full(len(lines), value))
        naive += zip(series, times, strict=True)
        if evict:
            own.evict(now_ms - 30)
            naive = [line for line in naive if line[1] >= now_ms - 30]
        totals = own.totals(now_ms - range_ms, now_ms, (range_ms, 0))
        if value == 0.5:
            assert totals is None
            continue
        assert totals is not None
        found = {
            labels["user"]: total
            for labels, total, present in zip(totals.series.labels, totals.sums, totals.present, strict=True)
            if present
        }
        inside = [key for key, t_ms in naive if now_ms - range_ms < t_ms <= now_ms and key != FAILED]
        names = {A: "a", B: "b"}
        assert found == {names[key]: value * inside.count(key) for key in set(inside)}


def test_series_without_lines_are_forgotten_and_memory_is_given_back() -> None:
    own = LogWindow()
    for minute in range(20):
        series = [f'{{"user":"{minute}-{i}"}}'.encode() for i in range(1000)]
        own.append(series, np.full(1000, minute * 60_000), np.ones(1000))
        own.evict((minute - 1) * 60_000)
    assert len(own) == 2000
    assert len(own.series) <= 5000


def test_failed_lines_are_left_out_and_told() -> None:
    own = window((A, 5 * MS, "fine"), (b'{"__error__":"JSONParserErr","__error_details__":""}', 6 * MS, "broken"))
    assert held(own, 0, 10) == [("a", 5 * MS, 1.0)]
    assert own.failed(0, 10) == [({"__error__": "JSONParserErr", "__error_details__": ""}, 1)]
    assert own.failed(7, 10) == []


@pytest.mark.parametrize(
    ("labels", "limit", "lines"),
    [
        ({"user": "a"}, 2, ["a2", "a3"]),
        ({"user": "b"}, 5, ["b1"]),
        ({"user": "a", "severity": "x"}, 1, ["a3"]),
        ({}, 2, ["b1", "a3"]),
        ({"user": "c"}, 5, []),
        ({"user": "a"}, 0, []),
    ],
)
def test_evidence_is_the_last_lines_in_range_that_agree_with_the_alert(
    labels: dict[str, str], limit: int, lines: list[str]
) -> None:
    own = window((A, 1 * MS, "a1"), (A, 2 * MS, "a2"), (B, 3 * MS, "b1"), (A, 4 * MS, "a3"), (A, 9 * MS, "later"))
    assert [line.line for line in own.evidence(0, 5, labels, limit)] == lines


def add(store: EvidenceStore, series: int, t_ns: int, line: str) -> None:
    store.add(np.array([series]), np.array([t_ns], np.int64), [line], {})


def test_a_noisy_series_does_not_push_out_the_lines_of_a_quiet_one_and_memory_is_bounded() -> None:
    store = EvidenceStore(queue_bytes=10_000, kept_bytes=20_000)
    add(store, 1, 1, "quiet")
    for t_ns in range(2, 2000):
        add(store, 0, t_ns, "noise")
    noisy, quiet = np.array([True, False]), np.array([False, True])
    assert [line.line for line in store.find(0, 3000, quiet, 5)] == ["quiet"]
    assert len(store.find(0, 3000, noisy, 5000)) <= 2 * 10_000 // 100 + LINES_PER_SERIES
    assert store.find(0, 3000, noisy, 1)[0].t_ns == 1999


def test_many_quiet_series_together_keep_the_newest_lines_that_fit() -> None:
    store = EvidenceStore(queue_bytes=1_000, kept_bytes=5_000)
    for number in range(1000):
        add(store, number, number, "line")
    held = [line.t_ns for line in store.find(-1, 1000, np.ones(1000, np.bool_), 5000)]
    assert held == list(range(1000 - len(held), 1000))
    assert 5_000 <= len(held) * 104 <= 7_000


LOGGED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=60)


@given(logged=LOGGED, wanted=st.lists(st.booleans(), min_size=6, max_size=6), end=st.integers(0, 100))
def test_whatever_is_thinned_out_the_newest_lines_of_a_series_are_the_right_ones(
    logged: list[tuple[int, int]], wanted: list[bool], end: int
) -> None:
    store = EvidenceStore(queue_bytes=500, kept_bytes=2**20)
    for number, (series, t_ns) in enumerate(logged):
        add(store, series, t_ns, f"{number:03}")
    expected = sorted((t_ns, f"{i:03}") for i, (series, t_ns) in enumerate(logged) if wanted[series] and t_ns <= end)
    found = [(line.t_ns, line.line) for line in store.find(-1, end, np.array(wanted), 100)]
    newest = {row for row, (series, _) in enumerate(logged) if len([s for s, _ in logged if s == series]) <= 20}
    assert set(found) <= set(expected)
    assert {line for _, line in found} >= {line for _, line in expected if int(line) in newest}


def test_a_very_long_line_is_kept_cut() -> None:
    own = window((A, 1 * MS, "x" * 5_000_000))
    assert len(own.evidence(0, 5, {}, 1)[0].line) < 5000


@pytest.mark.parametrize("asked_every", [1, 7, 50])
def test_totals_stay_right_while_columns_are_repacked_and_series_numbered_anew(asked_every: int) -> None:
    own = LogWindow()
    for turn in range(200):
        series = [f'{{"user":"{(turn * 37 + i) % 500 + turn}"}}'.encode() for i in range(50)]
        own.append(series, np.full(50, turn * 1_000), np.ones(50))
        own.evict((turn - 30) * 1_000)
        if turn % asked_every == 0:
            totals = own.totals((turn - 20) * 1_000, turn * 1_000, (20_000, 0))
            found = own.slice((turn - 20) * 1_000, turn * 1_000)
            assert totals is not None
            assert totals.sums.tolist() == np.bincount(found.ids, minlength=len(found.series)).tolist()
