"""Bodies as the programs that send logs build them, and what is made of each.

The forms are those of Promtail 3.5 and Alloy 1.x (protobuf in snappy), Fluent Bit 4 (`out_loki`: JSON, `compress
gzip`), Vector 0.50 (`loki` sink: protobuf in snappy by default, JSON with `compression: gzip`), Docker's loki driver
(Promtail's client), the OpenTelemetry Collector 0.150 (`otlphttp` and Loki's `/otlp`), and curl as Loki's manual shows.
"""

from __future__ import annotations

import gzip
import zlib

import cramjam
import msgspec
import pytest

from connectors import DecodeError, loki_push, otlp_logs
from connectors._otlp import MESSAGES as OTLP
from connectors.otlp_logs import label_name
from engine.core import labels
from engine.core.messages import LogEntry
from tests.connectors.test_loki_push import protobuf_body

T_NS = 1_700_000_000_000_000_005
Lines = list[tuple[dict[str, str], list[LogEntry]]]


def pushed(body: bytes, **headers: str) -> Lines:
    events = loki_push.decode(body, {name.replace("_", "-"): text for name, text in headers.items()}, 0).events
    assert isinstance(events, list)
    return [(labels.decode(stream.labels), stream.entries) for stream in events]


def exported(body: bytes, content_type: str = "application/x-protobuf", received_ms: int = 0) -> Lines:
    events = otlp_logs.decode(body, {"Content-Type": content_type}, received_ms).events
    assert isinstance(events, list)
    return [(labels.decode(stream.labels), stream.entries) for stream in events]


def test_promtail_alloy_and_the_docker_driver_send_protobuf_whose_labels_are_in_any_order():
    """Promtail's client: labels as Go prints them, no Content-Encoding; two streams may differ in order alone."""
    body = protobuf_body(
        ('{job="varlogs", filename="/var/log/a \\"b\\".log"}', [(T_NS, b"one", {})]),
        ('{filename="/var/log/a \\"b\\".log", job="varlogs"}', [(T_NS + 1, b"two", {"pid": "7"})]),
    )
    first, second = pushed(body, Content_Type="application/x-protobuf", User_Agent="promtail/3.5.1")
    assert first[0] == second[0] == {"job": "varlogs", "filename": '/var/log/a "b".log'}
    assert second[1] == [LogEntry(T_NS + 1, "two", {"pid": "7"})]


@pytest.mark.parametrize(
    ("encoding", "wrap"),
    [
        ("snappy", bytes),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("identity", bytes),
    ],
)
def test_protobuf_comes_with_any_encoding_that_loki_knows(encoding: str, wrap: object):
    assert callable(wrap)
    body = wrap(protobuf_body(('{job="a"}', [(T_NS, b"line", {})])))
    found = pushed(body, Content_Type="application/x-protobuf", Content_Encoding=encoding)
    assert found == [({"job": "a"}, [LogEntry(T_NS, "line")])]


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_fluent_bit_sends_json_whose_lines_are_records(wrap: object):
    assert callable(wrap)
    record = '{"log":"GET /","stream":"stdout"}'
    value = [str(T_NS), record, {"trace_id": "0242", "size": 512, "cached": True}]
    push = {"streams": [{"stream": {"job": "fluent-bit", "code": 200}, "values": [value]}]}
    headers = {"Content_Type": "application/json", "User_Agent": "Fluent-Bit"}
    if wrap is gzip.compress:
        headers["Content_Encoding"] = "gzip"
    assert pushed(wrap(msgspec.json.encode(push)), **headers) == [
        (
            {"job": "fluent-bit", "code": "200"},
            [LogEntry(T_NS, record, {"trace_id": "0242", "size": "512", "cached": "true"})],
        )
    ]


