"""Remote write 2.0: a protobuf `io.prometheus.write.v2.Request`, whose labels are references into a table of symbols.

The table is made anew for every request, so references say nothing across requests. Therefore every symbol gets a
number that is good for the life of the process, and a series is known by the numbers of its labels:

    request     symbols  "" job api __name__ up            process    job 7, api 8, __name__ 3, up 4
                refs     3 4 1 2                           series     3 4 7 8  -> canonical label bytes

Nearly every series carries one sample, and what a sender writes then has one layout (times between 1971 and 2109):

    0a <n> refs | 12 10 09 <8 bytes float64> 10 <6 bytes varint> | 2a <m> metadata | 30 <6 bytes varint> created
    0a <n> refs | 12 07                      10 <6 bytes varint> | (value 0 is left out; the last two parts may be)

Series of that layout are decoded all at once with numpy; any other series takes the protobuf parser.

Specification: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors import Decoded, DecodeError
from connectors._wire import parse_protobuf, protobuf_messages
from engine.core import labels as label_sets
from engine.core.batching import Samples

MESSAGES = protobuf_messages(
    "io.prometheus.write.v2",
    {
        "Sample": [(1, "value", "double"), (2, "timestamp", "int64")],
        "TimeSeries": [
            (1, "labels_refs", "repeated uint32"),
            (2, "samples", "repeated Sample"),
            (3, "histograms", "repeated bytes"),
            (4, "exemplars", "repeated bytes"),
            (5, "metadata", "bytes"),
            (6, "created_timestamp", "int64"),
        ],
        "Request": [(4, "symbols", "repeated string"), (5, "timeseries", "repeated TimeSeries")],
        "SplitRequest": [(4, "symbols", "repeated bytes"), (5, "timeseries", "repeated bytes")],
    },
)
_SplitRequest = MESSAGES["SplitRequest"]
_TimeSeries = MESSAGES["TimeSeries"]

_CACHE_BYTES = 256 * 1024 * 1024
_ENTRY_OVERHEAD_BYTES = 250
_PADDING = bytes(2 * 0x80 + 64)  # so that looking for a part that is not there stays inside the buffer
_SIX = np.arange(6)

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class _Symbols:
    """Numbers of symbols, and the label sets that were made of them. Emptied when it grows over its limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.clear()

    def clear(self) -> None:
        """Forget everything; numbers given out before mean nothing afterwards."""
        self._used_bytes = 0
        self._numbers: dict[bytes, int] = {}
        self._texts: list[bytes] = []
        self._label_sets: dict[bytes, bytes] = {}

    def numbers(self, symbols: Iterable[bytes]) -> NDArray[np.uint32]:
        """The number of each symbol of a request. Only here is the table emptied: not in the middle of a request."""
        if self._used_bytes > self._limit_bytes:
            self.clear()
        get = self._numbers.get
        found = [number if (number := get(symbol)) is not None else self._add(symbol) for symbol in symbols]
        return np.asarray(found, np.uint32)

    def label_sets(self, numbers: NDArray[np.uint32], counts: Ints) -> list[bytes]:
        """Canonical bytes of label sets; `counts[i]` of the numbers, one after the other, are the `i`-th."""
        stops = (np.cumsum(counts) * numbers.itemsize).tolist()
        wire, get = numbers.tobytes(), self._label_sets.get
        return [
            get(key) or self._learn(key)
            for key in (wire[start:stop] for start, stop in zip([0, *stops], stops, strict=False))
        ]

    def _add(self, symbol: bytes) -> int:
        try:
            symbol.decode()  # also one that nothing refers to: as the protobuf parser does
        except UnicodeDecodeError as error:
            raise DecodeError("bad_utf8", f"a symbol is not UTF-8: {error}") from error
        self._used_bytes += len(symbol) + _ENTRY_OVERHEAD_BYTES
        self._texts.append(symbol)
        self._numbers[symbol] = len(self._texts) - 1
        return len(self._texts) - 1

    def _learn(self, key: bytes) -> bytes:
        texts = [self._texts[number].decode() for number in np.frombuffer(key, np.uint32).tolist()]
        names, values = texts[::2], texts[1::2]
        if len(names) != len(values) or len(set(names)) != len(names):
            raise DecodeError("invalid_labels", f"labels are pairs and no name stands twice, got {texts}")
        labels = dict(zip(names, values, strict=True))
        if "" in labels or not labels.get("__name__"):
            raise DecodeError("invalid_labels", f"a series needs a __name__ and no empty label name, got {labels}")
        raw = self._label_sets[key] = label_sets.encode(labels)
        self._used_bytes += len(key) + len(raw) + _ENTRY_OVERHEAD_BYTES
        return raw


_symbols = _Symbols(_CACHE_BYTES)


def decode_request(body: bytes) -> Decoded:
    """The samples of a request (already decompressed). Native histograms and exemplars are counted, not used."""
    request = parse_protobuf(_SplitRequest, body)
    numbers = _symbols.numbers(request.symbols)
    wires = list(request.timeseries)
    usual = _Usual.of(wires)
    known = _columns(usual, numbers)
    parsed, dropped = _parse([wires[i] for i in np.flatnonzero(~usual.exact).tolist()], numbers)
    return Decoded(Samples.concat([known, parsed]), dropped)


def forget() -> None:
    """Empty the table of symbols, as after a start."""
    _symbols.clear()


