"""Prometheus remote write: a snappy block holding a protobuf `WriteRequest` (1.0) or `Request` (2.0).

The content type says which; 2.0 is in `_remote_write_v2`, the rest of this module is 1.0. Whole runs of series that
come again are recognised by `_remote_write_runs`; what is told here is how the series between those are read.

Nearly every series in a request carries one sample and has been seen before. Such a series is never parsed. Its bytes
end with the sample, whose layout is fixed (times between 1971 and 2109 take six varint bytes):

    labels ...... | 12 10 | 09 <8 bytes float64> | 10 <6 bytes varint>     18 bytes
    labels ...... | 12 07 |                        10 <6 bytes varint>      9 bytes, value 0 is left out

So `timeseries` is declared as bytes; values and times of the whole request are decoded by one numpy view; and what
stands before the samples is looked up: for runs of series that come again, all at once (`core.blocks`), else one by
one in a cache of label sets. Bytes come into the cache only after the full parser read them as labels and nothing
else, and a run only when all its series are there, which makes the shortcut exact. Anything else takes the full parser.

Specification: https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError as ProtobufError

from connectors import Answer, Connector, Decoded, DecodeError, Taken, _remote_write_v2
from connectors._remote_write_runs import WITH_VALUE, WITHOUT_VALUE, Patterns, are_six_bytes, varint_times
from connectors._wire import media_type, parse_protobuf, protobuf_messages, unsnappy
from engine.core import blocks
from engine.core import labels as label_sets
from engine.core.batching import Samples
from engine.core.expression import Times, Values
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
_TimeSeries = MESSAGES["TimeSeries"]

_END = np.dtype(
    {
        "names": ["head", "value_tag", "value", "zero_head", "time_tag", "low", "high"],
        "formats": ["<u2", "u1", "<f8", "<u2", "u1", "<u4", "<u2"],
        "offsets": [0, 2, 3, 9, 11, 12, 16],
        "itemsize": 18,
    }
)
"""The last bytes of a series: its sample; `zero_head` begins one without value."""
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
_runs = blocks.Runs()
_patterns = Patterns()


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The samples of a remote-write request. Native histograms and exemplars are counted, not used."""
    del received_ms  # every sample has its own time
    return _DECODERS[_message(headers)](unsnappy(body))


def _decode_request(body: bytes) -> Decoded:
    known: list[Samples] = []
    rest: list[bytes] = []
    for part in _patterns.split(body):
        if isinstance(part, Samples):
            known.append(part)
        else:
            samples, others = _shortcut(part)
            known.append(samples)
            rest += others
    parsed, dropped = _parse(rest)
    return Decoded(Samples.concat([*known, parsed] if len(parsed) else known), dropped)


def forget() -> None:
    """Empty the caches, as after a start."""
    _cache.clear()
    _runs.clear()
    _patterns.clear()
    _remote_write_v2.forget()


def answer(taken: Taken) -> Answer:
    """How many samples were written, as remote write 2.0 wants it told; 400 when some could not be.

    A 400 makes Prometheus log the reason and go on: sent again, they would be late again. Older senders ignore the
    headers.
    """
    headers = {
        f"X-Prometheus-Remote-Write-{what}-Written": str(number)
        for what, number in (("Samples", taken.accepted), ("Histograms", 0), ("Exemplars", 0))
    }
    if not taken.dropped:
        return Answer(204, "", headers)
    reasons = ", ".join(f"{reason}: {number}" for reason, number in sorted(taken.dropped.items()))
    kept_out = sum(taken.dropped.values())
    text = f"partial_write: {taken.accepted} samples were written, {kept_out} were not ({reasons})\n"
    return Answer(400, text, headers)


def _message(headers: Mapping[str, str]) -> str:
    """The protobuf message that the headers announce; raises `DecodeError` unless it is one that we read."""
    name, parameters = media_type(headers)
    proto = parameters.get("proto", "prometheus.WriteRequest")
    if name not in ("", "application/x-protobuf") or proto not in _DECODERS:
        supported = ", ".join(f"application/x-protobuf;proto={one}" for one in _DECODERS)
        raise DecodeError(
            "unsupported_content_type",
            f"{headers.get('Content-Type')!r} is not supported; send one of {supported}",
            415,
        )
    if headers.get("Content-Encoding", "snappy").lower() != "snappy":
        raise DecodeError("unsupported_encoding", "remote write bodies are compressed with snappy", 415)
    return proto


