"""A real Prometheus writes to Sentinel, or is queried by it, while each of them is restarted: no sample is missing.

```
Prometheus  ──────────────────────────── stop ▏start ──────────────────────────────────
Sentinel    ──────── SIGKILL ▏▏▏▏ start ─────────────────── SIGTERM ▏▏▏▏ start ────────
                                                                                       ^ compare
```

It is compared in two places: what stands on the topic `metrics` with the raw samples, and what the evaluator's windows
answer with Prometheus's own answer to the same query at the same time. `AUREUS_SOURCES_S` is how long it runs.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aiohttp import web

from engine.core import labels as label_sets
from engine.core.blocks import is_block, unpack
from engine.core.messages import MetricBatch, decode_batch
from engine.core.window import is_stale
from tests.e2e.shop import start_roles
from tests.parts import Program, Prometheus, answers, free_ports, running_kafka
from tests.topics import whole_topic
from tests.waiting import until

DURATION_S = float(os.environ.get("AUREUS_SOURCES_S", "48"))
OUTAGE_S = min(20.0, DURATION_S / 8)
REACH = "20m"
NAMES = [
    "orders_total",
    "queue_depth",
    "up",
    "scrape_samples_scraped",
    "prometheus_http_requests_total",
    "go_goroutines",
]

pytestmark = [pytest.mark.real, pytest.mark.timeout(DURATION_S + 240)]


class Exporter:
    """A page with counters that go up at every scrape, and gauges that come and go."""

    def __init__(self) -> None:
        self._scrapes = itertools.count(1)
        self.url = ""

    async def _serve(self, _: web.Request) -> web.Response:
        number = next(self._scrapes)
        lines = ["# TYPE orders_total counter", "# TYPE queue_depth gauge"]
        lines += [f'orders_total{{shop="{shop}"}} {number * (shop + 1)}' for shop in range(200)]
        lines += [
            f'queue_depth{{queue="{queue}"}} {(number * 7 + queue) % 90}'
            for queue in range(50)
            if number % 9 > queue % 3
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def serve(self, stack: AsyncExitStack) -> None:
        """Serve on a free loopback port until the stack is closed."""
        app = web.Application()
        app.add_routes([web.get("/metrics", self._serve)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"{host}:{port}"


@dataclass(frozen=True)
class Way:
    """Which Prometheus, and how its samples come: with the settings of its `remote_write`, or by queries if None."""

    part: str
    remote_write: dict[str, Any] | None


WAYS = {
    "Debian's, remote write 1.0": Way("prometheus", {}),
    "3.5, remote write 2.0": Way("prometheus-3", {"protobuf_message": "io.prometheus.write.v2.Request"}),
    "Debian's, queried": Way("prometheus", None),
}


@dataclass
class World:
    """Kafka, Prometheus and an exporter that runs; a Sentinel that is started and ended by the test."""

    folder: Path
    way: Way
    kafka_url: str
    prometheus: Prometheus
    port: int
    http: httpx.AsyncClient
    sentinel: Program | None = None

    async def start_sentinel(self) -> None:
        """A process with the roles that take samples in, and its readiness."""
        tree = {
            "state_dir": str(self.folder / "state"),
            "kafka": {"url": f"kafka://{self.kafka_url}", "fetch_wait_ms": 20, "session_timeout_s": 6},
            "http": {"listen": f"127.0.0.1:{self.port}"},
            "rules": {"paths": [str(self.folder / "rules")]},
        }
        if self.way.remote_write is None:
            api = {"name": "shop", "url": self.prometheus.url, "interval_s": 5, "settle_s": 2}
            tree["connectors"] = {"prometheus_api": [api]}
        self.sentinel = start_roles("connectors,router,evaluator", tree, self.folder)
        await until(lambda: asyncio.to_thread(answers, f"{self.url}/ready"), 90, "Sentinel's readiness")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def drops(self) -> list[str]:
        """What this run of Sentinel left out."""
        text = (await self.http.get(f"{self.url}/metrics")).text
        return [line for line in text.splitlines() if line.startswith("sentinel_drops_total") and "no_rule" not in line]

    async def query(self, base: str, expression: str, **params: str) -> tuple[float, dict[bytes, float]]:
        """An instant query: its time in seconds, and label bytes -> value."""
        answer = await self.http.get(f"{base}/api/v1/query", params={"query": expression, **params})
        found = answer.json()
        if found["status"] != "success":
            return 0.0, {}
        rows = found["data"]["result"]
        at_s = rows[0]["value"][0] if rows else 0.0
        return at_s, {label_sets.encode(row["metric"]): float(row["value"][1]) for row in rows}

    async def raw(self, name: str, until_s: float) -> set[tuple[bytes, int, float]]:
        """Every sample of a metric that Prometheus has up to a time."""
        params = {"query": f"{name}[{REACH}]", "time": f"{until_s:.3f}"}
        found = (await self.http.get(f"{self.prometheus.url}/api/v1/query", params=params)).json()
        return {
            (label_sets.encode(series["metric"]), round(at_s * 1_000), float(value))
            for series in found["data"]["result"]
            for at_s, value in series["values"]
            if not math.isnan(float(value))
        }

    async def published(self) -> Counter[tuple[bytes, int, float]]:
        """Every sample on the topic `metrics`, and how often."""
        samples: Counter[tuple[bytes, int, float]] = Counter()
        for message in await whole_topic(self.kafka_url, "sentinel-metrics"):
            samples.update(_samples(decode_batch(message)))
        return samples


def _samples(batch: Any) -> list[tuple[bytes, int, float]]:
    assert isinstance(batch, MetricBatch)
    rows: list[tuple[bytes, int]] = []
    for raw, t_ms in zip(batch.series, batch.t_ms, strict=True):
        entry = bytes(raw)
        series = [label_sets.encode(one) for one in unpack(entry)] if is_block(entry) else [entry]
        rows += [(key, t_ms) for key in series]
    samples = zip(rows, batch.numbers.tolist(), is_stale(batch.numbers), strict=True)
    return [(key, t_ms, value) for (key, t_ms), value, is_end in samples if not is_end]


def configured(way: Way, sentinel_url: str, exporter_url: str, own_url: str) -> str:
    """Prometheus's configuration: it scrapes the exporter and itself, and writes if it is to."""
    targets = {"shop": exporter_url, "prometheus": own_url}
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [address]}]} for name, address in targets.items()
        ],
    }
    if way.remote_write is not None:
        url = f"{sentinel_url}/api/v1/write?source=shop"
        config["remote_write"] = [{"url": url, "queue_config": {"min_shards": 4}, **way.remote_write}]
    return json.dumps(config)


