"""Runs of known series, recognised in the bytes of a remote-write request without cutting it up.

A run that `core.blocks` has written as a block comes with the same bytes each scrape, but for its values and times.
So its *pattern* is kept: the bytes with nothing in those places. A request is a chain of such runs: the first series
of each says which pattern to expect, and that says where the next run begins. Then values and times of the whole chain
are read by two look-ups of numpy, their places are emptied in a copy of the request, and every run is compared
with its pattern, byte for byte. A run that differs anywhere is left to `remote_write`, which takes series one by one.

    0a b5 01 | labels | 12 10 | 09 <8 bytes float64> | 10 <6 bytes varint>     a series; the value may be left out

Runs end where `core.blocks` ends them, or blocks would depend on how requests are cut: a pattern whose last series does
not end a run by its checksum fits only where the time changes behind it. Where a request ends in the middle of a run,
the part is recognised by the same bytes, its series stand one by one, and so for the rest at the next one's beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from connectors._wire import parse_protobuf, protobuf_messages
from engine.core.batching import Samples
from engine.core.blocks import ends_run
from engine.core.caches import RecentCache
from engine.core.expression import Times
from engine.core.series import Rows

WITH_VALUE, WITHOUT_VALUE = 18, 9
"""Bytes of a sample, its own tag and length among them."""
_EMPTY_SAMPLE = {
    WITH_VALUE: b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6),
    WITHOUT_VALUE: b"\x12\x07\x10" + bytes(6),
}
_TIME_BYTES = 6
_VALUE_AT, _TIME_WORD_AT = 15, 8  # before the end of a series
_TIME_SHIFT, _NOT_TIME = np.uint64(16), np.uint64(0xFFFF)
_MORE, _MORE_BUT_LAST = np.int64(0x808080808080), np.int64(0x008080808080)
_SplitWriteRequest = protobuf_messages("prometheus", {"WriteRequest": [(1, "timeseries", "repeated bytes")]})[
    "WriteRequest"
]
_LONGEST_PATTERN_BYTES = 64 * 1024
_PATTERN_LIMIT = 50_000


@dataclass(slots=True)
class _Pattern:
    """A run: its bytes without values and times, where each series ends in them, and what it stands for.

    `key` are the first of these bytes, up to the first sample, and `next_key` those that came behind the run last.
    `valued` are the places of values in the bytes. `closed`: the last series ends the run, whatever comes behind it.
    `labels` are the label sets of its series; `entries`, the same or a block, and `counts` are as in `Samples`.
    """

    key: bytes
    empty: bytes
    ends: Rows
    valued: NDArray[np.bool_]
    closed: bool
    labels: list[bytes]
    entries: list[bytes]
    counts: Rows
    next_key: bytes = b""

    def part(self, first: int, stop: int) -> _Pattern:
        """Some series of the run, standing one by one."""
        begin, end = int(self.ends[first - 1]) if first else 0, int(self.ends[stop - 1])
        valued = self.valued[first:stop]
        key_size = int(self.ends[first]) - begin - (WITH_VALUE if valued[0] else WITHOUT_VALUE)
        empty = self.empty[begin:end]
        closed = self.closed and stop == len(self.ends)
        labels = self.labels[first:stop]
        ones = np.ones(len(labels), np.intp)
        return _Pattern(empty[:key_size], empty, self.ends[first:stop] - begin, valued, closed, labels, labels, ones)


@dataclass(frozen=True, slots=True)
class Found:
    """Runs that were recognised one behind the other: their samples, from byte `start` of the request to `stop`."""

    start: int
    stop: int
    samples: Samples


class Patterns:
    """The patterns of the runs seen so far."""

    def __init__(self, limit: int = _PATTERN_LIMIT) -> None:
        self._known: RecentCache[bytes, _Pattern] = RecentCache(limit)
        self._rests: RecentCache[bytes, _Pattern] = RecentCache(limit // 10)  # of runs that the end of a request cut

    def learn(self, wires: Sequence[bytes], sizes: Sequence[int], labels: list[bytes], block: bytes) -> None:
        """Keep the pattern of a run: the wire bytes of its series' labels, their samples' sizes, and the label sets.

        `block` is what the run stands as, empty if its series stand one by one.
        """
        parts: list[bytes] = []
        for wire, size in zip(wires, sizes, strict=True):
            parts += (b"\x0a", _varint(len(wire) + size), wire, _EMPTY_SAMPLE[size])
        empty = b"".join(parts)
        closed = ends_run(wires[-1])
        key = b"".join(parts[:3])
        if len(empty) > _LONGEST_PATTERN_BYTES or not (closed or self._known.get(key) is None):
            return  # what a request cut off must not take the place of the whole run
        entries = [block] if block else labels
        lengths = [sum(map(len, parts[i : i + 4])) for i in range(0, len(parts), 4)]
        counts = np.full(len(entries), len(wires) // len(entries), np.intp)
        valued = np.array(sizes, np.intp) == WITH_VALUE
        self._known.put(key, _Pattern(key, empty, np.cumsum(lengths), valued, closed, labels, entries, counts))

    def split(self, body: bytes) -> Iterator[Samples | list[bytes]]:
        """A request in order: the samples of known runs, and the messages of all series between them.

        Raises `DecodeError` if the body is no `WriteRequest`.
        """
        between: list[bytes] = []
        found: dict[int, Found] = {}
        at = lost = 0
        begins, time = True, b""  # whether a run begins here; the time of the series before
        while (series := series_at(body, at)) is not None:
            if begins or body[series[1] - _TIME_BYTES : series[1]] != time:
                if at >= lost:
                    found, lost = self._find(body, at)
                if (run := found.get(at)) is not None:
                    if between:
                        yield between
                    yield run.samples
                    between, begins, at = [], True, run.stop
                    continue
            wire, at = body[series[0] : series[1]], series[1]
            between.append(wire)
            if size := _sample_size(wire, len(wire)):  # others have no part in runs
                begins, time = ends_run(wire[:-size]), wire[-_TIME_BYTES:]
        if at < len(body):
            between += parse_protobuf(_SplitWriteRequest, body[at:]).timeseries
        if between:
            yield between

    def _find(self, body: bytes, start: int) -> tuple[dict[int, Found], int]:
        """The known runs in the chain of runs that begins at `start`, by place; and where that chain was lost."""
        chain: list[_Pattern] = []
        starts = [start]
        pattern = self._expected(body, start)
        while pattern is not None and (stop := starts[-1] + len(pattern.empty)) <= len(body):
            chain.append(pattern)
            starts.append(stop)
            pattern = self._behind(pattern, body, stop)
        if pattern is not None and (cut := self._cut(pattern, len(body) - starts[-1])) is not None:
            chain.append(cut)
            starts.append(len(body))
        return {run.start: run for run in _recognised(body, chain, starts)} if chain else {}, starts[-1]

    def _cut(self, pattern: _Pattern, size: int) -> _Pattern | None:
        """The part of a run in its first `size` bytes; None if they are no whole series."""
        count = int(np.searchsorted(pattern.ends, size)) + 1
        if count >= len(pattern.ends) or pattern.ends[count - 1] != size:
            return None
        rest = pattern.part(count, len(pattern.ends))
        self._rests.put(rest.key, rest)
        return pattern.part(0, count)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._rests.clear()

    def _behind(self, pattern: _Pattern, body: bytes, at: int) -> _Pattern | None:
        if pattern.next_key and body.startswith(pattern.next_key, at):
            return self._known.get(pattern.next_key)
        found = self._expected(body, at)
        if found is not None:
            pattern.next_key = found.key
        return found

    def _expected(self, body: bytes, at: int) -> _Pattern | None:
        found = series_at(body, at)
        if found is None:
            return None
        if not (size := _sample_size(body, found[1])):
            return None
        key = body[at : found[1] - size]
        return self._known.get(key) or (None if at else self._rests.get(key))


def _sample_size(body: bytes, stop: int) -> int:
    """The bytes of the sample that a series ending at `stop` ends with; 0 if it does not end as most do."""
    if stop >= WITH_VALUE and body[stop - 18 : stop - 15] == b"\x12\x10\x09" and body[stop - 7] == 0x10:
        return WITH_VALUE
    if stop >= WITHOUT_VALUE and body[stop - 9 : stop - 6] == b"\x12\x07\x10":
        return WITHOUT_VALUE
    return 0


def series_at(body: bytes, at: int) -> tuple[int, int] | None:
    """Where the message of the series begins and ends whose field begins at `at`; None if none is there in whole."""
    if body[at : at + 1] != b"\x0a":
        return None
    size, shift, at = 0, 0, at + 1
    while at < len(body) and shift < 32:
        byte = body[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (at, at + size) if at + size <= len(body) else None
        shift += 7
    return None


def varint_times(varints: NDArray[np.int64]) -> Times:
    """The numbers that six varint bytes each stand for, the first byte lowest."""
    times = varints & 0x7F
    for byte in range(1, 6):
        times |= ((varints >> (8 * byte)) & 0x7F) << (7 * byte)
    return times


@lru_cache(1_000)
def _time(varint: int) -> int:
    """The same of one; the times of a scrape's targets come again for all their runs."""
    return sum(((varint >> (8 * byte)) & 0x7F) << (7 * byte) for byte in range(6))