def test_vector_sends_either_form_and_every_event_may_be_a_stream():
    one = msgspec.json.encode({"streams": [{"stream": {"source": "vector"}, "values": [[str(T_NS), "a"]]}] * 2})
    form = {"Content_Type": "application/json", "Content_Encoding": "gzip", "User_Agent": "Vector/0.50"}
    assert len(pushed(gzip.compress(one), **form)) == 2
    body = protobuf_body(('{source="vector"}', [(T_NS, b"a", {"host": "h"})]))
    (found,) = pushed(body, Content_Type="application/x-protobuf", User_Agent="Vector/0.50")
    assert found == ({"source": "vector"}, [LogEntry(T_NS, "a", {"host": "h"})])


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ('["%d","a"]', LogEntry(T_NS, "a")),
        ('[%d,"a"]', LogEntry(T_NS, "a")),
        ('["%d","a",{}]', LogEntry(T_NS, "a")),
        ('["%d","a",{"k":"v"}]', LogEntry(T_NS, "a", {"k": "v"})),
        ('["%d","a",{"structuredMetadata":{"n":1.50},"parsed":{"x":"y"}}]', LogEntry(T_NS, "a", {"n": "1.50"})),
        ('["%d","a",{"other":{"x":"y"},"k":"v"}]', LogEntry(T_NS, "a", {"k": "v"})),
    ],
)
def test_curl_writes_times_as_text_or_numbers_and_metadata_in_any_form_loki_reads(value: str, entry: LogEntry):
    body = '{"streams":[{"stream":{"job":"a"},"values":[' + value % T_NS + "]}]}"
    assert pushed(body.encode(), Content_Type="application/json") == [({"job": "a"}, [entry])]


@pytest.mark.parametrize("body", [b'{"streams":[]}', b'{"streams":[{"stream":{"job":"a"},"values":[]}]}'])
def test_streams_without_lines_are_taken_as_nothing(body: bytes):
    assert pushed(body, Content_Type="application/json") == []


def test_a_label_that_stands_twice_counts_last_in_json_and_is_refused_in_protobuf_as_in_loki():
    body = b'{"streams":[{"stream":{"a":"1","a":"2"},"values":[["1","x"]]}]}'
    assert pushed(body, Content_Type="application/json")[0][0] == {"a": "2"}
    with pytest.raises(DecodeError, match="stands twice"):
        pushed(protobuf_body(('{a="1", a="2"}', [(1, b"x", {})])), Content_Type="application/x-protobuf")


def pair(name: str, value: object) -> dict[str, object]:
    return {"key": name, "value": value}


def collector(record: dict[str, object], resource: dict[str, object], scope: dict[str, object] | None = None) -> bytes:
    """An export request as the Collector builds it: attributes as name and AnyValue."""

    def pairs(given: dict[str, object]) -> list[dict[str, object]]:
        return [pair(name, value) for name, value in given.items()]

    sent = record | {"attributes": pairs(record.get("attributes", {}))}  # type: ignore[arg-type]  # a table's own
    logs = OTLP["ResourceLogs"](
        resource={"attributes": pairs(resource)}, scope_logs=[{"scope": scope or {}, "log_records": [sent]}]
    )
    return bytes(OTLP["ExportRequest"](resource_logs=[logs]).SerializeToString())


def text(value: str) -> dict[str, str]:
    return {"string_value": value}


def test_the_collector_s_resource_becomes_labels_and_everything_else_structured_metadata():
    body = collector(
        {
            "time_unix_nano": T_NS,
            "observed_time_unix_nano": T_NS + 9,
            "severity_number": 17,
            "severity_text": "ERROR",
            "body": text("payment failed"),
            "attributes": {
                "http.status": {"int_value": 500},
                "user": {"kvlist_value": {"values": [{"key": "id", "value": text("7")}]}},
            },
            "flags": 1,
            "trace_id": bytes(range(16)),
            "span_id": bytes(range(8)),
        },
        {"service.name": text("shop"), "k8s.pod.name": text("shop-1"), "host.name": text("node-7")},
        {"name": "lib", "version": "1.2"},
    )
    assert exported(body) == [
        (
            {"service_name": "shop", "k8s_pod_name": "shop-1"},
            [
                LogEntry(
                    T_NS,
                    "payment failed",
                    {
                        "http_status": "500",
                        "user_id": "7",
                        "observed_timestamp": str(T_NS + 9),
                        "severity_number": "17",
                        "severity_text": "ERROR",
                        "flags": "1",
                        "trace_id": "000102030405060708090a0b0c0d0e0f",
                        "span_id": "0001020304050607",
                        "host_name": "node-7",
                        "scope_name": "lib",
                        "scope_version": "1.2",
                    },
                )
            ],
        )
    ]


