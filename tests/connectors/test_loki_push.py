"""Loki's push format: both forms mean the same, and what Loki would refuse is refused."""

from __future__ import annotations

import gzip
from typing import Any

import cramjam
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import DecodeError
from connectors._labelset import parse_label_set
from connectors.loki_push import MESSAGES, decode
from engine.core.messages import LogEntry, LogStream

T_NS = 1_700_000_000_000_000_005
JSON = {"Content-Type": "application/json; charset=utf-8"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
Stream = tuple[dict[str, str], list[LogEntry]]


def json_body(*streams: Stream) -> bytes:
    def value(entry: LogEntry) -> list[Any]:
        return [str(entry.t_ns), entry.line, *([entry.metadata] if entry.metadata else [])]

    return msgspec.json.encode(
        {"streams": [{"stream": names, "values": [value(entry) for entry in entries]} for names, entries in streams]}
    )


def protobuf_body(*streams: tuple[str, list[tuple[int, bytes, dict[str, str]]]]) -> bytes:
    entry, pair = MESSAGES["Entry"], MESSAGES["LabelPair"]
    request = MESSAGES["PushRequest"](
        streams=[
            MESSAGES["Stream"](
                labels=text,
                entries=[
                    entry(
                        timestamp={"seconds": t_ns // 10**9, "nanos": t_ns % 10**9},
                        line=line,
                        structuredMetadata=[pair(name=name, value=value) for name, value in metadata.items()],
                    )
                    for t_ns, line, metadata in entries
                ],
            )
            for text, entries in streams
        ]
    )
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def streams_of(body: bytes, headers: dict[str, str]) -> list[LogStream]:
    events = decode(body, headers, 0).events
    assert isinstance(events, list)
    return events


def quoted(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in labels.items()) + "}"


def test_json_gzipped_json_and_protobuf_mean_the_same():
    labels = {"namespace": "aureus", "job": "bridge"}
    entries = [LogEntry(T_NS, "one"), LogEntry(T_NS + 1, "two", {"trace_id": "7"})]
    plain = json_body((labels, entries))
    forms = [
        streams_of(plain, JSON),
        streams_of(gzip.compress(plain), JSON | {"Content-Encoding": "gzip"}),
        streams_of(plain, JSON | {"Content-Encoding": "gzip"}),  # undone by the HTTP server already
        streams_of(protobuf_body((quoted(labels), [(e.t_ns, e.line.encode(), e.metadata) for e in entries])), PROTOBUF),
    ]
    for form in forms:
        assert [(bytes(stream.labels), stream.entries) for stream in form] == [
            (b'{"job":"bridge","namespace":"aureus"}', entries)
        ]


def test_lines_are_put_in_order_and_equal_times_keep_theirs():
    entries = [LogEntry(T_NS + 1, "b"), LogEntry(T_NS, "a1"), LogEntry(T_NS, "a2")]
    (stream,) = streams_of(json_body(({"job": "a"}, entries)), JSON)
    assert [entry.line for entry in stream.entries] == ["a1", "a2", "b"]


def test_streams_without_lines_are_nothing():
    assert streams_of(json_body(({"job": "a"}, [])), JSON) == []


def test_bytes_of_a_protobuf_line_that_are_not_utf8_become_replacement_characters():
    (stream,) = streams_of(protobuf_body(('{job="a"}', [(T_NS, b"a\xffb", {})])), PROTOBUF)
    assert stream.entries[0].line == "a�b"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"streams":[{"stream":{"a":"b"},"values":[["x","line"]]}]}', "$.streams[0].values[0][0]"),
        (b'{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}', "$.streams[0].values[0]"),
        (b'{"streams":[{"stream":{"a":"b"},"values":[["1",2]]}]}', "$.streams[0].values[0][1]"),
        (b'{"streams":[{"stream":{"a":[1]},"values":[["1","x"]]}]}', "text or a number"),
        (b'{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"c":[]}]]}]}', "text or a number"),
        (b'{"streams":[{"stream":{"a":"b"},"values":[["1","x","c"]]}]}', "$.streams[0].values[0][2]"),
        (b'{"streams":[{"values":[]}]}', "`stream`"),
        (b'{"streams":[{"stream":{"a":"b"},"values":[["1","\xff"]]}]}', "utf-8"),
        (b'{"x":' * 100_000, "recursion"),
    ],
)
def test_malformed_json_is_refused_saying_where(body: bytes, where: str):
    with pytest.raises(DecodeError) as refused:
        decode(body, JSON, 0)
    assert refused.value.reason == "bad_json"
    assert where in refused.value.detail


@pytest.mark.parametrize(
    ("body", "headers", "reason", "status"),
    [
        (json_body(({}, [LogEntry(1, "x")])), JSON, "invalid_labels", 400),
        (json_body(({"a": "b"}, [LogEntry(-1, "x")])), JSON, "invalid_time", 400),
        (json_body(({"a": "b"}, [LogEntry(2**63, "x")])), JSON, "invalid_time", 400),
        (protobuf_body(("{a=b}", [(1, b"x", {})])), PROTOBUF, "invalid_labels", 400),
        (b"x", {"Content-Type": "application/x-www-form-urlencoded"}, "unsupported_content_type", 415),
        (b"x", {}, "unsupported_content_type", 415),
        (b"x", JSON | {"Content-Encoding": "br"}, "unsupported_encoding", 415),
        (gzip.compress(b"0" * (64 * 1024 * 1024 + 1)), JSON, "body_too_large", 413),
        (b"\x1f\x8b123", JSON, "bad_gzip", 400),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(body: bytes, headers: dict[str, str], reason: str, status: int):
    with pytest.raises(DecodeError) as refused:
        decode(body, headers, 0)
    assert (refused.value.reason, refused.value.status) == (reason, status)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{}", {}),
        ('{a="b"}', {"a": "b"}),
        (' { a = "b" , c_1="" } ', {"a": "b", "c_1": ""}),
        ('{a="b",}', {"a": "b"}),
        (r'{a="q\"b\\\n\t"}', {"a": 'q"b\\\n\t'}),
        (r'{a="\x41\101\u00e9\U0001F600"}', {"a": "AAé😀"}),
        (r'{a="\xc3\xa9"}', {"a": "é"}),
        ("{a=`b\\n`}", {"a": "b\\n"}),
        ('{a="},{="}', {"a": "},{="}),
    ],
)
def test_a_label_set_is_read_as_go_writes_it(text: str, labels: dict[str, str]):
    assert parse_label_set(text) == labels


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("a", 1),
        ("{", 1),
        ('{a="b"', 1),
        ('{a="b"}x', 1),
        ("{a=b}", 2),
        ('{a="b" c="d"}', 8),
        ('{a="b",,}', 8),
        ('{a="b",a="c"}', 8),
        ('{1a="b"}', 2),
        (r'{a="\q"}', 4),
        (r'{a="\xff"}', 4),
        (r'{a="\ud800"}', 4),
        (r'{a="\U00110000"}', 4),
        ('{a="b\nc"}', 2),
        ('{a=~"b"}', 2),
    ],
)
def test_anything_else_is_refused_with_its_column(text: str, column: int):
    with pytest.raises(DecodeError, match=f"column {column} of"):
        parse_label_set(text)


@given(st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_any_label_set_survives_quoting(labels: dict[str, str]):
    assert parse_label_set(quoted(labels)) == labels
