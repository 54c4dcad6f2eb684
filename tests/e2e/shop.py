"""A small shop to watch: its rules, its runbook, its service that can be restarted, and how it ships logs and metrics.

The rule looks two seconds back and little is waited out after a repair, so an incident takes a few seconds in all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import cramjam
import msgspec
from aiohttp import web

from connectors import remote_write
from engine.edge.database import url_of
from engine.edge.node import Node
from engine.edge.settings import Settings
from engine.loading import Loaded, load
from tests.parts import Program
from tests.topics import whole_topic
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent

LOGQL = """
groups:
  - name: shop
    interval: 1s
    rules:
      - alert: PaymentsFail
        expr: sum by (service) (count_over_time({job="shop"} |= "payment_failed" | json [2s])) > 2
        labels: {severity: critical, namespace: shop}
        annotations: {summary: '{{ $value }} payments of {{ $labels.service }} failed'}
"""
PROMQL = """
groups:
  - name: queue
    interval: 1s
    rules:
      - alert: QueueIsLong
        expr: sum by (queue) (queue_depth{job="shop"}) > 100
        labels: {severity: warning, namespace: shop}
"""
RUNBOOK = """
runbooks:
  - name: PaymentsFail
    match: ['alertname="PaymentsFail"']
    priority: P1
    group_by: [service]
    limits: {cooldown: 1ms, budget_per_hour: 100, stabilisation: 1500ms, reopen: 1ms}
    escalation: [{to: on-call}]
    summary: 'Payments of {{ labels.service }} fail'
    steps:
      - name: restart
        act:
          action: http.request
          target: shop
          params:
            method: POST
            path: '/restart/{{ labels.service | segment }}'
            expect_status: [202]
            check: {path: /state, expect: 'body.restarted.exists(one, one == {{ labels.service | cel }})', within_s: 1}
          expires: 5m
      - name: fixed
        verify: {}
        next: end
"""


def write_rules(folder: Path) -> Path:
    """The shop's rules and runbook as files; returns their folder."""
    for name, text in {"logql/shop": LOGQL, "promql/queue": PROMQL, "runbooks/shop": RUNBOOK}.items():
        file = folder / f"{name}.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def load_rules(settings: Settings) -> Loaded:
    """The rules that the settings name, which have no problems."""
    loaded = load(settings.rules.paths)
    assert loaded.problems == [], loaded.problems
    return loaded


def tree(state_dir: Path, database_url: str, shop_url: str, kafka_url: str = "") -> dict[str, Any]:
    """Settings under which Sentinel may restart the shop by itself, as a settings file would hold them."""
    return {
        "state_dir": str(state_dir),
        "kafka": {"url": kafka_url, "fetch_wait_ms": 20, "session_timeout_s": 6},
        "database": {"url": database_url},
        "http": {"listen": "127.0.0.1:0"},
        "connectors": {
            "loki_push": {"idle_after_ms": 300},
            "remote_write": {"lateness_ms": 0, "idle_after_ms": 300, "settle_ms": 0},
        },
        "rules": {"paths": [str(write_rules(state_dir / "rules"))]},
        "responder": {"overrides": [{"action": "http.request", "mode": "auto"}]},
        "executor": {"allow_actions": ["http.request"], "hosts": {"shop": {"url": shop_url}}, "lease_s": 3},
    }


