"""Loki's push API: streams of log lines as JSON or as a snappy block of protobuf, either also in gzip or deflate.

Both forms become the same thing: per stream a canonical label set, and its entries oldest first, each with time in
nanoseconds, line, and structured metadata. JSON is decoded straight into `LogEntry`; where a label or metadata is a
number, once more and slower. Bytes of a protobuf line that are not UTF-8 become U+FFFD, as Loki shows them, because
everything downstream is text.

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
from connectors._wire import gunzip, media_type, parse_protobuf, protobuf_messages, unencoded, unsnappy
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
_ENCODINGS = ("gzip", "deflate")


class _JsonStream(Struct):
    stream: dict[str, str]
    values: list[LogEntry]


class _JsonPush(Struct):
    streams: list[_JsonStream]


class _LooseEntry(Struct, array_like=True):
    t_ns: int
    line: str
    metadata: dict[str, Raw] = {}


class _LooseStream(Struct):
    stream: dict[str, Raw]
    values: list[_LooseEntry]


class _LoosePush(Struct):
    streams: list[_LooseStream]


# Not strict: times are strings of digits in this format, and are wanted as integers.
_decode_json = msgspec.json.Decoder(_JsonPush, strict=False).decode
_decode_loose = msgspec.json.Decoder(_LoosePush, strict=False).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The log streams of a push request."""
    del received_ms  # every line has its own time
    if not body:
        raise DecodeError("empty_body", "the body is empty; a push request was expected")
    name, _ = media_type(headers)
    if name == "application/json":
        # JSON does not begin as gzip does, so gzip is known even where nothing says so.
        plain = gunzip(body) if body.startswith(_GZIP_MAGIC) else unencoded(body, headers, _ENCODINGS)
        return Decoded(read_json(plain))
    if name == "application/x-protobuf":
        # Some senders say "snappy", which is part of this format and no encoding around it.
        is_named = headers.get("Content-Encoding", "").lower() == "snappy"
        return Decoded(_from_protobuf(body if is_named else unencoded(body, headers, _ENCODINGS)))
    detail = f"{headers.get('Content-Type')!r} is not supported; send application/json or application/x-protobuf"
    raise DecodeError("unsupported_content_type", detail, 415)


def read_json(body: bytes) -> list[LogStream]:
    """The streams of a push request as JSON, without what it may be packed in. Raises `DecodeError`."""
    try:
        streams = [(stream.stream, stream.values) for stream in _decode_json(body).streams]
    except msgspec.ValidationError:
        streams = _from_loose(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_json(error) from error
    return [_stream(label_sets.encode(labels), entries) for labels, entries in streams if entries]


def _from_loose(body: bytes) -> list[tuple[dict[str, str], list[LogEntry]]]:
    """Streams whose labels or metadata are not all text: what is a number is taken as it is written."""
    try:
        return [
            (
                {name: _text(value) for name, value in stream.stream.items()},
                [LogEntry(entry.t_ns, entry.line, _metadata(entry.metadata)) for entry in stream.values],
            )
            for stream in _decode_loose(body).streams
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_json(error) from error


def _metadata(given: Mapping[str, Raw]) -> dict[str, str]:
    """Structured metadata; also as Loki's own answers have it, in an object beside what was parsed of the line."""
    found: dict[str, str] = {}
    for name, value in given.items():
        if not bytes(value).startswith(b"{"):
            found[name] = _text(value)
        elif name == "structuredMetadata":
            found |= {inner: _text(text) for inner, text in _decode_object(value).items()}
    return found


def _text(value: Raw) -> str:
    raw = bytes(value)
    if raw.startswith(b'"'):
        return _decode_text(raw)
    if raw.startswith((b"{", b"[")):
        raise msgspec.ValidationError(f"a label is text or a number, got {raw[:40].decode(errors='replace')}")
    return raw.decode()


def _bad_json(error: Exception) -> DecodeError:
    return DecodeError("bad_json", f"the body is not a push request: {error}")


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
