"""Prometheus remote write 1.0: a snappy block holding a protobuf `WriteRequest`.

Nearly every series in a request carries one sample and has been seen before. Such a series is never parsed. Its bytes
end with the sample, whose layout is fixed (times between 1971 and 2109 take six varint bytes):

    labels ...... | 12 10 | 09 <8 bytes float64> | 10 <6 bytes varint>     18 bytes
    labels ...... | 12 07 |                        10 <6 bytes varint>      9 bytes, value 0 is left out

So `timeseries` is declared as bytes; what stands before the sample is looked up in a cache of label sets; and the
values and times of the whole request are decoded by one numpy view. Bytes come into the cache only after the full
parser read them as labels and nothing else, which makes the shortcut exact. Anything else takes the full parser.

Specification: https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from google.protobuf.message import DecodeError as ProtobufError
from numpy.typing import NDArray

from connectors import Connector, Decoded, DecodeError
from connectors._wire import media_type, parse_protobuf, protobuf_messages, unsnappy
from engine.core import labels as label_sets
from engine.core.batching import Samples
from engine.core.sources import SourceTiming

_TIME_SERIES = [
    (1, "labels", "repeated Label"),
    (2, "samples", "repeated Sample"),
    (3, "exemplars", "repeated bytes"),
    (4, "histograms", "repeated bytes"),
]
MESSAGES = protobuf_messages(
    "prometheus",
    {
        "Label": [(1, "name", "string"), (2, "value", "string")],
        "Sample": [(1, "value", "double"), (2, "timestamp", "int64")],
        "TimeSeries": _TIME_SERIES,
        "WriteRequest": [(1, "timeseries", "repeated TimeSeries")],
        "SplitWriteRequest": [(1, "timeseries", "repeated bytes")],
    },
)
_SplitWriteRequest = MESSAGES["SplitWriteRequest"]
_TimeSeries = MESSAGES["TimeSeries"]

_TIME = [("tag", "u1"), ("low", "<u4"), ("high", "<u2")]
_VALUE_AND_TIME = np.dtype([("head", "<u2"), ("value_tag", "u1"), ("value", "<f8"), *_TIME])
_TIME_ONLY = np.dtype([("head", "<u2"), *_TIME])
_CACHE_BYTES = 256 * 1024 * 1024
_CACHE_ENTRY_OVERHEAD_BYTES = 250


class _LabelCache:
    """Wire bytes of a label set -> its canonical bytes. Emptied when it grows over its limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._known: dict[bytes, bytes] = {}
        self.get = self._known.get

    def put(self, wire: bytes, labels: bytes) -> None:
        self._used_bytes += len(wire) + len(labels) + _CACHE_ENTRY_OVERHEAD_BYTES
        if self._used_bytes > self._limit_bytes:
            self.clear()
        self._known[wire] = labels

    def clear(self) -> None:
        self._known.clear()
        self._used_bytes = 0


