"""The last raw lines behind each series, bounded: what a person wants to see beside an alert.

The newest lines (2 MiB) are all kept, because a rule is evaluated for a time that lies a little behind the newest line.
Of older ones each series keeps its last 20, so that a noisy series does not push out the lines of a quiet one, and all
together the newest 4 MiB. That is seen to once every 2 MiB, for many lines at a time; adding lines costs next to
nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Times
from engine.core.labels import Labels
from engine.core.messages import EvidenceLine
from engine.core.series import Mask, Rows

LINES_PER_SERIES = 20
QUEUE_BYTES = 2 * 2**20
KEPT_BYTES = 4 * 2**20
LONGEST_LINE = 4096
_OVERHEAD_BYTES = 100


class _Chunk(NamedTuple):
    """Lines in columns; `series` are their series' numbers, `sizes` what they take in bytes, `size` the sum of that."""

    series: Rows
    t_ns: Times
    lines: Sequence[str]
    streams: Sequence[Labels]
    sizes: NDArray[np.int64]
    size: int


class EvidenceStore:
    """The lines of one window. Lines longer than 4096 characters are kept cut, with a mark."""

    def __init__(self, queue_bytes: int = QUEUE_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
        self._chunks: deque[_Chunk] = deque()  # the first one holds what was kept of older ones
        self._bytes = 0
        self._kept_bytes = 0
        self._queue_limit = queue_bytes
        self._kept_limit = kept_bytes

    def add(self, series: Rows, t_ns: Times, lines: Sequence[str], stream: Labels) -> None:
        """Keep the lines of one stream; `series[i]` is the number of the series that `lines[i]` counted for."""
        if not lines:
            return
        sizes = _sizes(lines)
        if sizes.max() > LONGEST_LINE + _OVERHEAD_BYTES:
            lines = [_cut(line) for line in lines]
            sizes = _sizes(lines)
        size = int(sizes.sum())
        self._chunks.append(_Chunk(series, t_ns, lines, [stream] * len(lines), sizes, size))
        self._bytes += size
        if self._bytes > self._kept_bytes + 2 * self._queue_limit:
            self._thin_out()

    def evict(self, before_ns: int) -> None:
        """Forget what is older: chunks of which all lines are, as far as they stand first."""
        while self._chunks and self._chunks[0].t_ns.max() < before_ns:
            self._bytes -= self._chunks.popleft().size
            self._kept_bytes = 0

    def renumber(self, alive: Rows) -> None:
        """Series got other numbers: what was `alive[i]` is `i` now; the lines of others are forgotten."""
        chunks, self._chunks = self._chunks, deque()
        for chunk in chunks:
            numbers = np.minimum(np.searchsorted(alive, chunk.series), len(alive) - 1)
            kept = alive[numbers] == chunk.series if len(alive) else np.zeros(len(chunk.series), np.bool_)
            if kept.any():
                self._chunks.append(_picked(chunk._replace(series=numbers), kept))
        self._bytes = sum(chunk.size for chunk in self._chunks)
        self._kept_bytes = min(self._kept_bytes, self._bytes)

    def find(self, start_ns: int, end_ns: int, wanted: Mask, limit: int) -> list[EvidenceLine]:
        """The most recent lines in `(start_ns, end_ns]` of series that are `wanted` (by number), oldest first."""
        found: list[tuple[int, str, Labels]] = []
        for chunk in self._chunks:
            rows = np.flatnonzero((chunk.t_ns > start_ns) & (chunk.t_ns <= end_ns) & wanted[chunk.series])
            found += [(int(chunk.t_ns[row]), chunk.lines[row], chunk.streams[row]) for row in rows.tolist()]
        found.sort(key=lambda line: line[:2])
        return [EvidenceLine(*line) for line in found[-limit:]] if limit > 0 else []

    def _thin_out(self) -> None:
        """Leave the newest chunks as they are, and of the others the last lines of each series."""
        newest: deque[_Chunk] = deque()
        size = 0
        while len(self._chunks) > 1 and size + self._chunks[-1].size <= self._queue_limit:
            newest.appendleft(self._chunks.pop())
            size += newest[0].size
        old = _joined(self._chunks)
        old = _picked(old, _last_of_each(old, LINES_PER_SERIES))
        if old.size > self._kept_limit:
            old = _picked(old, _newest(old, self._kept_limit))
        self._chunks = deque([old, *newest])
        self._kept_bytes = old.size
        self._bytes = old.size + size


def _last_of_each(chunk: _Chunk, count: int) -> Mask:
    """Which lines are among the last of their series."""
    order = np.lexsort((chunk.t_ns, chunk.series))
    series = chunk.series[order]
    ends = np.searchsorted(series, series, side="right")
    kept = np.empty(len(series), np.bool_)
    kept[order] = ends - np.arange(len(series)) <= count
    return kept


def _newest(chunk: _Chunk, limit_bytes: int) -> Mask:
    """Which lines are the newest that fit."""
    order = np.argsort(-chunk.t_ns, kind="stable")
    kept = np.empty(len(order), np.bool_)
    kept[order] = np.cumsum(chunk.sizes[order]) <= limit_bytes
    return kept


def _joined(chunks: Sequence[_Chunk] | deque[_Chunk]) -> _Chunk:
    return _Chunk(
        np.concatenate([chunk.series for chunk in chunks]),
        np.concatenate([chunk.t_ns for chunk in chunks]),
        [line for chunk in chunks for line in chunk.lines],
        [stream for chunk in chunks for stream in chunk.streams],
        np.concatenate([chunk.sizes for chunk in chunks]),
        sum(chunk.size for chunk in chunks),
    )


def _picked(chunk: _Chunk, kept: Mask) -> _Chunk:
    if kept.all():
        return chunk
    rows = np.flatnonzero(kept)
    lines = [chunk.lines[row] for row in rows.tolist()]
    streams = [chunk.streams[row] for row in rows.tolist()]
    sizes = chunk.sizes[rows]
    return _Chunk(chunk.series[rows], chunk.t_ns[rows], lines, streams, sizes, int(sizes.sum()))


def _sizes(lines: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(len, lines), np.int64, len(lines)) + _OVERHEAD_BYTES


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}... ({len(line)} characters)"
