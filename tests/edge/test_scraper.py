"""The scraper against a real loopback HTTP server."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy
from prometheus_client import CollectorRegistry

from engine.core import labels
from engine.core.messages import MetricBatch
from engine.core.window import is_stale
from engine.edge.publisher import ConnectorMetrics, Publisher
from engine.edge.scraper import Scraper
from engine.edge.settings_sources import ScrapeJob
from tests.edge.test_receivers import Log

NOW = 1_700_000_000_000


class Exporter:
    """A /metrics page that can be changed, broken or made to hang."""

    def __init__(self) -> None:
        self.page = "a 1\n"
        self.status = 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.headers: list[CIMultiDictProxy[str]] = []
        self.queries: list[str] = []
        app = web.Application()
        app.add_routes([web.get("/metrics", self._serve)])
        self.server = TestServer(app)

    async def _serve(self, request: web.Request) -> web.Response:
        self.headers.append(request.headers)
        self.queries.append(request.query_string)
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
        config = ScrapeJob(
            job="bridge",
            url=str(exporter.server.make_url("/metrics")),
            interval_s=15,
            timeout_s=timeout_s,
            labels={"namespace": "aureus"},
        )
        self.scraper = Scraper(self.publisher, [config], lambda _: client, self._sleep, self._elapsed)
        (self.job,) = self.scraper.jobs

    async def scrape(self) -> bool:
        """Read the page once."""
        (target,) = self.job.static
        return await self.scraper.scrape_once(self.job.client, target)

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
                read = zip(names, batch.numbers.tolist(), is_stale(batch.numbers), strict=True)
                out.append({name: "stale" if is_end else value for name, value, is_end in read})
        return out


def companions(up: int, samples: int, added: int) -> dict[str, float]:
    return {
        "up": up,
        "scrape_duration_seconds": 0.125,
        "scrape_samples_scraped": samples,
        "scrape_samples_post_metric_relabeling": samples,
        "scrape_series_added": added,
    }


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
    assert await bench.scrape()
    await bench.publisher.close()
    assert bench.data() == [{"a": 1} | companions(up=1, samples=1, added=1)]
    batch = bench.log.batches[0]
    assert isinstance(batch, MetricBatch)
    assert labels.decode(batch.series[0]) == {
        "__name__": "a",
        "job": "bridge",
        "namespace": "aureus",
        "instance": f"127.0.0.1:{exporter.server.port}",
    }
    assert exporter.headers[0]["Accept"].startswith("application/openmetrics-text;version=1.0.0,")


async def test_a_scrape_is_complete_as_soon_as_the_broker_has_it(exporter: Exporter, client):
    bench = Bench(exporter, client)
    await bench.scrape()
    await bench.publisher.close()
    assert [(batch.seq, batch.watermark_ms) for batch in bench.log.batches] == [(1, NOW), (2, NOW + 1)]


@pytest.mark.parametrize("fault", ["status", "page", "away", "hangs"])
async def test_a_failed_scrape_is_up_zero_and_the_end_of_its_series(exporter: Exporter, client, fault: str):
    bench = Bench(exporter, client, timeout_s=0.05 if fault == "hangs" else 10)
    await bench.scrape()
    bench.now_ms += 15_000
    if fault == "hangs":
        exporter.may_answer.clear()
    exporter.status = 500 if fault == "status" else 200
    exporter.page = "a" if fault == "page" else exporter.page
    if fault == "away":
        await exporter.server.close()
    await bench.scrape()
    await bench.publisher.close()
    assert bench.data()[1] == {"a": "stale"} | companions(up=0, samples=0, added=0)


async def test_a_scrape_that_the_broker_did_not_take_is_counted_and_its_series_still_end(exporter: Exporter, client):
    bench = Bench(exporter, client)
    await bench.scrape()
    exporter.page = "b 1\n"
    bench.now_ms += 15_000
    await bench.publisher.close()
    bench.log.failures = 9
    assert not await bench.scrape()
    dropped = {"stage": "connector", "reason": "broker_unavailable"}
    assert bench.registry.get_sample_value("sentinel_dropped_total", dropped) == 7
    bench.log.failures = 0
    exporter.page = "c 1\n"
    bench.now_ms += 15_000
    await bench.scrape()
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


class Files:
    """A scraper of one job whose targets stand in files, with a clock that the test moves."""

    def __init__(self, folder: Path, client: httpx.AsyncClient, **job: Any) -> None:
        self.folder = folder
        self.now_ms = NOW
        self.log = Log()
        self.turns = 0
        self.turn = asyncio.Condition()
        self.publisher = Publisher(self.log.send, lambda: self.now_ms, ConnectorMetrics(CollectorRegistry()))
        config = ScrapeJob(
            job="fleet", file_sd_configs=[{"files": [str(folder / "*.yml"), str(folder / "*.json")]}], **job
        )
        self.scraper = Scraper(self.publisher, [config], lambda _: client, self._sleep)
        (self.job,) = self.scraper.jobs

    async def _sleep(self, seconds: float) -> None:
        if seconds != 5:  # a target's own pause: the tests scrape by hand
            await asyncio.Event().wait()
        async with self.turn:
            self.turns += 1
            self.turn.notify_all()
            before = self.turns
            await self.turn.wait_for(lambda: self.turns > before)

    async def looked(self) -> list[str]:
        """Wait until the files were looked at (once more); the instances that are scraped."""
        async with self.turn:
            if self.turns:
                self.now_ms += 5_000
                self.turns += 1
                self.turn.notify_all()
            wanted = self.turns + 1
            await self.turn.wait_for(lambda: self.turns >= wanted)
        return sorted(one.target.labels["instance"] for one in self.job.discovered)

    def ended(self) -> set[str]:
        """The instances whose series have ended."""
        batches = [batch for batch in self.log.batches if isinstance(batch, MetricBatch)]
        return {
            labels.decode(batch.series[int(row)])["instance"]
            for batch in batches
            for row in np.flatnonzero(is_stale(batch.numbers))
        }


def write(file: Path, text: str) -> None:
    """Replace a file with one of a new modification time."""
    file.write_text(text, encoding="utf-8")
    stamp = file.stat().st_mtime_ns + next(_stamps)
    os.utime(file, ns=(stamp, stamp))


_stamps = itertools.count(1)


async def test_targets_in_files_come_and_go_and_those_that_go_end_their_series(tmp_path: Path, client):
    files = Files(tmp_path, client, relabel_configs=[{"source_labels": ["skip"], "regex": "yes", "action": "drop"}])
    write(tmp_path / "a.yml", "- targets: [one:80, two:80]\n  labels: {rack: r1}\n")
    write(tmp_path / "b.json", '[{"targets": ["three:80"]}, {"targets": ["four:80"], "labels": {"skip": "yes"}}]')
    running = asyncio.create_task(files.scraper.run())
    assert await files.looked() == ["one:80", "three:80", "two:80"]
    by_instance = {one.target.labels["instance"]: one for one in files.job.discovered}
    assert by_instance["one:80"].target.labels == {"job": "fleet", "rack": "r1", "instance": "one:80"}
    names = {one.source_name for one in files.job.discovered}

    write(tmp_path / "a.yml", "- targets: [two:80, five:80]\n  labels: {rack: r1}\n")
    assert await files.looked() == ["five:80", "three:80", "two:80"]
    assert files.ended() == {"one:80"}
    assert {one.source_name for one in files.job.discovered} == names  # a name is taken over, none is left behind

    write(tmp_path / "a.yml", "- targets: {no: list}\n")
    assert await files.looked() == ["five:80", "three:80", "two:80"]  # a broken file keeps what it said before

    (tmp_path / "a.yml").unlink()
    assert await files.looked() == ["three:80"]
    assert files.ended() == {"one:80", "two:80", "five:80"}
    running.cancel()
    await asyncio.wait([running])
    await files.publisher.close()


@pytest.mark.parametrize(
    ("access", "authorization"),
    [
        ({}, None),
        ({"basic_auth": {"username": "me", "password": "pw"}}, "Basic bWU6cHc="),
        ({"basic_auth": {"username": "me", "password_file": "FILE"}}, "Basic bWU6c2VjcmV0"),
        ({"bearer_token": "t"}, "Bearer t"),
        ({"bearer_token_file": "FILE"}, "Bearer secret"),
    ],
)
async def test_the_page_is_asked_for_with_the_jobs_credentials_and_parameters(
    exporter: Exporter, client, tmp_path: Path, access: dict[str, Any], authorization: str | None
):
    (tmp_path / "token").write_text("secret\n")
    text = json.dumps(access).replace("FILE", str(tmp_path / "token"))
    address = f"127.0.0.1:{exporter.server.port}"
    job = {
        "job": "j",
        "static_configs": [{"targets": [address]}],
        "params": {"match[]": ["a", "b"]},
        **json.loads(text),
    }
    publisher = Publisher(Log().send, lambda: NOW, ConnectorMetrics(CollectorRegistry()))
    scraper = Scraper(publisher, [ScrapeJob.model_validate(job)], lambda _: client)
    (scrape,) = scraper.jobs[0].static
    assert await scraper.scrape_once(client, scrape)
    assert exporter.headers[0].get("Authorization") == authorization
    assert exporter.queries == ["match[]=a&match[]=b"]
    await publisher.close()


async def test_a_credential_that_cannot_be_had_fails_the_scrape(exporter: Exporter, client, tmp_path: Path):
    bench = Bench(exporter, client)
    (scrape,) = bench.job.static
    scrape.config = scrape.config.model_copy(update={"bearer_token_file": tmp_path / "nothing"})
    await bench.scraper.scrape_once(client, scrape)
    await bench.publisher.close()
    assert bench.data()[0]["up"] == 0
    counted = {"connector": "scrape", "code": "no_credentials"}
    assert bench.registry.get_sample_value("sentinel_connector_requests_total", counted) == 1


def test_targets_are_spread_over_the_interval_and_always_at_the_same_places():
    config = ScrapeJob(job="fleet", static_configs=[{"targets": [f"host-{i}:9100" for i in range(300)]}])
    publisher = Publisher(Log().send, lambda: NOW, ConnectorMetrics(CollectorRegistry()))
    first, second = (Scraper(publisher, [config], lambda _: None).jobs[0].static for _ in range(2))  # type: ignore[arg-type]  # no client: nothing is read
    offsets = [one.next_ms(NOW) - NOW for one in first]
    assert offsets == [one.next_ms(NOW) - NOW for one in second]
    thirds = [sum(part * 5_000 < offset <= (part + 1) * 5_000 for offset in offsets) for part in range(3)]
    assert min(thirds) > 70
