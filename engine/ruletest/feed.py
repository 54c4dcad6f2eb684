"""The input of a test in columns, cut into batches by time.

Everything is laid out once per test, ordered by time; a batch is then a slice of it, and label sets are encoded once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.expression import Times, Values
from engine.core.messages import LogBatch, LogEntry, LogStream, MetricBatch
from engine.core.series import Rows
from engine.core.window import is_stale
from engine.ruletest.model import InputSeries, Test

Special = Literal["NaN", "+Inf", "-Inf", "stale"]

METRICS, LOGS = "metrics", "logs"


@dataclass(frozen=True)
class Samples:
    """Samples ordered by time: series `keys[rows[i]]` has `values[i]` at `t_ms[i]`."""

    keys: tuple[bytes, ...]
    rows: Rows
    t_ms: Times
    values: Values

    @classmethod
    def of(cls, series: Iterable[InputSeries], interval_ms: int) -> Samples:
        """The input series of a test. Of a series that stands there twice the last counts, as in promtool."""
        by_key = {label_sets.encode(one.labels): one.points for one in series}
        places = [np.flatnonzero(points.present) for points in by_key.values()]
        if not places:
            return cls((), np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0))
        rows = np.repeat(np.arange(len(places)), [len(place) for place in places])
        values = [points.values[place] for points, place in zip(by_key.values(), places, strict=True)]
        t_ms = np.concatenate(places) * interval_ms
        order = np.argsort(t_ms, kind="stable")
        return cls(tuple(by_key), rows[order], t_ms[order], np.concatenate(values)[order])

    def until(self, at_ms: int) -> int:
        """How many of the samples are not later than a time."""
        return int(np.searchsorted(self.t_ms, at_ms, side="right"))


class Feed:
    """Hands out the input of a test, each event once, as the batches of one source of metrics and one of logs."""

    def __init__(self, test: Test) -> None:
        self.samples = Samples.of(test.series, test.interval_ms)
        self._raws = [Raw(key) for key in self.samples.keys]
        self._streams = [(Raw(label_sets.encode(stream.labels)), stream.entries) for stream in test.streams]
        self._done = 0
        self._done_ms = -1
        self._seq = 0

    def batches(self, until_ms: int) -> tuple[MetricBatch, LogBatch]:
        """What happens up to and including a time. Afterwards both sources have passed it."""
        metrics, logs = self.heartbeats(until_ms)
        samples, start, stop = self.samples, self._done, self.samples.until(until_ms)
        batch = metric_batch(
            metrics,
            [self._raws[row] for row in samples.rows[start:stop].tolist()],
            samples.t_ms[start:stop],
            samples.values[start:stop],
        )
        streams = list(self._lines(until_ms))
        self._done, self._done_ms = stop, until_ms
        return batch, LogBatch(LOGS, 1, logs.seq, until_ms + 1, 0, streams)

    def _lines(self, until_ms: int) -> Iterator[LogStream]:
        for raw, entries in self._streams:
            start, stop = (bisect_right(entries, t, key=_time_ms) for t in (self._done_ms, until_ms))
            if start < stop:
                yield LogStream(raw, list(entries[start:stop]))

    def heartbeats(self, passed_ms: int) -> tuple[MetricBatch, LogBatch]:
        """Batches without events after which both sources have passed a time."""
        self._seq += 1
        empty = (1, self._seq, passed_ms + 1, 0)
        return MetricBatch(METRICS, *empty), LogBatch(LOGS, *empty)


def metric_batch(head: MetricBatch, series: list[Raw], t_ms: Times, values: Values) -> MetricBatch:
    """A batch with the number and watermark of another, and these samples."""
    special: dict[str, Special] = {}
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd):
        special = {str(row): _special(values[row : row + 1]) for row in odd.tolist()}
        values = np.where(np.isfinite(values), values, 0.0)
    return MetricBatch(
        head.source, head.epoch, head.seq, head.watermark_ms, 0, series, t_ms.tolist(), values.tolist(), special
    )


def _special(value: Values) -> Special:
    if is_stale(value)[0]:
        return "stale"
    if np.isnan(value[0]):
        return "NaN"
    return "+Inf" if value[0] > 0 else "-Inf"


def _time_ms(entry: LogEntry) -> int:
    return entry.t_ns // 1_000_000