def are_six_bytes(varints: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the numbers are varints of just six bytes."""
    six: NDArray[np.bool_] = (varints & _MORE) == _MORE_BUT_LAST
    return six


def _recognised(body: bytes, chain: Sequence[_Pattern], starts: Sequence[int]) -> Iterator[Found]:
    """Those of the runs expected at `starts` (the last is where the chain ends) that are what was expected."""
    counts = np.array([len(pattern.ends) for pattern in chain], np.intp)
    firsts = np.cumsum(counts) - counts
    bounds = [*firsts.tolist(), int(counts.sum())]
    copy = bytearray(memoryview(body)[starts[0] : starts[-1]])
    origins = [start - starts[0] for start in starts]
    ends = np.concatenate([pattern.ends for pattern in chain]) + np.repeat(np.array(origins[:-1], np.intp), counts)
    varints, values = _emptied(copy, ends, np.concatenate([pattern.valued for pattern in chain]))
    run_varints = varints[firsts]
    one_time = np.logical_and.reduceat(varints == np.repeat(run_varints, counts), firsts)
    timed = (one_time & are_six_bytes(run_varints)).tolist()
    fits = [ok and copy.startswith(one.empty, at) for ok, one, at in zip(timed, chain, origins[:-1], strict=True)]
    changes = np.append(run_varints[1:] != run_varints[:-1], starts[-1] == len(body)).tolist()
    whole = _whole(chain, fits, changes)
    times = np.array(list(map(_time, run_varints.tolist())), np.int64)
    turns = [0, *(i for i in range(1, len(whole)) if whole[i] != whole[i - 1]), len(whole)]
    for first, stop in pairwise(turns):
        if whole[first]:
            samples = _samples(chain[first:stop], times[first:stop], values[bounds[first] : bounds[stop]])
            yield Found(starts[first], starts[stop], samples)


def _emptied(copy: bytearray, ends: Rows, valued: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Take times (as varint bytes) and values of the series that end at `ends` out of the bytes."""
    words = np.ndarray((len(copy) - 7,), "<u8", copy, 0, (1,))  # the eight bytes from every byte on
    time_at, value_at = ends - _TIME_WORD_AT, ends[valued] - _VALUE_AT
    time_words = words[time_at]
    values = np.zeros(len(ends))
    values[valued] = words[value_at].view(np.float64)
    words[time_at] = time_words & _NOT_TIME
    words[value_at] = 0
    return (time_words >> _TIME_SHIFT).view(np.int64), values


def _whole(chain: Sequence[_Pattern], fits: Sequence[bool], changes: Sequence[bool]) -> list[bool]:
    """Which runs fit and end where their pattern does; `changes`: whether the time changes behind each.

    Where that takes another time behind it, the run behind has to fit, or its time is not known.
    """
    goes_on = [not one.closed and not change for one, change in zip(chain, changes, strict=True)]
    sure = [one.closed or behind for one, behind in zip(chain, [*fits[1:], True], strict=True)]
    before = [False, *goes_on[:-1]]
    return [
        fit and ends and not on and not joined
        for fit, ends, on, joined in zip(fits, sure, goes_on, before, strict=True)
    ]


def _samples(chain: Sequence[_Pattern], times: Times, values: NDArray[np.float64]) -> Samples:
    entries = [entry for pattern in chain for entry in pattern.entries]
    counts = np.concatenate([pattern.counts for pattern in chain])
    return Samples(entries, np.repeat(times, [len(pattern.entries) for pattern in chain]), values, counts)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
