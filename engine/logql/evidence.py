"""The last raw lines behind each series, bounded: what a person wants to see beside an alert.

Lines first wait in one queue, where all are kept, because a rule is evaluated for a time that lies a little behind the
newest line. What falls out of the queue (4 MiB) goes to its series, which keeps its last 20 lines, so that a noisy
series does not push out the lines of a quiet one. The series together keep 4 MiB; the least recently used give way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from engine.core.labels import Labels
from engine.core.messages import EvidenceLine
from engine.logql.pipeline import decode_series

LINES_PER_SERIES = 20
QUEUE_BYTES = 4 * 2**20
KEPT_BYTES = 4 * 2**20
LONGEST_LINE = 4096
_OVERHEAD_BYTES = 100


class _Chunk(NamedTuple):
    """Lines that were added together, in columns."""

    series: Sequence[bytes]
    t_ns: Sequence[int]
    lines: Sequence[str]
    stream: Labels
    size: int


_Kept = tuple[int, str, Labels]


class EvidenceStore:
    """The lines of one window. Lines longer than 4096 characters are kept cut, with a mark."""

    def __init__(self, queue_bytes: int = QUEUE_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
        self._queue: deque[_Chunk] = deque()
        self._queue_bytes = 0
        self._queue_limit = queue_bytes
        self._kept: OrderedDict[bytes, deque[_Kept]] = OrderedDict()
        self._kept_bytes = 0
        self._kept_limit = kept_bytes

    def add(self, series: Sequence[bytes], t_ns: Sequence[int], lines: Sequence[str], stream: Labels) -> None:
        """Keep the lines of one stream; `series[i]` is what `lines[i]` counted for."""
        if not lines:
            return
        if max(map(len, lines)) > LONGEST_LINE:
            lines = [_cut(line) for line in lines]
        chunk = _Chunk(series, t_ns, lines, stream, sum(map(len, lines)) + len(lines) * _OVERHEAD_BYTES)
        self._queue.append(chunk)
        self._queue_bytes += chunk.size
        while self._queue_bytes > self._queue_limit:
            oldest = self._queue.popleft()
            self._queue_bytes -= oldest.size
            self._keep(oldest)

    def evict(self, before_ns: int) -> None:
        """Forget what is older (a chunk when all of it is)."""
        while self._queue and max(self._queue[0].t_ns) < before_ns:
            self._queue_bytes -= self._queue.popleft().size
        for key in [key for key, lines in self._kept.items() if lines[-1][0] < before_ns]:
            self._kept_bytes -= sum(map(_size, self._kept.pop(key)))

    def find(self, start_ns: int, end_ns: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """The most recent lines in `(start_ns, end_ns]` whose series agree with `labels` on common names."""
        agreed: dict[bytes, bool] = {}

        def agrees(key: bytes) -> bool:
            known = agreed.get(key)
            if known is None:
                own = decode_series(key)
                known = agreed[key] = all(own[name] == value for name, value in labels.items() if name in own)
            return known

        found: list[_Kept] = []
        for chunk in self._queue:
            for key, t_ns, line in zip(chunk.series, chunk.t_ns, chunk.lines, strict=True):
                if start_ns < t_ns <= end_ns and agrees(key):
                    found.append((t_ns, line, chunk.stream))
        for key, lines in self._kept.items():
            if agrees(key):
                found += [kept for kept in lines if start_ns < kept[0] <= end_ns]
        found.sort(key=lambda kept: kept[:2])
        return [EvidenceLine(*kept) for kept in found[-limit:]] if limit > 0 else []

    def _keep(self, chunk: _Chunk) -> None:
        kept, size = self._kept, chunk.size
        for key, t_ns, line in zip(chunk.series, chunk.t_ns, chunk.lines, strict=True):
            lines = kept.get(key)
            if lines is None:
                lines = kept[key] = deque()
            elif len(lines) == LINES_PER_SERIES:
                size -= len(lines.popleft()[1]) + _OVERHEAD_BYTES
            lines.append((t_ns, line, chunk.stream))
        for key in set(chunk.series):
            kept.move_to_end(key)
        self._kept_bytes += size
        while self._kept_bytes > self._kept_limit:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= sum(map(_size, oldest))


def _size(kept: _Kept) -> int:
    return len(kept[1]) + _OVERHEAD_BYTES


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}... ({len(line)} characters)"
