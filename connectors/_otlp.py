"""OpenTelemetry's export request of logs, from protobuf and from its JSON, as plain records.

Values of attributes and bodies become Python's: text, bool, int, float, bytes, list, dict; None where there is none.

Schema: https://opentelemetry.io/docs/specs/otlp/ and the `logs/v1` of opentelemetry-proto.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from connectors import DecodeError
from connectors._wire import parse_protobuf, protobuf_messages

Attributes = Sequence[tuple[str, Any]]

MESSAGES = protobuf_messages(
    "otlp_logs",
    {
        "AnyValue": [
            (1, "string_value", "optional string"),
            (2, "bool_value", "optional bool"),
            (3, "int_value", "optional int64"),
            (4, "double_value", "optional double"),
            (5, "array_value", "ArrayValue"),
            (6, "kvlist_value", "KeyValueList"),
            (7, "bytes_value", "optional bytes"),
        ],
        "ArrayValue": [(1, "values", "repeated AnyValue")],
        "KeyValueList": [(1, "values", "repeated KeyValue")],
        "KeyValue": [(1, "key", "string"), (2, "value", "AnyValue")],
        "Resource": [(1, "attributes", "repeated KeyValue")],
        "Scope": [
            (1, "name", "string"),
            (2, "version", "string"),
            (3, "attributes", "repeated KeyValue"),
            (4, "dropped_attributes_count", "uint32"),
        ],
        "LogRecord": [
            (1, "time_unix_nano", "fixed64"),
            (2, "severity_number", "int32"),
            (3, "severity_text", "string"),
            (5, "body", "AnyValue"),
            (6, "attributes", "repeated KeyValue"),
            (7, "dropped_attributes_count", "uint32"),
            (8, "flags", "fixed32"),
            (9, "trace_id", "bytes"),
            (10, "span_id", "bytes"),
            (11, "observed_time_unix_nano", "fixed64"),
        ],
        "ScopeLogs": [(1, "scope", "Scope"), (2, "log_records", "repeated LogRecord")],
        "ResourceLogs": [(1, "resource", "Resource"), (2, "scope_logs", "repeated ScopeLogs")],
        "ExportRequest": [(1, "resource_logs", "repeated ResourceLogs")],
    },
)
_ExportRequest = MESSAGES["ExportRequest"]
_SCALARS = ("string_value", "bool_value", "int_value", "double_value", "bytes_value")


class Record(Struct, frozen=True):
    """One log record. Times in nanoseconds, 0 where there is none; ids in hex, "" where there is none."""

    body: Any = None
    attributes: Attributes = ()
    time_ns: int = 0
    observed_ns: int = 0
    severity_number: int = 0
    severity_text: str = ""
    dropped: int = 0
    flags: int = 0
    trace_id: str = ""
    span_id: str = ""


class Scope(Struct, frozen=True):
    """The records of one instrumentation scope."""

    records: Sequence[Record]
    attributes: Attributes = ()
    name: str = ""
    version: str = ""
    dropped: int = 0


class Resource(Struct, frozen=True):
    """What one resource sent."""

    attributes: Attributes
    scopes: Sequence[Scope]


@dataclass(frozen=True)
class _Reading:
    """How one of the two encodings writes values and ids; all else is called the same in both."""

    value: Callable[[Any], Any]
    id: Callable[[Any], str]

    def resources(self, request: Any) -> list[Resource]:
        """What an export request holds."""
        return [
            Resource(self._attributes(sent.resource.attributes), [self._scope(logs) for logs in sent.scope_logs])
            for sent in request.resource_logs
        ]

    def _scope(self, logs: Any) -> Scope:
        return Scope(
            [self._record(record) for record in logs.log_records],
            self._attributes(logs.scope.attributes),
            logs.scope.name,
            logs.scope.version,
            logs.scope.dropped_attributes_count,
        )

    def _record(self, sent: Any) -> Record:
        if min(sent.time_unix_nano, sent.observed_time_unix_nano) < 0:
            raise ValueError("a time before 1970")
        return Record(
            body=self.value(sent.body),
            attributes=self._attributes(sent.attributes),
            time_ns=sent.time_unix_nano,
            observed_ns=sent.observed_time_unix_nano,
            severity_number=sent.severity_number,
            severity_text=sent.severity_text,
            dropped=sent.dropped_attributes_count,
            flags=sent.flags,
            trace_id=_id(self.id(sent.trace_id)),
            span_id=_id(self.id(sent.span_id)),
        )

    def _attributes(self, sent: Iterable[Any]) -> Attributes:
        return [(pair.key, self.value(pair.value)) for pair in sent]


def read_protobuf(body: bytes) -> list[Resource]:
    """The resources of an export request in protobuf; raises `DecodeError`."""
    return _Reading(_value, bytes.hex).resources(parse_protobuf(_ExportRequest, body))


def _value(sent: Any) -> Any:
    for name in _SCALARS:
        if sent.HasField(name):
            return getattr(sent, name)
    if sent.HasField("array_value"):
        return [_value(one) for one in sent.array_value.values]
    if sent.HasField("kvlist_value"):
        return {pair.key: _value(pair.value) for pair in sent.kvlist_value.values}
    return None


def _id(text: str) -> str:
    """A trace or span id; one of zeros only is none."""
    return text if text.strip("0") else ""


class _JsonValues(Struct, frozen=True, rename="camel"):
    values: list[_JsonValue] = []


class _JsonPairs(Struct, frozen=True, rename="camel"):
    values: list[_JsonPair] = []


class _JsonValue(Struct, frozen=True, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | None = None
    double_value: float | str | None = None
    array_value: _JsonValues | None = None
    kvlist_value: _JsonPairs | None = None
    bytes_value: str | None = None


class _JsonPair(Struct, frozen=True, rename="camel"):
    key: str = ""
    value: _JsonValue | None = None


class _JsonResource(Struct, frozen=True, rename="camel"):
    attributes: list[_JsonPair] = []


class _JsonScope(Struct, frozen=True, rename="camel"):
    name: str = ""
    version: str = ""
    attributes: list[_JsonPair] = []
    dropped_attributes_count: int = 0


class _JsonRecord(Struct, frozen=True, rename="camel"):
    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0
    severity_number: int = 0
    severity_text: str = ""
    body: _JsonValue | None = None
    attributes: list[_JsonPair] = []
    dropped_attributes_count: int = 0
    flags: int = 0
    trace_id: str = ""
    span_id: str = ""


class _JsonScopeLogs(Struct, frozen=True, rename="camel"):
    scope: _JsonScope = _JsonScope()
    log_records: list[_JsonRecord] = []


class _JsonResourceLogs(Struct, frozen=True, rename="camel"):
    resource: _JsonResource = _JsonResource()
    scope_logs: list[_JsonScopeLogs] = []


class _JsonExport(Struct, frozen=True, rename="camel"):
    resource_logs: list[_JsonResourceLogs] = []


# Not strict: 64-bit integers are strings of digits in this format, but numbers are taken as well.
_decode_json = msgspec.json.Decoder(_JsonExport, strict=False).decode


def read_json(body: bytes) -> list[Resource]:
    """The resources of an export request in OTLP's JSON (ids in hex, 64-bit integers as text); raises `DecodeError`."""
    try:
        return _Reading(_json_value, _hex).resources(_decode_json(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DecodeError("bad_json", f"the body is not an export request of logs: {error}") from error


def _json_value(sent: _JsonValue | None) -> Any:
    if sent is None:
        return None
    if sent.bytes_value is not None:
        return _base64(sent.bytes_value)
    if sent.array_value is not None:
        return [_json_value(one) for one in sent.array_value.values]
    if sent.kvlist_value is not None:
        return {pair.key: _json_value(pair.value) for pair in sent.kvlist_value.values}
    if sent.double_value is not None:
        return float(sent.double_value)
    scalars = (sent.string_value, sent.bool_value, sent.int_value)
    return next((value for value in scalars if value is not None), None)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bytesValue is not base64: {error}") from error


def _hex(text: str) -> str:
    bytes.fromhex(text)  # raises ValueError
    return text.lower()


def as_text(value: Any) -> str:
    """A value as OpenTelemetry writes it as text: bytes in base64, lists and maps as JSON, None as nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, int):
        return str(value)
    return json_text(value)


def number_text(value: float) -> str:
    """A number as JavaScript and Go's JSON write it: without an exponent from 1e-6 up to 1e21."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    mantissa, _, exponent = repr(value).partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"


def json_text(value: Any) -> str:
    """A list or map as JSON, keys sorted and without blanks."""
    if isinstance(value, dict):
        pairs = (f"{json_text(name)}:{json_text(value[name])}" for name in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        return number_text(value)
    return msgspec.json.encode(value).decode()  # None and what is not finite are null; bytes are base64
