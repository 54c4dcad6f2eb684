"""Records of Kafka topics as Vector 0.50, Fluent Bit 4, the OpenTelemetry Collector 0.150 and others write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import DecodeError
from connectors._records import Fields, Format, decode_record, time_ns
from engine.core import labels
from engine.core.messages import LogEntry
from tests.connectors.test_contract import LOKI_JSON, OTLP_JSON, otlp_body

STORED_MS = 1_700_000_000_123
JOB = Fields(static={"job": "shop"})
AT_NS = 1_700_000_000_000_000_000


def lines(kind: Format, value: bytes, fields: Fields = JOB) -> list[tuple[dict[str, str], list[LogEntry]]]:
    found = decode_record(kind, value, STORED_MS, fields)
    return [(labels.decode(stream.labels), stream.entries) for stream in found]


def test_vector_s_message_and_timestamp_and_what_else_an_event_has():
    value = (
        b'{"host":"h1","message":"GET /","source_type":"file","timestamp":"2023-11-14T22:13:20.000000005Z",'
        b'"kubernetes":{"pod_name":"shop-1","pod_labels":{"app.kubernetes.io/name":"shop"}},"tags":["a"],"none":null}'
    )
    fields = Fields(labels={"pod": "kubernetes.pod_name"}, static={"job": "shop"})
    assert lines("vector", value, fields) == [
        (
            {"job": "shop", "pod": "shop-1"},
            [
                LogEntry(
                    AT_NS + 5,
                    "GET /",
                    {
                        "host": "h1",
                        "source_type": "file",
                        "kubernetes_pod_labels_app_kubernetes_io_name": "shop",
                    },
                )
            ],
        )
    ]


@pytest.mark.parametrize(
    ("time", "t_ns"),
    [
        (b"1700000000.5", AT_NS + 500_000_000),
        (b"1700000000.123456789", AT_NS + 123_456_789),  # a float would lose the last digits
        (b'"2023-11-14T22:13:20.25Z"', AT_NS + 250_000_000),
    ],
)
def test_fluent_bit_s_log_and_timestamp_in_each_of_its_formats(time: bytes, t_ns: int):
    value = b'{"@timestamp":%b,"log":"started","stream":"stdout"}' % time
    assert lines("fluent_bit", value) == [({"job": "shop"}, [LogEntry(t_ns, "started", {"stream": "stdout"})])]


def test_a_line_with_the_labels_of_its_stream():
    value = b'{"ts":"1700000000000000005","line":"x","labels":{"app":"shop","level":"info"},"pid":7}'
    assert lines("promtail", value) == [
        ({"job": "shop", "app": "shop", "level": "info"}, [LogEntry(AT_NS + 5, "x", {"pid": "7"})])
    ]


def test_a_record_without_line_is_the_line_and_without_time_has_that_of_its_message():
    assert lines("vector", b'{"user":"ada"}') == [({"job": "shop"}, [LogEntry(STORED_MS * 10**6, '{"user":"ada"}')])]


def test_other_names_of_line_and_time():
    fields = Fields(line="event.text", time="event.at", labels={"level": "lvl"})
    value = b'{"event":{"text":"x","at":1700000000000},"lvl":"error"}'
    assert lines("vector", value, fields) == [({"level": "error"}, [LogEntry(AT_NS, "x")])]


@pytest.mark.parametrize(("kind", "value"), [("otlp_proto", otlp_body()), ("otlp_json", OTLP_JSON)])
def test_the_collector_s_exporter_means_what_its_requests_mean(kind: Format, value: bytes):
    ((stream, (entry,)),) = lines(kind, value)
    assert stream == {"service_name": "shop", "job": "shop"}
    assert (entry.t_ns, entry.line) == (AT_NS, "hello")


def test_a_push_request_in_a_message():
    assert lines("loki_json", LOKI_JSON) == [({"job": "a"}, [LogEntry(AT_NS + 5, "hello", {"trace": "1"})])]


def test_a_plain_message_is_the_line_at_the_time_it_was_stored():
    assert lines("plain", b"a\xff b\n") == [({"job": "shop"}, [LogEntry(STORED_MS * 10**6, "a\ufffd b")])]


@pytest.mark.parametrize(
    ("text", "t_ns"),
    [
        ("1700000000", AT_NS),
        ("1700000000000", AT_NS),
        ("1700000000000000", AT_NS),
        ("1700000000000000000", AT_NS),
        ("2023-11-14T22:13:20Z", AT_NS),
        ("2023-11-14T23:13:20.000000001+01:00", AT_NS + 1),
        ("2023-11-14T22:13:20.1234567891Z", AT_NS + 123_456_789),
        ("2023-11-14 22:13:20", AT_NS),
        ("0", 0),
    ],
)
def test_a_time_is_read_in_every_unit_and_to_the_nanosecond(text: str, t_ns: int):
    assert time_ns(text) == t_ns


@pytest.mark.parametrize(
    "text", ["", "yesterday", "-1", "NaN", "1e400", "99999999999999999999", "2023-13-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(DecodeError, match="invalid_time"):
        time_ns(text)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("vector", b"no json", "bad_json"),
        ("vector", b"[1]", "bad_json"),
        ("vector", b'{"message":"\xff"}', "bad_json"),
        ("vector", b'{"a":' * 30 + b"1" + b"}" * 30, "bad_json"),
        ("vector", b'{"a":' * 100_000, "bad_json"),
        ("fluent_bit", b'{"log":"x","@timestamp":"soon"}', "invalid_time"),
        ("otlp_proto", b"\xff", "bad_protobuf"),
        ("otlp_json", b"{", "bad_json"),
        ("loki_json", b"{}", "bad_json"),
    ],
)
def test_a_poison_record_is_refused_with_its_reason(kind: Format, value: bytes, reason: str):
    with pytest.raises(DecodeError) as refused:
        decode_record(kind, value, STORED_MS, JOB)
    assert refused.value.reason == reason


@given(value=st.binary(max_size=40), kind=st.sampled_from(["vector", "fluent_bit", "promtail", "otlp_json", "plain"]))
def test_any_bytes_are_lines_or_refused(value: bytes, kind: Format):
    try:
        found = decode_record(kind, value, STORED_MS, JOB)
    except DecodeError:
        return
    assert all(bytes(stream.labels) == labels.encode(labels.decode(stream.labels)) for stream in found)
