"""The poller against a loopback server that answers from a table of samples, as Prometheus would."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from connectors._prometheus_api import UP
from engine.core import labels
from engine.core.messages import MetricBatch
from engine.core.rules import RuleGroup, parse_rules
from engine.core.window import is_stale
from engine.edge.prometheus_api import PrometheusPoller
from engine.edge.publisher import ConnectorMetrics, Publisher
from engine.edge.settings_sources import PrometheusApi
from engine.languages import LANGUAGES
from tests.edge.test_receivers import Log

NOW = 1_700_000_000_000
SECOND = 1_000


def groups(*expressions: str) -> list[RuleGroup]:
    rules = "".join(f"      - alert: A{i}\n        expr: {text}\n" for i, text in enumerate(expressions))
    found, problems = parse_rules(f"groups:\n  - name: g\n    rules:\n{rules}", "r.yml", LANGUAGES["promql"])
    assert problems == []
    return found


@dataclass
class Table:
    """Samples by metric name; `ended` are the metrics that have got a staleness marker."""

    samples: dict[str, list[int]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    status: int = 200
    queries: list[tuple[str, float]] = field(default_factory=list)

    async def query(self, request: web.Request) -> web.Response:
        form = await request.post()
        text, at_s = str(form["query"]), float(str(form["time"]))
        self.queries.append((text, at_s))
        if self.status != 200:
            return web.json_response({"status": "error", "error": "too busy"}, status=self.status)
        name = re.search(r'__name__="(\w+)"', text)
        found = re.search(r"\[(\d+)ms\]$", text)
        assert name is not None
        at_ms = round(at_s * 1_000)
        metric: Mapping[str, str] = {"__name__": name[1]}
        held = [t_ms for t_ms in self.samples.get(name[1], []) if t_ms <= at_ms]
        if found:
            values = [[t_ms / 1_000, "1"] for t_ms in held if t_ms >= at_ms - int(found[1])]
            result = [{"metric": metric, "values": values}] if values else []
            return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})
        alive = [t_ms for t_ms in held if t_ms > at_ms - 300_000] and name[1] not in self.ended
        result = [{"metric": metric, "value": [at_s, "1"]}] if alive else []
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


@dataclass
class Site:
    """A poller of that table, its log and its clock."""

    table: Table
    poller: PrometheusPoller
    log: Log
    publisher: Publisher
    registry: CollectorRegistry
    clock: list[int]

    def taken(self, name: str) -> list[int | str]:
        """The times of a metric's samples on the topic, relative to NOW in seconds; a marker as "stale at ..."."""
        found: list[int | str] = []
        for batch in self.log.batches:
            assert isinstance(batch, MetricBatch)
            for row, raw in enumerate(batch.series):
                if labels.decode(raw)["__name__"] == name:
                    at_s = (batch.t_ms[row] - NOW) // SECOND
                    found.append(f"stale at {at_s}" if is_stale(batch.numbers)[row] else at_s)
        return found

    async def poll(self, at_s: int) -> bool:
        self.clock[0] = NOW + at_s * SECOND
        done = await self.poller.poll_once()
        await self.publisher.close()  # waits for the last heartbeat
        return done


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    table, log, clock, registry = Table(), Log(), [NOW], CollectorRegistry()
    app = web.Application()
    app.add_routes([web.post("/api/v1/query", table.query)])
    server = TestServer(app)
    await server.start_server()
    publisher = Publisher(log.send, lambda: clock[0], ConnectorMetrics(registry))
    config = PrometheusApi(name="main", url=str(server.make_url("/")), interval_s=10, settle_s=5, history_chunk_s=100)
    async with httpx.AsyncClient() as client:
        poller = PrometheusPoller(publisher, config, client)
        yield Site(table, poller, log, publisher, registry, clock)
        await publisher.close()
    await server.close()


def every(step_s: int, from_s: int, to_s: int) -> list[int]:
    return [NOW + at_s * SECOND for at_s in range(from_s, to_s, step_s)]


