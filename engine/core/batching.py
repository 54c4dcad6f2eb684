"""Decoded events, and how they are cut into batches that fit into a Kafka message.

A connector decodes a request into columns of samples (`Samples`) or into log streams. However large the request was,
what goes on a topic is at most `MAX_EVENTS` events and `MAX_BYTES` of JSON per message, below the one megabyte that
brokers take by default. Sizes are upper bounds of the JSON size, so a batch never turns out too large.

The next module in the flow is `core.sources`, which stamps the batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Times, Values
from engine.core.messages import LogEntry, LogStream

MAX_EVENTS = 5_000
MAX_BYTES = 850_000
MAX_LABEL_BYTES = 64 * 1024
MAX_LINE_BYTES = 256 * 1024
MAX_ENTRY_BYTES = MAX_BYTES - MAX_LABEL_BYTES - 1_000
_SAMPLE_OVERHEAD_BYTES = 72  # commas, 20 digits of time, 25 of value, and an entry in `special`
_STREAM_OVERHEAD_BYTES = 32

_encode_entry = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in columns: `series[i]` (canonical label bytes) had `values[i]` at `t_ms[i]`.

    A staleness marker is the value with Prometheus's own NaN bits (0x7ff0000000000002).
    """

    series: list[bytes]
    t_ms: Times
    values: Values

    def __len__(self) -> int:
        return len(self.series)

    def where(self, mask: NDArray[np.bool_]) -> Samples:
        """Those samples for which the mask is true."""
        chosen = np.flatnonzero(mask)
        series = self.series
        return Samples([series[i] for i in chosen.tolist()], self.t_ms[chosen], self.values[chosen])

    @staticmethod
    def concat(parts: Iterable[Samples]) -> Samples:
        """All samples of the parts, in order."""
        held = list(parts)
        if len(held) == 1:
            return held[0]
        return Samples(
            [key for part in held for key in part.series],
            np.concatenate([part.t_ms for part in held]) if held else np.empty(0, np.int64),
            np.concatenate([part.values for part in held]) if held else np.empty(0, np.float64),
        )


Streams = list[LogStream]
Events = Samples | Streams


def count(events: Events) -> int:
    """How many samples or lines there are."""
    return len(events) if isinstance(events, Samples) else sum(len(stream.entries) for stream in events)


def label_sizes(samples: Samples) -> NDArray[np.int64]:
    """The bytes of each sample's label set."""
    return np.fromiter(map(len, samples.series), np.int64, len(samples))


def entry_size(entry: LogEntry) -> int:
    """The bytes of a log entry as JSON (control characters take six bytes each there)."""
    return len(_encode_entry(entry)) + 1


def line_is_too_long(entry: LogEntry) -> bool:
    """Whether a line is over `MAX_LINE_BYTES` of UTF-8, or no message could hold it."""
    characters = len(entry.line)
    if characters * 6 <= MAX_LINE_BYTES and not entry.metadata:
        return False
    too_long = characters * 4 > MAX_LINE_BYTES and len(entry.line.encode()) > MAX_LINE_BYTES
    return too_long or entry_size(entry) > MAX_ENTRY_BYTES


def split_samples(
    samples: Samples, sizes: NDArray[np.int64], max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES
) -> Iterator[Samples]:
    """Consecutive pieces of the samples within both limits; `sizes` are their `label_sizes`."""
    ends = np.cumsum(sizes + _SAMPLE_OVERHEAD_BYTES)
    start, total = 0, len(samples)
    while start < total:
        budget = max_bytes + (int(ends[start - 1]) if start else 0)
        stop = min(int(np.searchsorted(ends, budget, side="right")), start + max_events)
        stop = max(stop, start + 1)
        yield Samples(samples.series[start:stop], samples.t_ms[start:stop], samples.values[start:stop])
        start = stop


def split_streams(streams: Streams, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> Iterator[Streams]:
    """Consecutive pieces of the streams within both limits; a stream may go on in the next piece."""
    piece: Streams = []
    room_events, room_bytes = max_events, max_bytes
    for stream in streams:
        head = len(stream.labels) + _STREAM_OVERHEAD_BYTES
        entries: list[LogEntry] = []
        room_bytes -= head
        for entry in stream.entries:
            size = entry_size(entry)
            if (piece or entries) and (room_events == 0 or size > room_bytes):
                if entries:
                    piece.append(LogStream(stream.labels, entries))
                yield piece
                piece, entries = [], []
                room_events, room_bytes = max_events, max_bytes - head
            entries.append(entry)
            room_events -= 1
            room_bytes -= size
        if entries:
            piece.append(LogStream(stream.labels, entries))
    if piece:
        yield piece
