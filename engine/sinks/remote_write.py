"""Recorded series packed as Prometheus remote write 1.0: which samples, in which requests, in which bytes.

Samples of a series are kept in the order of their times, since most receivers refuse an older one after a newer one.
A receiver refuses a request as a whole for one bad sample in it (400); `halves` is how the good ones are saved.

Specification: https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import cramjam

from connectors.remote_write import MESSAGES
from engine.core import labels as label_sets
from engine.core.messages import MetricBatch

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
CACHE_LIMIT = 200_000

Sample = tuple[bytes, int, float]
"""Canonical label bytes, time in milliseconds, value (a staleness marker is the NaN with its bits)."""


def samples_of(batch: MetricBatch) -> list[Sample]:
    """The samples of a batch of single series. Raises `ValueError` for one with blocks."""
    return list(zip(map(bytes, batch.series), batch.t_ms, batch.numbers.tolist(), strict=True))


class Newest:
    """The newest time of every series: what is not newer was read before, and would be refused as out of order."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self._newest_ms: dict[bytes, int] = {}
        self._limit = limit

    def fresh(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that are newer than all before them of their series, by time."""
        found = []
        for sample in sorted(samples, key=lambda one: one[1]):
            key, t_ms, _ = sample
            if t_ms > self._newest_ms.get(key, t_ms - 1):
                self._newest_ms[key] = t_ms
                found.append(sample)
        if len(self._newest_ms) > self._limit:
            self._newest_ms.clear()  # then a repetition is refused by the receiver, which costs a request
        return found


def portions(samples: Sequence[Sample], most: int) -> list[Sequence[Sample]]:
    """The same in pieces of `most` samples."""
    return [samples[first : first + most] for first in range(0, len(samples), most)]


def halves(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    """Two halves, the older one first: what is too old is mostly at the beginning."""
    middle = len(samples) // 2
    return [samples[:middle], samples[middle:]]


class Packer:
    """Makes requests. `external_labels` are added to every series that has no such label."""

    def __init__(self, external_labels: Mapping[str, str]) -> None:
        self._external = dict(external_labels)
        self._known: dict[bytes, bytes] = {}

    def body(self, samples: Sequence[Sample]) -> bytes:
        """A compressed `WriteRequest`, each series once with its samples in the given order."""
        by_series: dict[bytes, list[bytes]] = {}
        for key, t_ms, value in samples:
            by_series.setdefault(key, [self._labels(key)]).append(_sample(t_ms, value))
        request = MESSAGES["SplitWriteRequest"](timeseries=[b"".join(parts) for parts in by_series.values()])
        return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))

    def _labels(self, key: bytes) -> bytes:
        """A series' labels as a `TimeSeries` without samples; the bytes of its samples may follow."""
        wire = self._known.get(key)
        if wire is None:
            if len(self._known) >= CACHE_LIMIT:
                self._known.clear()
            labels = {**self._external, **label_sets.decode(key)}
            pairs = [MESSAGES["Label"](name=name, value=labels[name]) for name in sorted(labels)]
            wire = self._known[key] = MESSAGES["TimeSeries"](labels=pairs).SerializeToString()
        return wire


def _sample(t_ms: int, value: float) -> bytes:
    sample = MESSAGES["Sample"](value=value, timestamp=t_ms)
    wire: bytes = MESSAGES["TimeSeries"](samples=[sample]).SerializeToString()
    return wire
