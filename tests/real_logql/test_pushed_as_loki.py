"""What a real Loki makes of the bodies that agents send is what our receivers make of them: labels, lines, metadata.

We take a little more: Loki 3.7.8 refuses structured metadata with a number in it.
"""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from connectors import DecodeError, loki_push, otlp_logs
from connectors._loki_api import ENCODING_FLAGS, read_streams
from engine.core import labels
from engine.core.messages import LogStream
from tests.connectors.test_log_senders import collector, text
from tests.connectors.test_loki_push import protobuf_body
from tests.parts import running_loki

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

NOW_NS = time.time_ns() - 60_000_000_000
Lines = list[tuple[dict[str, str], list[tuple[int, str, dict[str, str]]]]]
PUSH, OTLP = "/loki/api/v1/push", "/otlp/v1/logs"
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        running_loki(tmp_path_factory.mktemp("loki"), limits="") as loki,
        httpx.Client(base_url=loki.url, timeout=30) as client,
    ):
        yield client


def shown(streams: list[LogStream], *, without: str = "") -> Lines:
    """Streams in order, perhaps without one of their labels."""
    found = [
        (
            {name: value for name, value in labels.decode(stream.labels).items() if name != without},
            [(entry.t_ns, entry.line, entry.metadata) for entry in stream.entries],
        )
        for stream in streams
    ]
    return sorted(found, key=str)


def stored(client: httpx.Client, selector: str) -> list[LogStream]:
    form = {"query": selector, "start": str(NOW_NS - 10**9), "end": str(NOW_NS + 10**9), "direction": "forward"}
    answer = client.post("/loki/api/v1/query_range", data=form, headers=ENCODING_FLAGS)
    return read_streams(answer.content)


def json_push(case: str, value: str) -> bytes:
    return ('{"streams":[{"stream":{"case":"' + case + '","n":"1"},"values":[' + value % NOW_NS + "]}]}").encode()


def deflate(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


PUSHES = {
    "plain": (json_push("plain", '["%d","a \\u00e9\\n"]'), JSON),
    "metadata": (json_push("metadata", '["%d","a",{"k":"v","m":"1.50"}]'), JSON),
    "gzip": (gzip.compress(json_push("gzip", '["%d","a"]')), JSON | {"Content-Encoding": "gzip"}),
    "deflate": (deflate(json_push("deflate", '["%d","a"]')), JSON | {"Content-Encoding": "deflate"}),
    "number": (json_push("number", '["%d","a"]').replace(b'"n":"1"', b'"n":1'), JSON),
    "twice": (json_push("twice", '["%d","a"]').replace(b'"n":"1"', b'"n":"1","n":"2"'), JSON),
    "proto": (protobuf_body(('{n="q\\"x", case="proto"}', [(NOW_NS, b"a", {"k": "v"})])), PROTOBUF),
    "snappy": (
        protobuf_body(('{case="snappy"}', [(NOW_NS, b"a", {})])),
        PROTOBUF | {"Content-Encoding": "snappy"},
    ),
    "protogzip": (
        gzip.compress(protobuf_body(('{case="protogzip"}', [(NOW_NS, b"a", {})]))),
        PROTOBUF | {"Content-Encoding": "gzip"},
    ),
}


@pytest.mark.parametrize("case", PUSHES)
def test_a_push_is_stored_as_we_read_it(loki: httpx.Client, case: str) -> None:
    body, headers = PUSHES[case]
    answer = loki.post(PUSH, content=body, headers=headers)
    assert answer.status_code == 204, answer.text
    ours = loki_push.decode(body, headers, 0).events
    assert isinstance(ours, list)
    theirs = stored(loki, f'{{case="{case}"}}')
    assert shown(theirs, without="service_name") == shown(ours)


RECORD = {"time_unix_nano": NOW_NS, "body": text("x")}
RESOURCES = {
    "named": ({}, {"service.name": text("named"), "k8s.pod.name": text("p"), "host.name": text("h")}),
    "container": ({}, {"container.name": text("container")}),
    "attributes": (
        {
            "severity_number": 17,
            "severity_text": "ERROR",
            "flags": 1,
            "observed_time_unix_nano": NOW_NS + 5,
            "trace_id": bytes(range(16)),
            "span_id": bytes(range(8)),
            "attributes": {
                "http.status_code": {"int_value": 500},
                "ratio": {"double_value": 0.5},
                "user": {"kvlist_value": {"values": [{"key": "id", "value": text("7")}]}},
                "tags": {"array_value": {"values": [text("<a>"), {"bool_value": True}]}},
            },
        },
        {"service.name": text("attributes"), "service.namespace": text("ns")},
    ),
    "map": (
        {"body": {"kvlist_value": {"values": [{"key": "b", "value": {"double_value": 1e-7}}]}}},
        {"service.name": text("map")},
    ),
}


@pytest.mark.parametrize("case", RESOURCES)
def test_an_export_of_opentelemetry_is_stored_as_we_read_it(loki: httpx.Client, case: str) -> None:
    record, resource = RESOURCES[case]
    body = collector(RECORD | record, resource, {"name": "lib", "version": "1"})
    answer = loki.post(OTLP, content=body, headers=PROTOBUF)
    assert answer.status_code == 204, answer.text
    ours = otlp_logs.decode(body, PROTOBUF, 0).events
    assert isinstance(ours, list)
    assert shown(stored(loki, f'{{service_name="{case}"}}')) == shown(ours)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (PUSH, msgspec.json.encode({"streams": [{"stream": {"a": "b"}, "values": [["soon", "x"]]}]}), JSON),
        (PUSH, b"{", JSON),
        (PUSH, protobuf_body(('{a="1", a="2"}', [(NOW_NS, b"x", {})])), PROTOBUF),
        (OTLP, collector({"body": text("x"), "attributes": {"___": text("v")}}, {}), PROTOBUF),
        (OTLP, b"{", JSON),
    ],
)
def test_what_loki_refuses_we_refuse(loki: httpx.Client, path: str, body: bytes, headers: dict[str, str]) -> None:
    assert loki.post(path, content=body, headers=headers).status_code == 400
    connector = loki_push if path == PUSH else otlp_logs
    with pytest.raises(DecodeError) as refused:
        connector.decode(body, headers, 0)
    assert refused.value.status == 400