def _shortcut(series: list[bytes]) -> tuple[Samples, list[bytes]]:
    """The samples of series that are known labels and one sample; and the other series."""
    joined = b"".join([wire[-_END.itemsize :] for wire in series])
    if len(joined) != _END.itemsize * len(series):  # some are shorter than that: leave all to the full parser
        return Samples.concat([]), series
    ends = np.frombuffer(joined, _END)
    varint = ends["low"].astype(np.int64) | (ends["high"].astype(np.int64) << 32)
    timed = (ends["time_tag"] == 0x10) & are_six_bytes(varint)
    valued = timed & (ends["head"] == 0x1012) & (ends["value_tag"] == 0x09)
    plain = valued | (timed & (ends["zero_head"] == 0x0712))
    rest: list[bytes] = []
    if not plain.all():
        rest = [series[i] for i in np.flatnonzero(~plain).tolist()]
        series = [series[i] for i in np.flatnonzero(plain).tolist()]
        ends, varint, valued = ends[plain], varint[plain], valued[plain]
    if not series:
        return Samples.concat([]), rest
    values = np.where(valued, ends["value"], 0.0)
    sizes = np.where(valued, WITH_VALUE, WITHOUT_VALUE).tolist()
    wires = [wire[:-size] for wire, size in zip(series, sizes, strict=True)]
    samples, unknown = _look_up(wires, sizes, varint_times(varint), values)
    return samples, rest + [series[i] for i in unknown]


def _look_up(wires: list[bytes], sizes: list[int], t_ms: Times, values: Values) -> tuple[Samples, list[int]]:
    """The samples of series by the wire bytes of their labels; and the numbers of those that are not known.

    `sizes` are those of the samples on the wire.
    """
    entries: list[bytes] = []
    stops: list[int] = []
    unknown: list[int] = []
    start = 0
    for stop in _runs.stops(wires, t_ms):
        own = wires[start:stop]
        block = _runs.block(own, lambda own=own: _all_known(own))  # type: ignore[misc]
        if block is not None and (all_labels := _all_known(own)):
            _patterns.learn(own, sizes[start:stop], all_labels, block)
        if block:
            entries.append(block)
            stops.append(stop)
        else:
            for i in range(start, stop):
                labels = _cache.get(wires[i])
                if labels is None:
                    unknown.append(i)
                else:
                    entries.append(labels)
                    stops.append(i + 1)
        start = stop
    times = t_ms[np.array(stops, np.intp) - 1]
    if unknown:
        kept = np.ones(len(values), np.bool_)
        kept[unknown] = False
        values = values[kept]
        stops = np.cumsum(kept)[np.array(stops, np.intp) - 1].tolist()
    ends = np.array(stops, np.intp)
    counts = ends - np.array([0, *stops[:-1]], np.intp)[: len(stops)]
    return Samples(entries, times, values, counts), unknown


def _all_known(wires: list[bytes]) -> list[bytes] | None:
    found = [labels for wire in wires if (labels := _cache.get(wire)) is not None]
    return found if len(found) == len(wires) else None


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
    for size in (WITH_VALUE, WITHOUT_VALUE):
        prefix = wire[:-size]
        try:
            head = _TimeSeries.FromString(prefix)
        except ProtobufError:
            continue  # not a message on its own: the other layout, or none
        if not head.samples and head.labels == series.labels:
            _cache.put(prefix, labels)
            return


_DECODERS = {
    "prometheus.WriteRequest": _decode_request,
    "io.prometheus.write.v2.Request": _remote_write_v2.decode_request,
}

CONNECTOR = Connector(
    name="remote_write",
    kind="metrics",
    decode=decode,
    timing=SourceTiming(lateness_ms=6_000, idle_after_ms=60_000, settle_ms=10_000),
    path="/api/v1/write",
    content_types=("application/x-protobuf",),
    answer=answer,
)