async def test_history_is_filled_as_far_as_the_rules_look_and_then_only_what_is_new(site: Site):
    site.table.samples = {"a": every(10, -1_000, 40), "b": every(10, -1_000, 40)}
    site.poller.read(groups("rate(a[10m]) > 0", "b > 0"))
    assert await site.poll(0)
    assert site.taken("a") == list(range(-600, 0, 10))
    assert site.taken("b") == list(range(-300, 0, 10))
    assert await site.poll(10)
    assert await site.poll(20)
    assert site.taken("a")[60:] == site.taken("b")[30:] == [0, 10]
    assert site.log.batches[-1].watermark_ms == NOW + 15 * SECOND + 1


async def test_history_comes_oldest_first_and_nothing_of_it_is_late(site: Site):
    site.table.samples = {"a": every(10, -1_000, 0)}
    site.poller.read(groups("rate(a[10m]) > 0"))
    await site.poll(0)
    marks = [batch.watermark_ms for batch in site.log.batches]
    assert marks == sorted(marks)
    assert site.registry.get_sample_value("sentinel_dropped_total", {"stage": "connector", "reason": "late"}) is None
    assert site.taken(UP) == [-505, -405, -305, -205, -105, -5]


async def test_an_outage_leaves_no_gap_and_doubles_nothing(site: Site):
    site.table.samples = {"a": every(10, -600, 300)}
    site.poller.read(groups("rate(a[5m]) > 0"))
    await site.poll(0)
    site.table.status = 503
    assert not await site.poll(10)
    stood = site.log.batches[-1].watermark_ms
    assert not await site.poll(200)
    await site.publisher.heartbeat_once()
    assert site.log.batches[-1].watermark_ms == stood  # it waits: what it will bring is not late
    site.table.status = 200
    assert await site.poll(250)
    assert site.taken("a") == list(range(-300, 250, 10))
    counted = {"connector": "prometheus_api", "code": "503"}
    assert site.registry.get_sample_value("sentinel_connector_requests_total", counted) == 2


async def test_what_the_broker_did_not_take_is_asked_for_again(site: Site):
    site.table.samples = {"a": every(10, -600, 300)}
    site.poller.read(groups("rate(a[5m]) > 0"))
    await site.poll(0)
    site.log.failures = 3
    assert not await site.poll(10)
    site.log.failures = 0
    assert await site.poll(20)
    assert site.taken("a") == list(range(-300, 20, 10))


async def test_a_series_that_has_ended_there_ends_here(site: Site):
    site.table.samples = {"a": every(10, -100, 20), "b": every(10, -100, 100)}
    site.poller.read(groups("a > 0", "b > 0"))
    await site.poll(10)
    site.table.ended = {"a"}
    await site.poll(20)
    await site.poll(30)
    assert site.taken("a")[-2:] == [10, "stale at 15"]
    assert "stale" not in str(site.taken("b"))


async def test_selectors_that_a_reload_adds_get_their_history_from_a_source_of_their_own(site: Site):
    site.table.samples = {"a": every(10, -1_000, 100), "b": every(10, -1_000, 100)}
    site.poller.read(groups("rate(a[5m]) > 0"))
    await site.poll(0)
    site.poller.read(groups("rate(a[5m]) > 0", "rate(b[5m]) > 0"))
    await site.poll(10)
    assert site.taken("a") == [*range(-300, 0, 10), 0]
    assert site.taken("b") == list(range(-290, 10, 10))
    assert {batch.source for batch in site.log.batches} == {"prometheus_api/main", "prometheus_api/main/1"}
    site.poller.read(groups("rate(b[5m]) > 0"))
    await site.poll(20)
    assert (site.taken("a")[-1], site.taken("b")[-1]) == (0, 10)


async def test_a_range_that_a_reload_makes_longer_is_filled_anew(site: Site):
    site.table.samples = {"a": every(10, -1_000, 100)}
    site.poller.read(groups("rate(a[5m]) > 0"))
    await site.poll(0)
    site.poller.read(groups("rate(a[10m]) > 0"))
    await site.poll(10)
    assert set(site.taken("a")) == set(range(-590, 10, 10)) | set(range(-300, 0, 10))
