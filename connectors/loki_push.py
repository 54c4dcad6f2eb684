"""Loki's push API: streams of log lines as JSON (also gzipped) or as a snappy block of protobuf.

Both forms become the same thing: per stream a canonical label set, and its entries oldest first, each with time in
nanoseconds, line, and structured metadata. JSON is decoded straight into `LogEntry`. Bytes of a protobuf line that are
not UTF-8 become U+FFFD, as Loki shows them, because everything downstream is text.

API: https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw, Struct

from connectors import Connector, Decoded, DecodeError
from connectors._labelset import parse_label_set
from connectors._wire import gunzip, media_type, parse_protobuf, protobuf_messages, unsnappy
from engine.core import labels as label_sets
from engine.core.messages import LogEntry, LogStream
from engine.core.sources import SourceTiming

MESSAGES = protobuf_messages(
    "logproto",
    {
        "Timestamp": [(1, "seconds", "int64"), (2, "nanos", "int32")],
        "LabelPair": [(1, "name", "string"), (2, "value", "string")],
        "Entry": [
            (1, "timestamp", "Timestamp"),
            (2, "line", "bytes"),
            (3, "structuredMetadata", "repeated LabelPair"),
        ],
        "Stream": [(1, "labels", "string"), (2, "entries", "repeated Entry"), (3, "hash", "uint64")],
        "PushRequest": [(1, "streams", "repeated Stream")],
    },
)
_PushRequest = MESSAGES["PushRequest"]
_MAX_T_NS = 2**63 - 1
_GZIP_MAGIC = b"\x1f\x8b"


class _JsonStream(Struct):
    stream: dict[str, str]
    values: list[LogEntry]


class _JsonPush(Struct):
    streams: list[_JsonStream]


# Not strict: times are strings of digits in this format, and are wanted as integers.
_decode_json = msgspec.json.Decoder(_JsonPush, strict=False).decode


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The log streams of a push request."""
    del received_ms  # every line has its own time
    if not body:
        raise DecodeError("empty_body", "the body is empty; a push request was expected")
    name, _ = media_type(headers)
    if name == "application/json":
        return Decoded(_from_json(body, headers))
    if name == "application/x-protobuf":
        return Decoded(_from_protobuf(body))
    detail = f"{headers.get('Content-Type')!r} is not supported; send application/json or application/x-protobuf"
    raise DecodeError("unsupported_content_type", detail, 415)


def _from_json(body: bytes, headers: Mapping[str, str]) -> list[LogStream]:
    encoding = headers.get("Content-Encoding", "").lower()
    if encoding not in ("", "identity", "gzip"):
        raise DecodeError("unsupported_encoding", f"{encoding!r} is not supported; send plain or gzip", 415)
    if body.startswith(_GZIP_MAGIC):  # an HTTP server may have undone the encoding already
        body = gunzip(body)
    try:
        push = _decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("bad_json", f"the body is not a push request: {error}") from error
    return [_stream(label_sets.encode(stream.stream), stream.values) for stream in push.streams if stream.values]


def _from_protobuf(body: bytes) -> list[LogStream]:
    push = parse_protobuf(_PushRequest, unsnappy(body))
    return [_stream(_labels(stream.labels), _entries(stream.entries)) for stream in push.streams if stream.entries]


@lru_cache(maxsize=50_000)
def _labels(text: str) -> bytes:
    return label_sets.encode(parse_label_set(text))


def _entries(entries: Iterable[Any]) -> list[LogEntry]:
    found = []
    for entry in entries:
        time = entry.timestamp
        metadata = {pair.name: pair.value for pair in entry.structuredMetadata}
        found.append(LogEntry(time.seconds * 1_000_000_000 + time.nanos, entry.line.decode(errors="replace"), metadata))
    return found


def _stream(labels: bytes, entries: list[LogEntry]) -> LogStream:
    if labels == b"{}":
        raise DecodeError("invalid_labels", "a stream needs at least one label")
    times = [entry.t_ns for entry in entries]
    if times != sorted(times):
        entries.sort(key=attrgetter("t_ns"))
    if entries[0].t_ns < 0 or entries[-1].t_ns > _MAX_T_NS:
        raise DecodeError("invalid_time", f"times are nanoseconds since 1970 in 63 bits, got {entries[-1].t_ns}")
    return LogStream(Raw(labels), entries)


CONNECTOR = Connector(
    name="loki_push",
    kind="logs",
    decode=decode,
    timing=SourceTiming(lateness_ms=100, idle_after_ms=10_000),
    path="/loki/api/v1/push",
    content_types=("application/json", "application/x-protobuf"),
)
