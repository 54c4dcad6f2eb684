"""The input of a test in columns, cut by time.

What happens in a stretch of time is laid out when it is wanted, ordered by time, and some of what follows with it;
label sets are encoded once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.intake import Columns
from engine.core.messages import LogBatch, LogEntry, LogStream, MetricBatch, RuleInput
from engine.core.step import Shard, StepResult
from engine.ruletest.model import InputSeries, Test

METRICS, LOGS = "metrics", "logs"
_POINTS_AT_ONCE = 64


class Samples:
    """Input series, to be had stretch by stretch. Of one that stands there twice the last counts, as in promtool."""

    def __init__(self, series: Iterable[InputSeries], interval_ms: int) -> None:
        by_key = {label_sets.encode(one.labels): one.points for one in series}
        self._keys = tuple(by_key)
        self._points = list(by_key.values())
        self._interval_ms = interval_ms

    def between(self, first: int, stop: int) -> Columns:
        """The points numbered from `first` to before `stop` of every series, ordered by time."""
        parts = [(points.values[first:stop], points.present[first:stop]) for points in self._points]
        shape = (max((len(values) for values, _ in parts), default=0), len(parts))
        matrix, there = np.zeros(shape), np.zeros(shape, dtype=np.bool_)  # a row for each time
        for column, (values, present) in enumerate(parts):
            matrix[: len(values), column], there[: len(values), column] = values, present
        place, rows = np.nonzero(there)
        return Columns(self._keys, rows, (place + first) * self._interval_ms, matrix[there])


class Feed:
    """Hands the input of a test to a shard, each event once, as one source of metrics and one of logs."""

    def __init__(self, test: Test, shard: Shard) -> None:
        self._shard = shard
        self._samples = Samples(test.series, test.interval_ms)
        self._columns = self._samples.between(0, 0)
        self._interval_ms = test.interval_ms
        self._laid = 0
        self._streams = [(Raw(label_sets.encode(stream.labels)), stream.entries) for stream in test.streams]
        self._next = 0
        self._done_ms = -1
        self._seq = 0

    def begin(self) -> None:
        """Let time begin at 0, so that the first evaluation is at 0, as promtool's is."""
        self._step(self._samples.between(0, 0), 0)
        self._shard.step(RuleInput(0, LogBatch(LOGS, 0, 0, 0, 0)))

    def move(self, until_ms: int) -> list[StepResult]:
        """Hand over what happens up to and including a time. Both sources have then passed it."""
        return [self._step(self._metrics(until_ms), until_ms + 1), self.move_lines(until_ms)]

    def move_lines(self, until_ms: int) -> StepResult:
        """Hand over the lines up to and including a time."""
        streams = list(self._lines(until_ms))
        self._done_ms = until_ms
        self._seq += 1
        return self._shard.step(RuleInput(0, LogBatch(LOGS, 1, self._seq, until_ms + 1, 0, streams)))

    def _metrics(self, until_ms: int) -> Columns:
        """The samples up to a time that were not handed over yet."""
        first, stop = self._next, until_ms // self._interval_ms + 1
        self._next = stop
        if stop > self._laid:
            self._laid = max(stop, first + _POINTS_AT_ONCE)
            self._columns = self._samples.between(first, self._laid)
        columns = self._columns
        start, end = np.searchsorted(columns.t_ms, [first * self._interval_ms, until_ms + 1])
        part = slice(int(start), int(end))
        return Columns(columns.keys, columns.rows[part], columns.t_ms[part], columns.values[part])

    def _step(self, columns: Columns, watermark_ms: int) -> StepResult:
        self._seq += 1
        return self._shard.step(RuleInput(0, MetricBatch(METRICS, 1, self._seq, watermark_ms, 0)), columns)

    def _lines(self, until_ms: int) -> Iterator[LogStream]:
        for raw, entries in self._streams:
            start, stop = (bisect_right(entries, t_ms, key=_time_ms) for t_ms in (self._done_ms, until_ms))
            if start < stop:
                yield LogStream(raw, list(entries[start:stop]))


def _time_ms(entry: LogEntry) -> int:
    return entry.t_ns // 1_000_000
