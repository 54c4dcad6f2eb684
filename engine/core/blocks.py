"""Label sets that come together again and again, written once: the blocks in a `MetricBatch`.

Samples of one target arrive scrape after scrape in one order and with one time. A run of them is written as a *block*:
the labels that all have in common, then a column for each of the others ("" where a series has no such label, 0 where
it has the value of the series before it):

    [{"job":"shop"},{"__name__":["a_bucket",0,"b"],"le":["1","+Inf",""],"path":["/x",0,0]}]

That is a tenth of the bytes. More important, a block is the same bytes each time, so that whoever reads it looks up
one key for all its series and decodes nothing. Hence a block must not depend on how a request happened to be cut:
it ends behind a series whose checksum says so (one in 32), or where the time changes. Runs
that a request cut off in the middle differ from scrape to scrape; a run becomes a block when it is seen for the second
time, else its series stand one by one.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np

from engine.core import labels as label_sets
from engine.core.caches import RecentCache
from engine.core.expression import Times
from engine.core.labels import Labels
from engine.core.series import Rows

_LENGTH, _FEWEST, _MOST = 32, 3, 250
_LONGEST_BYTES = 2_000
_BLOCK_LIMIT = 50_000
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # an odd number without a pattern spreads a checksum over all bits
_EVERY = np.uint64(2**64 // _LENGTH)
_SEEN_ONCE, _NOT_WORTH_IT = b"", b"-"

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(tuple[Labels, dict[str, list[str | Literal[0]]]]).decode


BLOCK = ord("[")
"""The first byte of a block; that of a label set is another."""


def is_block(element: bytes) -> bool:
    """Whether an element of `MetricBatch.series` is a block; else it is one label set."""
    return element[0] == BLOCK


def unpack(block: bytes) -> list[Labels]:
    """The label sets of a block. Raises `ValueError` if it is none."""
    try:
        common, columns = _decode(block)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a block of series: {error}") from error
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError(f"a block needs columns of one length, has {[len(column) for column in columns.values()]}")
    filled = [_filled(column) for column in columns.values()]
    return [
        share({**common, **{name: value for name, value in zip(columns, row, strict=True) if value}})
        for row in zip(*filled, strict=True)
    ]


def _filled(column: Iterable[str | int]) -> Iterator[str]:
    value = ""
    for entry in column:
        value = entry if isinstance(entry, str) else value
        yield value


def share(labels: Labels) -> Labels:
    """The same labels, their strings shared with every other label set that has them: most occur thousands of times."""
    return {sys.intern(name): sys.intern(value) for name, value in labels.items()}


def ends_run(key: bytes) -> bool:
    """Whether a run ends behind the series that `key` names, whatever comes next: one in 32 does."""
    return zlib.adler32(key) * int(_SPREAD) % 2**64 < int(_EVERY)


class Runs:
    """Cuts series into runs, whatever requests they came in, and remembers the blocks of those seen before."""

    def __init__(self, limit: int = _BLOCK_LIMIT) -> None:
        self._blocks: RecentCache[bytes, bytes] = RecentCache(limit)

    @staticmethod
    def stops(keys: Sequence[bytes], t_ms: Times) -> list[int]:
        """Behind which series, named by `keys`, runs end; at least one."""
        checksums = np.fromiter(map(zlib.adler32, keys), np.uint64, len(keys))
        last = checksums * _SPREAD < _EVERY
        last[:-1] |= t_ms[1:] != t_ms[:-1]
        last[-1] = True
        stops: list[int] = (np.flatnonzero(last) + 1).tolist()
        return stops

    def block(self, keys: Sequence[bytes], label_bytes: Callable[[], Sequence[bytes] | None]) -> bytes | None:
        """The block of a run that `keys` name, one each series; empty if its series are to stand one by one.

        `label_bytes` gives the label sets, and is asked when the run comes for the second time; None: not known yet.
        Until then the answer is None, too: the series stand one by one this time.
        """
        if not _FEWEST <= len(keys) <= _MOST:
            return b""
        # The lengths, too: else two runs could be the same bytes cut differently. A digest that nobody can forge
        # stands for them, since the keys of all runs would take as much memory as the label sets themselves.
        lengths = np.fromiter(map(len, keys), np.int32, len(keys)).tobytes()
        key = hashlib.sha256(b"".join([*keys, lengths])).digest()
        known = self._blocks.get(key)
        if known is None:
            known = _SEEN_ONCE
            self._blocks.put(key, known)
        elif known == _SEEN_ONCE and (series := label_bytes()) is not None:
            known = _written([label_sets.decode(one) for one in series])
            if max(map(len, series)) > _LONGEST_BYTES or len(known) >= sum(map(len, series)):
                known = _NOT_WORTH_IT
            self._blocks.put(key, known)
        return b"" if known == _NOT_WORTH_IT else known or None

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()

    def pack(self, series: Sequence[bytes], t_ms: Times) -> tuple[list[bytes], Rows]:
        """Blocks and single label sets in place of label sets, and where in `series` each of them ends."""
        entries: list[bytes] = []
        ends: list[int] = []
        if not series:
            return entries, np.zeros(0, np.intp)
        start = 0
        for stop in self.stops(series, t_ms):
            own = series[start:stop]
            block = self.block(own, lambda own=own: own)  # type: ignore[misc]
            entries += [block] if block else own
            ends += [stop] if block else range(start + 1, stop + 1)
            start = stop
        return entries, np.array(ends, np.intp)


def _written(labels: Sequence[Labels]) -> bytes:
    first = labels[0]
    common = {n: v for n, v in first.items() if all(other.get(n) == v for other in labels)}
    varying = {name for one in labels for name in one} - common.keys()
    if not varying:
        return _NOT_WORTH_IT  # one series again and again
    return _encode([common, {name: _thinned([one.get(name, "") for one in labels]) for name in varying}])


def _thinned(column: list[str]) -> list[str | int]:
    return [column[0], *(0 if value == before else value for before, value in pairwise(column))]