def write_rules(folder: Path) -> None:
    """Rules that keep what is compared, and never fire."""
    rules = [
        {"alert": f"Keeps{i}", "expr": f"sum(count_over_time({name}[{REACH}])) < 0"} for i, name in enumerate(NAMES)
    ]
    (folder / "rules" / "promql").mkdir(parents=True)
    groups = {"groups": [{"name": "keep", "interval": "5s", "rules": rules}]}
    (folder / "rules" / "promql" / "keep.yml").write_bytes(msgspec.json.encode(groups))


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    way = WAYS[request.param]
    (tmp_path / "kafka").mkdir()
    write_rules(tmp_path)
    async with AsyncExitStack() as stack:
        exporter, (port,) = Exporter(), free_ports(1)
        await exporter.serve(stack)
        prometheus = Prometheus(tmp_path, "", part=way.part)
        own = prometheus.url.removeprefix("http://")
        config = configured(way, f"http://127.0.0.1:{port}", exporter.url, own)
        (tmp_path / "prometheus.yml").write_text(config, encoding="utf-8")
        kafka = stack.enter_context(running_kafka(tmp_path / "kafka"))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        world = World(tmp_path, way, kafka.url, prometheus, port, http)
        stack.callback(prometheus.stop)
        try:
            yield world
        finally:
            if world.sentinel is not None:
                world.sentinel.kill()


@pytest.mark.parametrize("world", WAYS, indirect=True)
async def test_no_sample_that_prometheus_has_is_missing_in_the_windows(world: World) -> None:
    await world.start_sentinel()
    assert world.sentinel is not None
    world.prometheus.start()
    await asyncio.sleep(DURATION_S / 4)  # the traffic's own time, here and below
    world.sentinel.kill()
    await asyncio.sleep(OUTAGE_S)
    await world.start_sentinel()
    await asyncio.sleep(DURATION_S / 4)
    await asyncio.to_thread(world.prometheus.stop)
    await asyncio.to_thread(world.prometheus.start)
    await asyncio.sleep(DURATION_S / 4)
    assert world.sentinel.stop() == 0
    await asyncio.sleep(OUTAGE_S)
    await world.start_sentinel()
    await asyncio.sleep(DURATION_S / 4)

    wanted_s = (await world.query(world.prometheus.url, "count(up)"))[0]

    async def complete() -> bool:
        return (await world.query(world.url, f"count(count_over_time(up[{REACH}]))"))[0] >= wanted_s

    await until(complete, 60, "the windows reaching the present")
    for name in NAMES:
        await agrees(world, name)


async def agrees(world: World, name: str) -> None:
    """The windows answer as Prometheus does, and the topic holds every sample up to then."""
    for function in ("count_over_time", "sum_over_time", "min_over_time", "max_over_time"):
        expression = f"{function}({name}[{REACH}])"
        at_s, ours = await world.query(world.url, expression)
        _, theirs = await world.query(world.prometheus.url, expression, time=f"{at_s:.3f}")
        has, got = await world.raw(name, at_s), await world.published()
        missing = Counter(t_ms // 1_000 for _, t_ms, _ in has - set(got))
        assert not missing, f"{name} up to {at_s}: not on the topic, by second: {sorted(missing.items())}"
        assert ours.keys() == theirs.keys(), expression
        assert theirs, expression
        differ = {key: (ours[key], theirs[key]) for key in theirs if not math.isclose(ours[key], theirs[key])}
        assert differ == {}, f"{expression} at {at_s}; left out: {await world.drops()}"