_cache = _LabelCache(_CACHE_BYTES)


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The samples of a remote-write request. Native histograms and exemplars are counted, not used."""
    del received_ms  # every sample has its own time
    _check_headers(headers)
    request = parse_protobuf(_SplitWriteRequest, unsnappy(body))
    known, rest = _shortcut(list(request.timeseries), _VALUE_AND_TIME)
    zeros, rest = _shortcut(rest, _TIME_ONLY)
    parsed, dropped = _parse(rest)
    return Decoded(Samples.concat([known, zeros, parsed]), dropped)


def forget() -> None:
    """Empty the cache of label sets, as after a start."""
    _cache.clear()


def _check_headers(headers: Mapping[str, str]) -> None:
    name, parameters = media_type(headers)
    proto = parameters.get("proto", "prometheus.WriteRequest")
    if name not in ("", "application/x-protobuf") or proto != "prometheus.WriteRequest":
        raise DecodeError(
            "unsupported_content_type",
            f"{headers.get('Content-Type')!r} is not supported; send remote write 1.0, that is application/x-protobuf "
            "(proto=prometheus.WriteRequest)",
            415,
        )
    if headers.get("Content-Encoding", "snappy").lower() != "snappy":
        raise DecodeError("unsupported_encoding", "remote write bodies are compressed with snappy", 415)


def _shortcut(series: list[bytes], layout: np.dtype[np.void]) -> tuple[Samples, list[bytes]]:
    """The samples of series that end as `layout` says behind known label bytes; and the other series."""
    get, size = _cache.get, layout.itemsize
    labels = [get(wire[:-size]) for wire in series]
    ends = b"".join([wire[-size:] for wire in series])
    if len(ends) != size * len(series):  # some are shorter than a sample: leave all to the full parser
        return Samples.concat([]), series
    tails = np.frombuffer(ends, layout)
    varint = tails["low"].astype(np.int64) | (tails["high"].astype(np.int64) << 32)
    exact = _matches(tails, varint)
    exact[[i for i, known in enumerate(labels) if known is None]] = False
    samples = Samples(cast("list[bytes]", labels), _varint_times(varint), _values(tails))
    if exact.all():
        return samples, []
    return samples.where(exact), [series[i] for i in np.flatnonzero(~exact).tolist()]


def _matches(tails: NDArray[np.void], varint: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tails are a sample and nothing else: right tags, and a varint of exactly six bytes."""
    exact: NDArray[np.bool_] = (tails["tag"] == 0x10) & ((varint & 0x808080808080) == 0x008080808080)
    if tails.dtype == _TIME_ONLY:
        exact &= tails["head"] == 0x0712
    else:
        exact &= (tails["head"] == 0x1012) & (tails["value_tag"] == 0x09)
    return exact


def _varint_times(varint: NDArray[np.int64]) -> NDArray[np.int64]:
    times = varint & 0x7F
    for byte in range(1, 6):
        times |= ((varint >> (8 * byte)) & 0x7F) << (7 * byte)
    return times


def _values(tails: NDArray[np.void]) -> NDArray[np.float64]:
    if tails.dtype == _TIME_ONLY:
        return np.zeros(len(tails))
    return tails["value"].astype(np.float64)


def _parse(series: list[bytes]) -> tuple[Samples, dict[str, int]]:
    """The full parser, which also teaches the cache."""
    dropped: Counter[str] = Counter()
    found: list[bytes] = []
    t_ms: list[int] = []
    values: list[float] = []
    for wire in series:
        parsed = parse_protobuf(_TimeSeries, wire)
        labels = _canonical(parsed)
        if len(parsed.samples) == 1 and not parsed.exemplars and not parsed.histograms:
            _learn(wire, parsed, labels)
        for sample in parsed.samples:
            found.append(labels)
            t_ms.append(sample.timestamp)
            values.append(sample.value)
        dropped["exemplar"] += len(parsed.exemplars)
        dropped["native_histogram"] += len(parsed.histograms)
    samples = Samples(found, np.asarray(t_ms, np.int64), np.asarray(values, np.float64))
    return samples, {reason: number for reason, number in dropped.items() if number}


def _canonical(series: Any) -> bytes:
    labels = {label.name: label.value for label in series.labels}
    if len(labels) != len(series.labels):
        raise DecodeError("invalid_labels", f"a label name stands twice in {labels}")
    if "" in labels or not labels.get("__name__"):
        raise DecodeError("invalid_labels", f"a series needs a __name__ and no empty label name, got {labels}")
    return label_sets.encode(labels)


def _learn(wire: bytes, series: Any, labels: bytes) -> None:
    for layout in (_VALUE_AND_TIME, _TIME_ONLY):
        prefix = wire[: -layout.itemsize]
        try:
            head = _TimeSeries.FromString(prefix)
        except ProtobufError:
            continue  # not a message on its own: the other layout, or none
        if not head.samples and head.labels == series.labels:
            _cache.put(prefix, labels)
            return


CONNECTOR = Connector(
    name="remote_write",
    kind="metrics",
    decode=decode,
    timing=SourceTiming(lateness_ms=6_000, idle_after_ms=60_000),
    path="/api/v1/write",
    content_types=("application/x-protobuf",),
)
