"""The scraper against a real loopback HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from engine.core import labels
from engine.core.messages import MetricBatch
from engine.edge.publisher import ConnectorMetrics, Publisher
from engine.edge.scraper import Scraper
from engine.edge.settings import ScrapeTarget
from tests.edge.test_receivers import Log

NOW = 1_700_000_000_000


class Exporter:
    """A /metrics page that can be changed, broken or made to hang."""

    def __init__(self) -> None:
        self.page = "a 1\n"
        self.status = 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.accepted: list[str] = []
        app = web.Application()
        app.add_routes([web.get("/metrics", self._serve)])
        self.server = TestServer(app)

    async def _serve(self, request: web.Request) -> web.Response:
        self.accepted.append(request.headers["Accept"])
        await self.may_answer.wait()
        return web.Response(status=self.status, text=self.page)


class Bench:
    """A scraper with one target, a log, and clocks that stand still unless moved."""

    def __init__(self, exporter: Exporter, client: httpx.AsyncClient, timeout_s: float = 10) -> None:
        self.now_ms = NOW
        self.elapsed_s = 0.0
        self.log = Log()
        self.naps: list[float] = []
        self.registry = CollectorRegistry()
        self.publisher = Publisher(self.log.send, lambda: self.now_ms, ConnectorMetrics(self.registry))
        config = ScrapeTarget(
            job="bridge",
            url=str(exporter.server.make_url("/metrics")),
            interval_s=15,
            timeout_s=timeout_s,
            labels={"namespace": "aureus"},
        )
        self.scraper = Scraper(self.publisher, [config], client, self._sleep, self._elapsed)
        (self.target,) = self.scraper.targets

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now_ms += round(seconds * 1_000)
        if len(self.naps) > 3:
            raise asyncio.CancelledError

    def _elapsed(self) -> float:
        self.elapsed_s += 0.125
        return self.elapsed_s

    def data(self) -> list[dict[str, float | str]]:
        """By batch with samples: series name -> value."""
        out = []
        for batch in self.log.batches:
            assert isinstance(batch, MetricBatch)
            names = [labels.decode(raw)["__name__"] for raw in batch.series]
            if names:
                values = [batch.special.get(str(i), value) for i, value in enumerate(batch.values)]
                out.append(dict(zip(names, values, strict=True)))
        return out


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    page = Exporter()
    await page.server.start_server()
    yield page
    page.may_answer.set()
    await page.server.close()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as held:
        yield held


async def test_a_scrape_sends_the_page_and_its_companions_with_the_targets_labels(exporter: Exporter, client):
    bench = Bench(exporter, client)
    assert await bench.scraper.scrape_once(bench.target)
    await bench.publisher.close()
    assert bench.data() == [{"a": 1, "up": 1, "scrape_duration_seconds": 0.125, "scrape_samples_scraped": 1}]
    batch = bench.log.batches[0]
    assert isinstance(batch, MetricBatch)
    assert labels.decode(batch.series[0]) == {
        "__name__": "a",
        "job": "bridge",
        "namespace": "aureus",
        "instance": f"127.0.0.1:{exporter.server.port}",
    }
    assert exporter.accepted[0].startswith("text/plain")


async def test_a_scrape_is_complete_as_soon_as_the_broker_has_it(exporter: Exporter, client):
    bench = Bench(exporter, client)
    await bench.scraper.scrape_once(bench.target)
    await bench.publisher.close()
    assert [(batch.seq, batch.watermark_ms) for batch in bench.log.batches] == [(1, NOW), (2, NOW + 1)]


@pytest.mark.parametrize("fault", ["status", "page", "away", "hangs"])
async def test_a_failed_scrape_is_up_zero_and_the_end_of_its_series(exporter: Exporter, client, fault: str):
    bench = Bench(exporter, client, timeout_s=0.05 if fault == "hangs" else 10)
    await bench.scraper.scrape_once(bench.target)
    bench.now_ms += 15_000
    if fault == "hangs":
        exporter.may_answer.clear()
    exporter.status = 500 if fault == "status" else 200
    exporter.page = "a" if fault == "page" else exporter.page
    if fault == "away":
        await exporter.server.close()
    await bench.scraper.scrape_once(bench.target)
    await bench.publisher.close()
    assert bench.data()[1] == {"a": "stale", "up": 0, "scrape_duration_seconds": 0.125, "scrape_samples_scraped": 0}


async def test_a_scrape_that_the_broker_did_not_take_is_counted_and_its_series_still_end(exporter: Exporter, client):
    bench = Bench(exporter, client)
    await bench.scraper.scrape_once(bench.target)
    exporter.page = "b 1\n"
    bench.now_ms += 15_000
    await bench.publisher.close()
    bench.log.failures = 9
    assert not await bench.scraper.scrape_once(bench.target)
    dropped = {"stage": "connector", "reason": "broker_unavailable"}
    assert bench.registry.get_sample_value("sentinel_dropped_total", dropped) == 5
    bench.log.failures = 0
    exporter.page = "c 1\n"
    bench.now_ms += 15_000
    await bench.scraper.scrape_once(bench.target)
    await bench.publisher.close()
    assert {name: value for name, value in bench.data()[-1].items() if len(name) == 1} == {
        "a": "stale",
        "b": "stale",
        "c": 1,
    }


async def test_a_target_is_read_on_its_own_grid_whatever_a_scrape_takes(exporter: Exporter, client):
    bench = Bench(exporter, client)
    await bench.scraper.run()
    await bench.publisher.close()
    assert 0 < bench.naps[0] <= 15
    assert bench.naps[1:] == [15.0] * 3
    times = [batch.t_ms[0] for batch in bench.log.batches if isinstance(batch, MetricBatch) and batch.t_ms]
    assert [later - earlier for earlier, later in pairwise(times)] == [15_000, 15_000]
