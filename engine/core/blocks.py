"""Label sets that come together again and again, written once: the blocks in a `MetricBatch`.

Samples of one target arrive scrape after scrape in one order and with one time. A run of them is written as a *block*:
the labels that all have in common, then a column for each of the others ("" where a series has no such label):

    [{"job":"shop","le":"1"},{"__name__":["a_bucket","b_bucket"],"path":["/x",""]}]

That is a third of the bytes. More important, a block is the same bytes each time, so that whoever reads it looks up
one key for all its series and decodes nothing. Hence a block must not depend on how a request happened to be cut:
it ends behind a series whose hash says so (one in 32), or where the time changes. Runs that a request cut off in the
middle differ from scrape to scrape; a run becomes a block when it is seen for the second time, else its series stand
one by one.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.caches import RecentCache
from engine.core.expression import Times
from engine.core.labels import Labels
from engine.core.series import Rows

_LENGTH = 32
_FEWEST = 3
_SERIES_LIMIT, _BLOCK_LIMIT = 1_000_000, 100_000
_SEEN_ONCE, _NOT_WORTH_IT = b"", b"-"

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(tuple[Labels, dict[str, list[str]]]).decode


def is_block(element: bytes) -> bool:
    """Whether an element of `MetricBatch.series` is a block; else it is one label set."""
    return element[:1] == b"["


def unpack(block: bytes) -> list[Labels]:
    """The label sets of a block. Raises `ValueError` if it is none."""
    try:
        common, columns = _decode(block)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a block of series: {error}") from error
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError(f"a block needs columns of one length, has {[len(column) for column in columns.values()]}")
    names = list(columns)
    return [
        share({**common, **{name: value for name, value in zip(names, row, strict=True) if value}})
        for row in zip(*columns.values(), strict=True)
    ]


def share(labels: Labels) -> Labels:
    """The same labels, their strings shared with every other label set that has them: most occur thousands of times."""
    return {sys.intern(name): sys.intern(value) for name, value in labels.items()}


class Packer:
    """Writes the samples of one source in blocks; remembers the runs that it has seen."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._ends = bytearray()
        self._blocks: RecentCache[bytes, bytes] = RecentCache(_BLOCK_LIMIT)

    def pack(self, series: Sequence[bytes], t_ms: Times) -> tuple[list[Raw], list[int]]:
        """The elements of `MetricBatch.series` for such samples, and the time of each element."""
        if not len(series):
            return [], []
        numbers = self._number(series)
        last = np.frombuffer(self._ends, np.bool_)[numbers]
        last[:-1] |= t_ms[1:] != t_ms[:-1]
        last[-1] = True
        stops = np.flatnonzero(last) + 1
        elements: list[Raw] = []
        times: list[int] = []
        start = 0
        for stop, at_ms in zip(stops.tolist(), t_ms[stops - 1].tolist(), strict=True):
            block = self._block(numbers[start:stop], series[start:stop]) if stop - start >= _FEWEST else b""
            if block:
                elements.append(Raw(block))
                times.append(at_ms)
            else:
                elements += map(Raw, series[start:stop])
                times += [at_ms] * (stop - start)
            start = stop
        return elements, times

    def _number(self, series: Sequence[bytes]) -> Rows:
        found = list(map(self._numbers.get, series))
        if None in found:
            if len(self._numbers) + len(series) > _SERIES_LIMIT:
                self._numbers.clear()
                self._ends.clear()
                self._blocks.clear()
            found = [self._numbers.setdefault(key, len(self._numbers)) for key in series]
            fresh = list(self._numbers)[len(self._ends) :]
            self._ends += bytes(zlib.crc32(key) % _LENGTH == 0 for key in fresh)
        return np.array(found, dtype=np.intp)

    def _block(self, numbers: Rows, series: Sequence[bytes]) -> bytes:
        """The block of this run, empty if it is not to be one."""
        key = numbers.astype(np.int32).tobytes()
        known = self._blocks.get(key)
        if known is None:
            self._blocks.put(key, _SEEN_ONCE)
            return b""
        if known == _SEEN_ONCE:
            known = _written([label_sets.decode(one) for one in series])
            if len(known) >= sum(map(len, series)):  # labels that hardly any series has
                known = _NOT_WORTH_IT
            self._blocks.put(key, known)
        return b"" if known == _NOT_WORTH_IT else known


def _written(labels: Sequence[Labels]) -> bytes:
    first = labels[0]
    common = {n: v for n, v in first.items() if all(other.get(n) == v for other in labels)}
    varying = {name for one in labels for name in one} - common.keys()
    if not varying:
        return _NOT_WORTH_IT  # one series again and again
    return _encode([common, {name: [one.get(name, "") for one in labels] for name in varying}])