def start_roles(roles: str, config: Mapping[str, Any], folder: Path) -> Program:
    """`sentinel run` with these roles as a process of its own; its log is in the folder."""
    file = folder / f"{roles}.yml"
    file.write_bytes(msgspec.json.encode(config))
    command = [sys.executable, "-m", "engine.cli", "run", "--role", roles, "--config", str(file)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    return Program(command, folder / f"{roles}.log", environment | {"PYTHONPATH": str(ROOT)}, folder)


class Shop:
    """The service: counts how often it was restarted, and can be told to leave a call without an answer."""

    def __init__(self) -> None:
        self.restarts: list[str] = []
        self.hangs = False
        self.url = ""

    async def _restart(self, request: web.Request) -> web.Response:
        self.restarts.append(request.match_info["service"])
        await until(lambda: not self.hangs, 60, "letting the call go on")
        return web.Response(status=202)

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({"restarted": self.restarts})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Shop]:
        """Serve on a free loopback port."""
        app = web.Application()
        app.add_routes([web.post("/restart/{service}", self._restart), web.get("/state", self._state)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            self.hangs = False
            await runner.cleanup()


class Client:
    """Somebody who talks to a running Sentinel over HTTP, as log shippers, Prometheus and people do."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def get(self, path: str, **params: str) -> Any:
        """The answer's JSON, or its text."""
        async with self._session.get(self.url + path, params=params) as response:
            text = await response.text()
            return msgspec.json.decode(text) if response.content_type == "application/json" else text

    async def status(self, path: str, **params: str) -> int:
        async with self._session.get(self.url + path, params=params) as response:
            return response.status

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        async with self._session.post(self.url + path, data=body, headers=headers) as response:
            return response.status

    async def try_push(self, service: str, lines: int) -> int:
        """Ship so many log lines that a payment failed, a millisecond apart, the last one now; the HTTP status."""
        now_ns = time.time_ns()
        line = msgspec.json.encode({"event": "payment_failed", "service": service}).decode()
        values = [[str(now_ns - (lines - 1 - i) * 1_000_000), line] for i in range(lines)]
        body = msgspec.json.encode({"streams": [{"stream": {"job": "shop"}, "values": values}]})
        return await self.post("/loki/api/v1/push", body, {"Content-Type": "application/json"})

    async def push(self, service: str, lines: int) -> None:
        """As `try_push`, and it must be taken."""
        status = await self.try_push(service, lines)
        assert status == 204, status

    async def write(self, queue: str, depth: float) -> None:
        """Remote-write the present depth of a queue."""
        labels = {"__name__": "queue_depth", "job": "shop", "queue": queue}
        made = remote_write.MESSAGES
        series = made["TimeSeries"](
            labels=[made["Label"](name=name, value=value) for name, value in labels.items()],
            samples=[made["Sample"](value=depth, timestamp=time.time_ns() // 1_000_000)],
        )
        body = bytes(cramjam.snappy.compress_raw(made["WriteRequest"](timeseries=[series]).SerializeToString()))
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        assert await self.post("/api/v1/write", body, headers) == 204

    async def incident(self, service: str) -> dict[str, Any]:
        """The newest incident about a service, with its timeline, once there is one; else nothing."""
        for found in await self.get("/api/incidents"):
            if found["labels"].get("service") == service:
                return dict(await self.get(f"/api/incidents/{found['id']}"))
        return {}

    async def kinds(self, service: str) -> list[str]:
        """What stands in the timeline of a service's newest incident."""
        return [entry["kind"] for entry in (await self.incident(service)).get("timeline", [])]

    async def reaches(self, service: str, kind: str, timeout_s: float = 25.0) -> list[str]:
        """Wait until something of this kind stands in the timeline of a service's incident; the kinds so far."""
        kinds: list[str] = []

        async def there() -> bool:
            kinds[:] = await self.kinds(service)
            return kind in kinds

        try:
            await until(there, timeout_s)
        except AssertionError:
            raise AssertionError(f"{kind} did not come within {timeout_s:g} s; so far: {kinds}") from None
        return kinds


async def ready(node: Node) -> None:
    """Wait until every role has its partitions."""

    async def all_ready() -> bool:
        results = await node.health.readiness()
        return bool(results) and all(result.ok for result in results.values())

    await until(all_ready, 60, "readiness")


async def messages(node: Node, topic: str) -> list[bytes]:
    """Everything that stands on a topic (name without prefix) now."""
    kafka = node.settings.kafka
    return await whole_topic(node.bootstrap, kafka.topic_prefix + topic, kafka.partitions)


@asynccontextmanager
async def fresh_database(postgres_url: str, template: str, name: str) -> AsyncIterator[str]:
    """The URL of a new migrated database, dropped at the end."""
    server = await asyncpg.connect(postgres_url)
    try:
        await server.execute(f"create database {name} template {template} strategy wal_log")
        yield url_of(postgres_url, name)
        await server.execute(f"drop database {name} with (force)")
    finally:
        await server.close()
