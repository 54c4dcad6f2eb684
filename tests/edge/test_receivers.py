"""The receivers over real loopback HTTP, with a log in memory in the broker's place."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from io import BytesIO

import aiohttp
import cramjam
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from connectors import Connector, DecodeError
from engine.core.messages import Batch, LogBatch, MetricBatch, decode_batch
from engine.core.sources import SourceTiming
from engine.edge.publisher import ConnectorMetrics, Publisher, PublisherLimits
from engine.edge.receivers import Receivers
from tests.connectors import test_remote_write_v2 as v2
from tests.connectors.test_contract import LOKI_JSON, T_MS, loki_protobuf_body, remote_write_body
from tests.waiting import until

JSON = {"Content-Type": "application/json", "X-Scope-OrgID": "team", "User-Agent": "agent"}
PUSH = "/loki/api/v1/push"


class Log:
    """A broker in memory: stores in the order of calls, acknowledges when the gate is open, fails on request."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.topics: list[tuple[str, bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self._arrived = asyncio.Condition()

    async def send(self, topic: str, key: bytes, value: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("broker away")
        self.topics.append((topic, key))
        self.batches.append(decode_batch(value))
        async with self._arrived:
            self._arrived.notify_all()
        await self.gate.wait()

    async def holds(self, number: int) -> None:
        """Wait until so many batches were stored."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.batches) >= number)

    def lines(self) -> list[str]:
        batches = [batch for batch in self.batches if isinstance(batch, LogBatch)]
        return [entry.line for batch in batches for stream in batch.streams for entry in stream.entries]

    def times(self) -> list[int]:
        return [t_ms for batch in self.batches if isinstance(batch, MetricBatch) for t_ms in batch.t_ms]


class Site:
    """A running receiver: its log, publisher, counters, clock and address."""

    def __init__(
        self,
        limits: PublisherLimits | None = None,
        connectors: list[Connector] | None = None,
        max_body_bytes: int = 10_000,
    ) -> None:
        self.now_ms = T_MS
        self.log = Log()
        self.registry = CollectorRegistry()
        metrics = ConnectorMetrics(self.registry)
        self.publisher = Publisher(self.log.send, lambda: self.now_ms, metrics, limits)
        timings = {"loki_push": SourceTiming(lateness_ms=50, idle_after_ms=1_000)}
        receivers = Receivers(self.publisher, timings, max_body_bytes=max_body_bytes, connectors=connectors)
        app = web.Application()
        app.add_routes(receivers.routes())
        self.server = TestServer(app)
        self.session = aiohttp.ClientSession()

    async def post(
        self, path: str = PUSH, body: bytes = LOKI_JSON, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        async with self.session.post(
            self.server.make_url(path), data=BytesIO(body), headers=headers or JSON
        ) as response:
            self.retry_after = response.headers.get("Retry-After")
            self.written = {
                name.removeprefix("X-Prometheus-Remote-Write-"): value
                for name, value in response.headers.items()
                if name.startswith("X-Prometheus-Remote-Write-")
            }
            return response.status, await response.text()

    def counter(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


Start = Callable[..., Site]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., asyncio.Future[Site]]]:
    sites: list[Site] = []

    async def start_site(**options: object) -> Site:
        site = Site(**options)  # type: ignore[arg-type]  # a test names Site's own options
        sites.append(site)
        await site.server.start_server()
        return site

    yield start_site
    for site in sites:
        site.log.gate.set()
        await site.session.close()
        await site.server.close()
        await site.publisher.close()


def push(line: str, t_ms: int = T_MS) -> bytes:
    return b'{"streams":[{"stream":{"job":"a"},"values":[["%d","%s"]]}]}' % (t_ms * 1_000_000, line.encode())


@pytest.mark.parametrize(
    ("path", "body", "headers", "topic"),
    [
        (PUSH, LOKI_JSON, {"Content-Type": "application/json"}, "logs"),
        (PUSH, gzip.compress(LOKI_JSON), {"Content-Type": "application/json", "Content-Encoding": "gzip"}, "logs"),
        (PUSH, loki_protobuf_body(), {"Content-Type": "application/x-protobuf"}, "logs"),
        (
            "/api/v1/write",
            remote_write_body(),
            {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"},
            "metrics",
        ),
    ],
)
async def test_a_good_request_is_on_its_topic_when_it_is_answered(
    start: Start, path: str, body: bytes, headers: dict[str, str], topic: str
):
    site = await start()
    assert await site.post(f"{path}?source=one", body, headers) == (204, "")
    connector = {"logs": "loki_push", "metrics": "remote_write"}[topic]
    assert site.log.topics == [(topic, f"{connector}//one".encode())]
    (batch,) = site.log.batches
    assert (batch.source, batch.epoch, batch.seq, batch.received_ms) == (f"{connector}//one", T_MS, 1, T_MS)
    assert site.counter("sentinel_connector_requests_total", connector=connector, code="204") == 1
    assert site.counter("sentinel_connector_events_total", source_kind=topic, connector=connector) >= 1


async def test_a_source_is_its_connector_tenant_and_sender(start: Start):
    site = await start()
    await site.post()
    await site.post(PUSH + "?source=host-7")
    assert [batch.source for batch in site.log.batches] == ["loki_push/team/127.0.0.1 agent", "loki_push/team/host-7"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", {}, 400, "empty_body"),
        (b"{", {}, 400, "bad_json"),
        (b"x", {"Content-Type": "text/csv"}, 415, "unsupported_content_type"),
        (b"x" * 10_001, {}, 413, "body_too_large"),
        (gzip.compress(b" " * 100_000), {"Content-Encoding": "gzip"}, 413, "body_too_large"),
        (b"no gzip", {"Content-Encoding": "gzip"}, 400, "bad_body"),
        (LOKI_JSON, {"X-Scope-OrgID": "t" * 201}, 400, "invalid_source"),
    ],
)
async def test_what_cannot_be_used_is_answered_with_the_reason_and_nothing_is_taken(
    start: Start, body: bytes, headers: dict[str, str], status: int, text: str
):
    site = await start()
    answered, reason = await site.post(body=body, headers=JSON | headers)
    assert answered == status
    assert reason.startswith(text)
    assert site.log.batches == []


async def test_a_chunked_body_over_the_limit_is_refused_as_it_arrives(start: Start):
    site = await start()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000

    async with site.session.post(site.server.make_url(PUSH), data=chunks(), headers=JSON) as response:
        assert response.status == 413


async def test_the_answer_waits_for_the_broker(start: Start):
    site = await start()
    site.log.gate.clear()
    waiting = asyncio.create_task(site.post())
    await site.log.holds(1)
    assert not waiting.done()
    site.log.gate.set()
    assert (await waiting)[0] == 204


async def test_requests_of_one_source_that_wait_go_on_together_in_one_message(start: Start):
    site = await start()
    site.log.gate.clear()
    requests = [asyncio.create_task(site.post(body=push(f"line {i}"))) for i in range(50)]
    await site.log.holds(1)
    await until(lambda: site.publisher.unacknowledged == 50)
    site.log.gate.set()
    assert {status for status, _ in await asyncio.gather(*requests)} == {204}
    assert [batch.seq for batch in site.log.batches] == [1, 2]
    assert sorted(site.log.lines()) == sorted(f"line {i}" for i in range(50))


async def test_requests_that_fail_together_are_each_told_so(start: Start):
    site = await start()
    site.log.gate.clear()
    first = asyncio.create_task(site.post(body=push("first")))
    await site.log.holds(1)
    others = [asyncio.create_task(site.post(body=push(f"line {i}"))) for i in range(3)]
    await until(lambda: site.publisher.unacknowledged == 4)
    site.log.failures = 1
    site.log.gate.set()
    assert (await first)[0] == 204
    assert {status for status, _ in await asyncio.gather(*others)} == {503}


async def test_a_broker_that_fails_is_told_to_the_client_and_the_retry_is_not_late(start: Start):
    site = await start()
    await site.post(body=push("first"))
    site.log.failures = 1
    assert (await site.post(body=push("second", T_MS + 10)))[0] == 503
    assert site.retry_after == "5"
    site.now_ms += 20_000  # long enough for an idle source to run on with the wall clock
    await site.publisher.heartbeat_once()
    assert (await site.post(body=push("second", T_MS + 10)))[0] == 204
    assert site.log.lines() == ["first", "second"]
    assert site.counter("sentinel_dropped_total", stage="connector", reason="late") is None


async def test_a_backlog_over_the_limit_is_told_to_the_client(start: Start):
    site = await start(limits=PublisherLimits(max_pending_bytes=1))
    site.log.gate.clear()
    waiting = asyncio.create_task(site.post())
    await site.log.holds(1)
    assert (await site.post())[0] == 503
    site.log.gate.set()
    assert (await waiting)[0] == 204


async def test_a_broker_that_never_answers_is_told_to_the_client(start: Start):
    site = await start(limits=PublisherLimits(ack_timeout_s=0.01))
    site.log.gate.clear()
    status, text = await site.post()
    assert (status, text) == (503, "unavailable: the broker did not acknowledge within 0.01 s\n")


async def test_a_source_beyond_the_limit_is_refused_and_the_known_ones_go_on(start: Start):
    site = await start(limits=PublisherLimits(max_sources=1))
    answers = [(await site.post(f"{PUSH}?source={name}"))[0] for name in ("one", "two", "one")]
    assert answers == [204, 429, 204]


async def test_late_lines_are_counted_and_answered_with_success(start: Start):
    site = await start()
    await site.post(body=push("now"))
    site.now_ms += 50
    await site.publisher.heartbeat_once()
    assert (await site.post(body=push("old", T_MS - 1)))[0] == 204
    assert site.counter("sentinel_dropped_total", stage="connector", reason="late") == 1


#  watermark              T    (two samples of one request lie before it)
#  first request          x
#  second request   x x   x x
async def test_late_samples_are_told_to_remote_write_and_the_good_ones_kept(start: Start):
    site = await start()
    up = v2.Series(v2.UP, [(1.0, T_MS)])
    body = bytes(cramjam.snappy.compress_raw(v2.request(up)))
    assert await site.post("/api/v1/write?source=p", body, v2.HEADERS) == (204, "")
    assert site.written == {"Samples-Written": "1", "Histograms-Written": "0", "Exemplars-Written": "0"}
    site.now_ms += 10_000  # so long other shards of the sender are waited for
    await site.publisher.heartbeat_once()
    times = [T_MS - 2, T_MS - 1, T_MS + 1, T_MS + 2]
    body = bytes(cramjam.snappy.compress_raw(v2.request(v2.Series(v2.UP, [(1.0, t_ms) for t_ms in times]))))
    status, text = await site.post("/api/v1/write?source=p", body, v2.HEADERS)
    assert (status, text) == (400, "partial_write: 2 samples were written, 2 were not (late: 2)\n")
    assert site.written["Samples-Written"] == "2"
    assert site.counter("sentinel_dropped_total", stage="connector", reason="late") == 2
    assert site.log.times() == [T_MS, T_MS + 1, T_MS + 2]


async def test_a_heartbeat_tells_how_far_a_quiet_source_is(start: Start):
    site = await start()
    await site.post(PUSH + "?source=one")
    site.now_ms += 50
    await site.publisher.heartbeat_once()
    assert isinstance(site.log.batches[-1], LogBatch)
    assert (site.log.batches[-1].streams, site.log.batches[-1].watermark_ms) == ([], T_MS + 2)
    assert site.counter("sentinel_source_watermark_ms", source="loki_push/team/one") == T_MS + 2


async def test_heartbeats_that_fail_are_said_again(start: Start):
    site = await start()
    await site.post()
    site.now_ms += 50
    site.log.failures = 1
    await site.publisher.heartbeat_once()
    assert len(site.log.batches) == 1
    site.now_ms += 100
    await site.publisher.heartbeat_once()
    assert [batch.seq for batch in site.log.batches] == [1, 3]


async def test_the_heartbeat_loop_beats_at_its_interval(start: Start):
    site = await start()
    await site.post()
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        site.now_ms += 25
        if len(naps) == 4:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await site.publisher.run_heartbeats(0.025, sleep)
    await site.publisher.close()
    assert naps == [0.025] * 4
    assert [batch.watermark_ms - T_MS for batch in site.log.batches] == [-50, 2]


async def test_any_connector_with_a_path_gets_a_route(start: Start):
    def refuse(body: bytes, headers: object, received_ms: int) -> object:
        raise DecodeError("never", "not today", 422)

    connector = Connector("other", "logs", refuse, SourceTiming(0, 0), path="/other")  # type: ignore[arg-type]  # never returns
    site = await start(connectors=[connector])
    assert await site.post("/other") == (422, "never: not today\n")