@dataclass(frozen=True)
class _Usual:
    """Where the parts are in series of the usual layout: `exact[i]` says whether series `i` has it.

    `buffer` holds all series one after the other. `refs_at` and `refs_size` are the place of the references,
    `value_at` that of the value where `has_value`, `time_at` that of the time.
    """

    buffer: Bytes
    refs_at: Ints
    refs_size: Ints
    value_at: Ints
    has_value: Mask
    time_at: Ints
    exact: Mask

    @staticmethod
    def of(wires: Sequence[bytes]) -> _Usual:
        """Look where the parts would be in every series, and whether they are there and nothing else."""
        size = np.fromiter(map(len, wires), np.int64, len(wires))
        end = np.cumsum(size)
        start = end - size
        buffer = np.frombuffer(b"".join(wires) + _PADDING, np.uint8)
        refs_size = buffer[start + 1].astype(np.int64)
        exact = (size > 2) & (buffer[start] == 0x0A) & (refs_size > 0) & (refs_size < 0x80)
        refs_at = start + 2
        sample_at = np.where(exact, refs_at + refs_size, start)
        exact &= buffer[sample_at - 1] < 0x80  # the last reference ends where the references do
        has_value = buffer[sample_at + 1] == 0x10
        has_only_time = buffer[sample_at + 1] == 0x07
        exact &= (buffer[sample_at] == 0x12) & (has_only_time | (has_value & (buffer[sample_at + 2] == 0x09)))
        time_at = sample_at + np.where(has_value, 12, 3)
        exact &= (buffer[time_at - 1] == 0x10) & _is_six_bytes(buffer, time_at)
        exact &= _is_rest(buffer, time_at + 6, end)
        return _Usual(buffer, refs_at, refs_size, sample_at + 3, has_value, time_at, exact)


def _is_six_bytes(buffer: Bytes, at: Ints) -> Mask:
    """Where a varint of exactly six bytes stands."""
    varint = buffer[at[:, None] + _SIX]
    found: Mask = (varint[:, :5] >= 0x80).all(axis=1) & (varint[:, 5] < 0x80)
    return found


def _is_rest(buffer: Bytes, at: Ints, end: Ints) -> Mask:
    """Where the series ends at `at`, or metadata, a created timestamp or both stand up to its end."""
    inside = at <= end
    at = np.where(inside, at, 0)
    has_metadata = (at + 1 < end) & (buffer[at] == 0x2A) & (buffer[at + 1] < 0x80)
    at = at + np.where(has_metadata, 2 + buffer[at + 1].astype(np.int64), 0)
    has_created = (at + 7 == end) & (buffer[at] == 0x30) & _is_six_bytes(buffer, at + 1)
    rest: Mask = inside & ((at == end) | has_created)
    return rest


def _columns(usual: _Usual, numbers: NDArray[np.uint32]) -> Samples:
    """The samples of the series with the usual layout."""
    exact, buffer = usual.exact, usual.buffer
    refs, counts = _references(buffer, usual.refs_at[exact], usual.refs_size[exact])
    series = _symbols.label_sets(_numbered(refs, numbers), counts)
    varint = buffer[usual.time_at[exact][:, None] + _SIX].astype(np.int64)
    t_ms = ((varint & 0x7F) << (7 * _SIX)).sum(axis=1)
    values = buffer[usual.value_at[exact][:, None] + np.arange(8)].view("<f8")[:, 0].astype(np.float64)
    return Samples(series, t_ms, np.where(usual.has_value[exact], values, 0.0))


def _references(buffer: Bytes, at: Ints, size: Ints) -> tuple[Ints, Ints]:
    """The references of all series one after the other, and how many each has."""
    if not len(at):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.cumsum(size) - size
    wire = buffer[np.repeat(at - starts, size) + np.arange(int(size.sum()))]
    is_last = wire < 0x80
    last = np.flatnonzero(is_last)
    first = np.concatenate([[0], last[:-1] + 1])
    width = last - first + 1
    if int(width.max()) > 5:
        raise DecodeError("bad_protobuf", "a label reference has more than 32 bits")
    refs = np.zeros(len(last), np.int64)
    for byte in range(int(width.max())):
        longer = width > byte
        refs[longer] |= (wire[first[longer] + byte].astype(np.int64) & 0x7F) << (7 * byte)
    return refs, np.add.reduceat(is_last.astype(np.int64), starts)


def _numbered(refs: Ints, numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    if len(refs) and int(refs.max()) >= len(numbers):
        detail = f"a series refers to symbol {int(refs.max())}, the request has {len(numbers)}"
        raise DecodeError("bad_reference", detail)
    return numbers[refs]


def _parse(wires: Sequence[bytes], numbers: NDArray[np.uint32]) -> tuple[Samples, dict[str, int]]:
    """The protobuf parser, for series of any layout."""
    dropped: Counter[str] = Counter()
    found: list[bytes] = []
    t_ms: list[int] = []
    values: list[float] = []
    for wire in wires:
        series: Any = parse_protobuf(_TimeSeries, wire)
        refs = np.asarray(series.labels_refs, np.int64)
        (labels,) = _symbols.label_sets(_numbered(refs, numbers), np.asarray([len(refs)]))
        found += [labels] * len(series.samples)
        t_ms += [sample.timestamp for sample in series.samples]
        values += [sample.value for sample in series.samples]
        dropped["exemplar"] += len(series.exemplars)
        dropped["native_histogram"] += len(series.histograms)
    samples = Samples(found, np.asarray(t_ms, np.int64), np.asarray(values, np.float64))
    return samples, {reason: number for reason, number in dropped.items() if number}
