"""What a hostile or broken sender of logs can do to a receiver: each is handled as documented, and counted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from engine.core.messages import LogBatch, encode
from engine.edge.sender import MAX_MESSAGE_BYTES
from tests.connectors.test_contract import OTLP_JSON, T_MS
from tests.connectors.test_log_senders import nested
from tests.connectors.test_loki_push import protobuf_body
from tests.edge.test_receivers import PUSH, Site, push

OTLP = "/otlp/v1/logs"
T_NS = T_MS * 1_000_000
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(max_body_bytes=32 * 1024 * 1024)
    await site.server.start_server()
    yield site
    await site.session.close()
    await site.server.close()
    await site.publisher.close()


def dropped(site: Site, reason: str) -> float | None:
    return site.counter("sentinel_dropped_total", stage="connector", reason=reason)


async def test_a_line_of_5_mb_is_left_out_and_counted_and_its_neighbours_are_taken(site: Site):
    values = [[str(T_NS), "before"], [str(T_NS + 1), "x" * 5_000_000], [str(T_NS + 2), "after"]]
    body = msgspec.json.encode({"streams": [{"stream": {"job": "a"}, "values": values}]})
    assert await site.post(body=body) == (204, "")
    assert site.log.lines() == ["before", "after"]
    assert dropped(site, "line_too_long") == 1


async def test_invalid_utf8_is_refused_in_json_and_replaced_in_protobuf(site: Site):
    status, text = await site.post(body=push("x").replace(b'"x"', b'"\xff"'))
    assert (status, text.split(":")[0]) == (400, "bad_json")
    assert (await site.post(body=protobuf_body(('{job="a"}', [(T_NS, b"a\xffb", {})])), headers=PROTOBUF))[0] == 204
    assert site.log.lines() == ["a\ufffdb"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PUSH, b'{"streams":' + b"[" * 1_000_000),
        (PUSH, b'{"streams":[{"stream":{"a":"b"},"values":[["1","x",' + b'{"a":' * 500_000),
        (OTLP, b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + nested(200_000) + b"]}]}]}"),
    ],
)
async def test_deeply_nested_json_is_refused_with_a_reason(site: Site, path: str, body: bytes):
    status, text = await site.post(path, body)
    assert (status, text.split(":")[0]) == (400, "bad_json")
    assert site.log.batches == []


async def test_a_line_that_is_itself_nested_deeply_is_a_line_like_any_other(site: Site):
    line = "[" * 100_000
    assert (await site.post(body=push(line)))[0] == 204
    assert site.log.lines() == [line]


async def test_100_000_streams_of_one_request_are_taken_in_messages_that_fit(site: Site):
    streams = [{"stream": {"user": f"u{i}"}, "values": [[str(T_NS), f"line {i}"]]} for i in range(100_000)]
    started_s = time.process_time()
    assert (await site.post(body=msgspec.json.encode({"streams": streams})))[0] == 204
    assert time.process_time() - started_s < 20  # it is about one second; what grows with the square is not
    assert len(site.log.lines()) == 100_000
    batches = [batch for batch in site.log.batches if isinstance(batch, LogBatch)]
    assert max(len(encode(batch)) for batch in batches) < MAX_MESSAGE_BYTES
    assert len(batches) > 1


async def test_opentelemetry_s_request_is_on_the_topic_when_it_is_answered(site: Site):
    assert await site.post(OTLP, OTLP_JSON, {"Content-Type": "application/json"}) == (204, "")
    assert site.log.lines() == ["hello"]
    assert site.counter("sentinel_connector_events_total", source_kind="logs", connector="otlp_logs") == 1


@pytest.mark.parametrize("path", [PUSH, OTLP])
async def test_a_broker_that_is_away_makes_every_agent_try_again(site: Site, path: str):
    """Promtail, Alloy and Docker's driver retry 429 and 5xx; Vector the same; the Collector 429, 502, 503 and 504."""
    site.log.failures = 1
    body = push("x") if path == PUSH else OTLP_JSON
    assert (await site.post(path, body, {"Content-Type": "application/json"}))[0] == 503
    assert site.retry_after == "5"
