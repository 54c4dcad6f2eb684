"""The reader against a loopback server that answers from a table of lines, as Loki would, and loses what it is told to.

The real Loki is in `tests/e2e/test_loki_source.py`; here time is set by hand and each fault comes alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
import httpx
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from engine.core.messages import LogBatch
from engine.edge.loki_client import LokiClient
from engine.edge.loki_reader import LokiReader, Remembered
from engine.edge.publisher import ConnectorMetrics, Publisher
from engine.edge.settings_sources import LokiApi
from tests.connectors.test_loki_api import groups
from tests.edge.test_receivers import Log
from tests.waiting import until

NOW = 1_700_000_000_000
SECOND = 1_000
RULE = "'count_over_time({app=\"a\"}[5m]) > 0'"


@dataclass
class Table:
    """Lines by time in nanoseconds, and how the server behaves."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    tails: list[web.WebSocketResponse] = field(default_factory=list)
    tenants: set[str] = field(default_factory=set)

    def put(self, at_s: float, *texts: str) -> None:
        self.lines += [(round((NOW / 1_000 + at_s) * 1_000) * 1_000_000, text) for text in texts]

    async def query(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.tenants.add(request.headers.get("X-Scope-OrgID", ""))
        if self.status != 200:
            return web.Response(status=self.status, text="too busy")
        span = re.search(r"\[(\d+)ms\]", str(form["query"]))
        assert span is not None
        to_ns = int(str(form["time"]))
        from_ns = to_ns - int(span[1]) * 1_000_000
        count = sum(1 for t_ns, _ in self.lines if from_ns < t_ns <= to_ns)
        self.asked.append("count")
        result = [{"metric": {}, "value": [0, str(count)]}] if count else []
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    async def query_range(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if self.status != 200:
            return web.Response(status=self.status, text="too busy")
        assert form["direction"] == "forward"
        self.asked.append("lines")
        held = sorted(line for line in self.lines if int(form["start"]) <= line[0] < int(form["end"]))
        values = [[str(t_ns), text] for t_ns, text in held[: int(form["limit"])]]
        result = [{"stream": {"app": "a"}, "values": values}] if values else []
        return web.json_response({"status": "success", "data": {"resultType": "streams", "result": result}})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.tails.append(socket)
        async for _ in socket:
            pass
        return socket

    async def tell(self, at_s: float, *texts: str) -> None:
        """Lines come in, and the tail tells of them."""
        before = len(self.lines)
        self.put(at_s, *texts)
        values = [[str(t_ns), text] for t_ns, text in self.lines[before:]]
        await self.tails[-1].send_str(
            msgspec.json.encode({"streams": [{"stream": {"app": "a"}, "values": values}]}).decode()
        )


@dataclass
class Nothing:
    """A memory of nothing, or of what it is given."""

    found: Remembered | None = None

    async def recall(self, source: str, since_ms: int) -> Remembered | None:
        return self.found


@dataclass
class Site:
    """A reader of that table, its log and its clock."""

    table: Table
    log: Log
    clock: list[int]
    registry: CollectorRegistry
    publisher: Publisher
    stack: AsyncExitStack
    url: str
    memory: Nothing = field(default_factory=Nothing)

    async def reader(self, **settings: object) -> LokiReader:
        config = LokiApi.model_validate(
            {"name": "main", "url": self.url, "lateness_ms": 2_000, "settle_ms": 10_000, "tail": False} | settings
        )
        http = await self.stack.enter_async_context(httpx.AsyncClient())
        websockets = await self.stack.enter_async_context(aiohttp.ClientSession())
        reader = LokiReader(self.publisher, config, LokiClient(config, http, websockets), self.memory)
        reader.read(groups(RULE))
        return reader

    async def check(self, reader: LokiReader, at_s: float) -> bool:
        self.clock[0] = NOW + round(at_s * SECOND)
        return await reader.check_once()

    @property
    def complete_s(self) -> float:
        return (self.log.batches[-1].watermark_ms - NOW) / SECOND


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    table, log, clock, registry = Table(), Log(), [NOW], CollectorRegistry()
    app = web.Application()
    app.add_routes(
        [
            web.post("/loki/api/v1/query", table.query),
            web.post("/loki/api/v1/query_range", table.query_range),
            web.get("/loki/api/v1/tail", table.tail),
        ]
    )
    server = TestServer(app)
    await server.start_server()
    publisher = Publisher(log.send, lambda: clock[0], ConnectorMetrics(registry))
    async with AsyncExitStack() as stack:
        yield Site(table, log, clock, registry, publisher, stack, str(server.make_url("/")))
        await publisher.close()
    await server.close()


async def test_windows_are_filled_as_far_as_rules_look_and_then_only_what_is_new(site: Site) -> None:
    for at_s in (-400, -299, -10, -1, 3):
        site.table.put(at_s, f"at {at_s}")
    reader = await site.reader()
    assert await site.check(reader, 0)
    assert site.log.lines() == ["at -299", "at -10"]
    assert site.complete_s == -2
    assert await site.check(reader, 1)
    assert await site.check(reader, 6)
    assert site.log.lines() == ["at -299", "at -10", "at -1", "at 3"]
    assert site.complete_s == 4


async def test_history_comes_in_pages_and_lines_of_one_time_at_their_borders_are_taken_once(site: Site) -> None:
    for at_s in range(-100, -50):
        site.table.put(at_s, *(f"{at_s} {number}" for number in range(7)))
    reader = await site.reader(page_lines=100)
    await site.check(reader, 0)
    assert sorted(site.log.lines()) == sorted(text for _, text in site.table.lines)
    assert site.table.asked.count("lines") >= 4


async def test_more_lines_of_one_time_than_a_page_holds_make_the_page_larger(site: Site) -> None:
    site.table.put(-50, *(f"same {number}" for number in range(350)))
    reader = await site.reader(page_lines=100)
    assert await site.check(reader, 0)
    assert len(site.log.lines()) == 350


async def test_more_than_any_page_holds_stop_the_source_and_are_told_of(site: Site) -> None:
    site.table.put(-50, *(f"same {number}" for number in range(1_700)))
    reader = await site.reader(page_lines=100)
    assert not await site.check(reader, 0)
    counted = {"connector": "loki", "code": "same_time"}
    assert site.registry.get_sample_value("sentinel_connector_requests_total", counted) == 1


async def test_while_loki_is_away_time_stands_still_and_afterwards_waits_for_what_agents_held_back(site: Site) -> None:
    reader = await site.reader()
    await site.check(reader, 0)
    site.table.status = 503
    assert not await site.check(reader, 5)
    assert site.complete_s == -2
    site.table.status = 200
    site.table.put(4, "during the outage")
    assert await site.check(reader, 8)
    site.table.put(5, "held back")  # older than lateness, but no line of this time was promised
    assert await site.check(reader, 12)
    assert site.complete_s == -2
    assert await site.check(reader, 18)
    assert site.complete_s == 16
    assert site.log.lines() == ["during the outage", "held back"]


async def test_what_the_broker_did_not_take_is_asked_for_again(site: Site) -> None:
    reader = await site.reader()
    await site.check(reader, 0)
    site.table.put(1, "a", "b")
    site.log.failures = 1
    assert not await site.check(reader, 5)
    assert site.complete_s == -2
    assert await site.check(reader, 6)
    assert site.log.lines() == ["a", "b"]
    assert site.complete_s == 4


async def test_lines_that_come_later_than_their_lateness_are_counted_and_kept_out(site: Site) -> None:
    reader = await site.reader(tail=True)
    await site.check(reader, 10)
    reader._follow()
    await until(lambda: len(site.table.tails) == 1)
    await site.table.tell(7, "too late")
    late = {"stage": "connector", "reason": "late"}
    await until(lambda: site.registry.get_sample_value("sentinel_dropped_total", late) == 1)
    await reader.close()
    assert site.log.lines() == []


async def test_the_tail_brings_lines_early_and_where_it_lost_none_there_is_nothing_to_fetch(site: Site) -> None:
    reader = await site.reader(tail=True)
    await site.check(reader, 0)
    reader._follow()
    await until(lambda: len(site.table.tails) == 1)
    await site.table.tell(0.5, "a", "b")
    await until(lambda: site.log.lines() == ["a", "b"])
    assert site.complete_s == -2  # early, but not yet promised
    site.table.asked.clear()
    assert await site.check(reader, 4)
    assert site.table.asked == ["count"]
    site.table.put(3, "the tail lost this one")
    await site.table.tell(3, "c")
    await until(lambda: site.log.lines() == ["a", "b", "c"])
    assert await site.check(reader, 6)
    assert site.table.asked == ["count", "count", "lines"]
    assert site.log.lines() == ["a", "b", "c", "the tail lost this one"]
    await reader.close()


async def test_a_tail_that_breaks_is_opened_again(site: Site) -> None:
    reader = await site.reader(tail=True)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    reader._sleep = sleep
    await site.check(reader, 0)
    reader._follow()
    await until(lambda: len(site.table.tails) == 1)
    await site.table.tails[0].close()
    await until(lambda: len(site.table.tails) == 2)
    assert pauses
    await reader.close()


async def test_an_earlier_run_s_lines_are_not_taken_again_and_it_goes_on_where_that_was_complete(site: Site) -> None:
    first = await site.reader()
    site.table.put(-20, "old")
    site.table.put(-1, "sent early")
    await site.check(first, 1.5)
    sent = [stream for batch in site.log.batches if isinstance(batch, LogBatch) for stream in batch.streams]
    site.memory.found = Remembered(NOW - 10 * SECOND, sent)
    site.publisher._sources.clear()  # a new process
    second = await site.reader()
    site.table.put(-15, "before what was complete")
    site.table.put(-5, "new")
    await site.check(second, 3)
    assert site.log.lines() == ["old", "sent early", "new"]


async def test_the_tenant_is_named_in_every_request(site: Site) -> None:
    reader = await site.reader(tenant="team-a", tail=True)
    await site.check(reader, 0)
    reader._follow()
    await until(lambda: len(site.table.tails) == 1)
    await until(lambda: len(reader._tailed) == 1)
    await site.check(reader, 3)
    assert site.table.tenants == {"team-a"}
    await reader.close()