@pytest.mark.parametrize(
    ("resource", "labels"),
    [
        ({}, {"service_name": "unknown_service"}),
        ({"container.name": text("web")}, {"container_name": "web", "service_name": "web"}),
        ({"service.name": text("")}, {"service_name": "unknown_service"}),
    ],
)
def test_a_resource_without_a_name_gets_one_as_in_loki(resource: dict[str, object], labels: dict[str, str]):
    assert exported(collector({"time_unix_nano": 1, "body": text("x")}, resource))[0][0] == labels


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (text("plain"), "plain"),
        (text(""), ""),
        ({}, ""),
        ({"bool_value": False}, "false"),
        ({"int_value": 0}, "0"),
        ({"double_value": 1.0}, "1"),
        ({"double_value": 1e-7}, "1e-7"),
        ({"double_value": float("inf")}, "Infinity"),
        ({"bytes_value": b"\x00\xff"}, "AP8="),
        ({"array_value": {"values": [text("<a>"), {"int_value": 1}, {}]}}, '["<a>",1,null]'),
        ({"kvlist_value": {"values": [pair("b", {"double_value": 0.5}), pair("a", text(""))]}}, '{"a":"","b":0.5}'),
    ],
)
def test_a_body_of_any_kind_becomes_a_line(body: dict[str, object], line: str):
    ((_, (entry,)),) = exported(collector({"time_unix_nano": 1, "body": body}, {}))
    assert entry.line == line


@pytest.mark.parametrize(
    ("times", "t_ns"),
    [
        ({"time_unix_nano": 5, "observed_time_unix_nano": 7}, 5),
        ({"observed_time_unix_nano": 7}, 7),
        ({}, 9_000_000),
    ],
)
def test_a_record_happened_at_its_time_else_when_it_was_observed_else_received(times: dict[str, object], t_ns: int):
    ((_, (entry,)),) = exported(collector(times | {"body": text("x")}, {}), received_ms=9)
    assert entry.t_ns == t_ns


def test_the_collector_s_json_means_the_same_as_its_protobuf():
    binary = collector(
        {
            "time_unix_nano": T_NS,
            "body": text("x"),
            "attributes": {"n": {"int_value": 2**60}, "d": {"double_value": 1.5}, "b": {"bytes_value": b"\x01"}},
            "trace_id": b"\xab" * 16,
        },
        {"service.name": text("shop")},
    )
    plain = {
        "resourceLogs": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "timeUnixNano": str(T_NS),
                                "body": {"stringValue": "x"},
                                "attributes": [
                                    {"key": "n", "value": {"intValue": str(2**60)}},
                                    {"key": "d", "value": {"doubleValue": 1.5}},
                                    {"key": "b", "value": {"bytesValue": "AQ=="}},
                                ],
                                "traceId": "AB" * 16,
                            }
                        ]
                    }
                ],
            }
        ]
    }
    assert exported(msgspec.json.encode(plain), "application/json") == exported(binary)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("http.status_code", "http_status_code"),
        ("a..b--c", "a_b_c"),
        ("7days", "key_7days"),
        ("_private", "_private"),
        ("__reserved.name__", "__reserved_name__"),
        ("naïve", "na_ve"),
    ],
)
def test_attribute_names_become_label_names_as_in_loki(name: str, label: str):
    assert label_name(name) == label


@pytest.mark.parametrize("name", ["", "___", "…"])
def test_an_attribute_without_a_usable_name_refuses_the_request_as_in_loki(name: str):
    with pytest.raises(DecodeError, match="invalid_attribute"):
        exported(collector({"body": text("x"), "attributes": {name: text("v")}}, {}))


def nested(depth: int) -> bytes:
    return b'{"body":' + b'{"arrayValue":{"values":[' * depth + b'{"intValue":1}' + b"]}}" * depth + b"}"


def field(number: int, payload: bytes) -> bytes:
    """A field of protobuf that has a length."""
    size, length = len(payload), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def test_deeply_nested_otlp_is_refused_whole():
    record = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + nested(50_000) + b"]}]}]}"
    with pytest.raises(DecodeError, match="bad_json"):
        exported(record, "application/json")
    value = b"\x18\x01"  # an integer
    for _ in range(200):
        value = field(5, field(1, value))  # in a list
    deep = field(1, field(2, field(2, field(5, value))))
    with pytest.raises(DecodeError, match="bad_protobuf"):
        exported(deep)


def test_text_that_is_no_utf8_in_otlp_is_refused_as_protobuf_has_it():
    body = collector({"time_unix_nano": 1, "body": text("abcd")}, {}).replace(b"abcd", b"a\xffcd")
    with pytest.raises(DecodeError, match="bad_protobuf"):
        exported(body)


def test_a_snappy_bomb_in_gzip_is_refused_before_it_is_unpacked():
    bomb = bytes(cramjam.snappy.compress_raw(bytes(70 * 1024 * 1024)))
    with pytest.raises(DecodeError) as refused:
        pushed(gzip.compress(bomb), Content_Type="application/x-protobuf", Content_Encoding="gzip")
    assert (refused.value.reason, refused.value.status) == ("body_too_large", 413)
