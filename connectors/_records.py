"""Log records as they stand in Kafka topics that somebody else fills: one message, one decoder for each format.

    vector      Vector's kafka sink, `codec: json`             {"message": ..., "timestamp": RFC 3339, ...}
    fluent_bit  Fluent Bit's out_kafka, `format json`          {"@timestamp": seconds, "log": ..., ...}
    promtail    a line with its stream's labels                {"line": ..., "ts": ..., "labels": {...}}
    loki_json   Loki's push request as JSON                    {"streams": [...]}
    otlp_proto, otlp_json   the OpenTelemetry Collector's kafka exporter
    plain       the message is the line

Of a JSON record one field is the line, one its time, some become stream labels, and what else it has of text, numbers
and booleans becomes structured metadata. Objects are walked into: `kubernetes.pod_name`. Without the field of the line
the whole record is the line; without that of the time it is the time of the Kafka message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from connectors import DecodeError, loki_push, otlp_logs
from connectors._otlp import read_json, read_protobuf
from connectors.otlp_logs import label_name
from engine.core import labels as label_sets
from engine.core.batching import Streams
from engine.core.messages import LogEntry, LogStream

Format = Literal["vector", "fluent_bit", "promtail", "loki_json", "otlp_proto", "otlp_json", "plain"]
_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((10**11, _NS), (10**14, 1_000_000), (10**17, 1_000))  # a number below is in this many nanoseconds
_MAX_T_NS = 2**63 - 1
_DEEPEST = 20

_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Fields(Struct, frozen=True):
    """Which fields of a record mean what. An empty `line` or `time` is the format's own.

    `labels` gives each stream label its field, `static` are labels of every line. Fields of an object named by
    `label_object` are labels all of them.
    """

    line: str = ""
    time: str = ""
    labels: Mapping[str, str] = {}
    static: Mapping[str, str] = {}
    label_object: str = ""


_OWN = {
    "vector": Fields("message", "timestamp"),
    "fluent_bit": Fields("log", "@timestamp"),
    "promtail": Fields("line", "ts", label_object="labels"),
}


def decode_record(kind: Format, value: bytes, stored_ms: int, fields: Fields) -> Streams:
    """The lines of one message that Kafka stored at `stored_ms`. Raises `DecodeError` for what cannot be used."""
    if kind == "plain":
        entry = LogEntry(stored_ms * 1_000_000, value.decode(errors="replace").removesuffix("\n"))
        return [LogStream(Raw(label_sets.encode(fields.static)), [entry])]
    if kind == "loki_json":
        return _labelled(loki_push.read_json(value), fields)
    if kind in ("otlp_proto", "otlp_json"):
        read = read_protobuf if kind == "otlp_proto" else read_json
        return _labelled(otlp_logs.streams_of(read(value), stored_ms), fields)
    return [_from_json(value, stored_ms, fields, _OWN[kind])]


def _labelled(streams: Streams, fields: Fields) -> Streams:
    """Streams of a format that has labels of its own, with the static ones, which do not replace them."""
    if not fields.static:
        return streams
    return [
        LogStream(Raw(label_sets.encode({**fields.static, **label_sets.decode(stream.labels)})), stream.entries)
        for stream in streams
    ]


def _from_json(value: bytes, stored_ms: int, fields: Fields, own: Fields) -> LogStream:
    try:
        record = dict(_scalars(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("bad_json", f"the message is no JSON object: {error}") from error
    line = record.pop(fields.line or own.line, None)
    time = record.pop(fields.time or own.time, None)
    labels = dict(fields.static)
    for label, field in fields.labels.items():
        if found := record.pop(field, ""):
            labels[label] = found
    within = f"{fields.label_object or own.label_object}."
    for name in [name for name in record if len(within) > 1 and name.startswith(within)]:
        labels[label_name(name.removeprefix(within))] = record.pop(name)
    metadata = {label_name(name): text for name, text in record.items() if text and name.strip("._")}
    t_ns = stored_ms * 1_000_000 if time is None else time_ns(time)
    entry = LogEntry(t_ns, value.decode() if line is None else line, {} if line is None else metadata)
    return LogStream(Raw(label_sets.encode(labels)), [entry])


def _scalars(raw: bytes | Raw, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The texts, numbers and booleans of an object as text, by their path; arrays and nulls are left out."""
    if depth > _DEEPEST:
        raise msgspec.ValidationError(f"objects nested deeper than {_DEEPEST}")
    for name, value in _decode_object(raw).items():
        text, path = bytes(value), f"{prefix}{name}"
        if text.startswith(b"{"):
            yield from _scalars(value, f"{path}.", depth + 1)
        elif text.startswith(b'"'):
            yield path, _decode_text(text)
        elif not text.startswith((b"[", b"null")):
            yield path, text.decode()


def time_ns(text: str) -> int:
    """A time as log shippers write it, in nanoseconds since 1970. Raises `DecodeError`.

    RFC 3339 with up to nine digits of a second; or a number, which by its size is of seconds, milli-, micro- or
    nanoseconds.
    """
    try:
        found = _number_ns(Decimal(text))
    except InvalidOperation:
        found = _date_ns(text)
    if not 0 <= found <= _MAX_T_NS:
        raise DecodeError("invalid_time", f"times are nanoseconds since 1970 in 63 bits, got {text!r}")
    return found


def _number_ns(number: Decimal) -> int:
    if not number.is_finite():
        raise DecodeError("invalid_time", f"{number} is no time")
    factor = next((factor for limit, factor in _UNITS if abs(number) < limit), 1)
    return int(number * factor) if abs(number) < 10**20 else _MAX_T_NS + 1


def _date_ns(text: str) -> int:
    """RFC 3339. Python's own reading goes to microseconds, so the fraction is read apart."""
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    try:
        moment = datetime.fromisoformat(whole + rest[len(digits) :])
    except ValueError as error:
        raise DecodeError("invalid_time", f"{text[:60]!r} is neither RFC 3339 nor a number") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _NS + int(digits[:9].ljust(9, "0"))
