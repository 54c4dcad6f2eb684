"""The input of a test in columns, cut by time.

Everything is laid out once per test, ordered by time; what happens in a stretch of time is then a slice of it, and
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


def columns_of(series: Iterable[InputSeries], interval_ms: int) -> Columns:
    """Input series by time. Of one that stands there twice the last counts, as in promtool."""
    by_key = {label_sets.encode(one.labels): one.points for one in series}
    places = [np.flatnonzero(points.present) for points in by_key.values()]
    if not places:
        return Columns((), np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0))
    rows = np.repeat(np.arange(len(places)), [len(place) for place in places])
    values = np.concatenate([points.values[place] for points, place in zip(by_key.values(), places, strict=True)])
    t_ms = np.concatenate(places) * interval_ms
    order = np.argsort(t_ms, kind="stable")
    return Columns(tuple(by_key), rows[order], t_ms[order], values[order])


class Feed:
    """Hands the input of a test to a shard, each event once, as one source of metrics and one of logs."""

    def __init__(self, test: Test, shard: Shard) -> None:
        self._shard = shard
        self._columns = columns_of(test.series, test.interval_ms)
        self._streams = [(Raw(label_sets.encode(stream.labels)), stream.entries) for stream in test.streams]
        self._done = 0
        self._done_ms = -1
        self._seq = 0

    def begin(self) -> None:
        """Let time begin at 0, so that the first evaluation is at 0, as promtool's is."""
        self._metrics(slice(0, 0), 0)
        self._shard.step(RuleInput(0, LogBatch(LOGS, 0, 0, 0, 0)))

    def move(self, until_ms: int) -> list[StepResult]:
        """Hand over what happens up to and including a time. Both sources have then passed it."""
        start, stop = self._done, int(np.searchsorted(self._columns.t_ms, until_ms, side="right"))
        self._done = stop
        return [self._metrics(slice(start, stop), until_ms + 1), self.move_lines(until_ms)]

    def move_lines(self, until_ms: int) -> StepResult:
        """Hand over the lines up to and including a time."""
        streams = list(self._lines(until_ms))
        self._done_ms = until_ms
        self._seq += 1
        return self._shard.step(RuleInput(0, LogBatch(LOGS, 1, self._seq, until_ms + 1, 0, streams)))

    def _metrics(self, part: slice, watermark_ms: int) -> StepResult:
        self._seq += 1
        whole = self._columns
        columns = Columns(whole.keys, whole.rows[part], whole.t_ms[part], whole.values[part])
        return self._shard.step(RuleInput(0, MetricBatch(METRICS, 1, self._seq, watermark_ms, 0)), columns)

    def _lines(self, until_ms: int) -> Iterator[LogStream]:
        for raw, entries in self._streams:
            start, stop = (bisect_right(entries, t_ms, key=_time_ms) for t_ms in (self._done_ms, until_ms))
            if start < stop:
                yield LogStream(raw, list(entries[start:stop]))


def _time_ms(entry: LogEntry) -> int:
    return entry.t_ns // 1_000_000
