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
from engine.core.series import Rows

MAX_EVENTS = 20_000
MAX_BYTES = 850_000
MAX_LABEL_BYTES = 64 * 1024
MAX_LINE_BYTES = 256 * 1024
MAX_ENTRY_BYTES = MAX_BYTES - MAX_LABEL_BYTES - 1_000
_ENTRY_OVERHEAD_BYTES = 23  # two commas, and time with up to 20 digits
_VALUE_BYTES = 11  # eight in base64
_STREAM_OVERHEAD_BYTES = 32

_encode_entry = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in columns: `series[i]` (canonical label bytes) had `values[i]` at `t_ms[i]`.

    With `counts`, an entry of `series` may be a block of `counts[i]` label sets that were all sampled at `t_ms[i]`
    (`core.blocks`); `values` has one for each sample. A staleness marker is the value with Prometheus's own NaN bits
    (0x7ff0000000000002).
    """

    series: list[bytes]
    t_ms: Times
    values: Values
    counts: Rows | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ends(self) -> Rows:
        """Where in `values` each entry ends."""
        return np.arange(1, len(self.series) + 1) if self.counts is None else np.cumsum(self.counts)

    def part(self, start: int, stop: int) -> Samples:
        """The entries from `start` to `stop`."""
        first, last = (start, stop) if self.counts is None else (self.counts[:start].sum(), self.counts[:stop].sum())
        counts = None if self.counts is None else self.counts[start:stop]
        return Samples(self.series[start:stop], self.t_ms[start:stop], self.values[first:last], counts)

    def where(self, mask: NDArray[np.bool_]) -> Samples:
        """Those entries for which the mask is true."""
        chosen = np.flatnonzero(mask)
        series = [self.series[i] for i in chosen.tolist()]
        if self.counts is None:
            return Samples(series, self.t_ms[chosen], self.values[chosen])
        return Samples(series, self.t_ms[chosen], self.values[np.repeat(mask, self.counts)], self.counts[chosen])

    @staticmethod
    def concat(parts: Iterable[Samples]) -> Samples:
        """All samples of the parts, in order."""
        held = list(parts)
        if len(held) == 1:
            return held[0]
        counts = [np.ones(len(part.series), np.intp) if part.counts is None else part.counts for part in held]
        return Samples(
            [entry for part in held for entry in part.series],
            np.concatenate([part.t_ms for part in held]) if held else np.empty(0, np.int64),
            np.concatenate([part.values for part in held]) if held else np.empty(0, np.float64),
            np.concatenate(counts) if any(part.counts is not None for part in held) else None,
        )


Streams = list[LogStream]
Events = Samples | Streams


def count(events: Events) -> int:
    """How many samples or lines there are."""
    return len(events) if isinstance(events, Samples) else sum(len(stream.entries) for stream in events)


def label_sizes(samples: Samples) -> NDArray[np.int64]:
    """The bytes of each entry's labels."""
    return np.fromiter(map(len, samples.series), np.int64, len(samples.series))


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
    events = samples.ends
    ends = np.cumsum(sizes + _ENTRY_OVERHEAD_BYTES) + _VALUE_BYTES * events
    start, total = 0, len(samples.series)
    while start < total:
        sent_bytes, sent_events = (int(ends[start - 1]), int(events[start - 1])) if start else (0, 0)
        by_bytes = int(np.searchsorted(ends, sent_bytes + max_bytes, side="right"))
        by_events = int(np.searchsorted(events, sent_events + max_events, side="right"))
        stop = max(min(by_bytes, by_events), start + 1)
        yield samples.part(start, stop)
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
