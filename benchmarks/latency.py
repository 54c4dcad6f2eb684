"""From a log line's arrival to the command on the topic, and Prometheus's way to the same point as the rival.

    python -m benchmarks.latency [--seconds 60] [--rate 1000] [--only embedded|kafka|prometheus]

Ours: a process of its own pushes `rate` log lines a second to the Loki receiver; three a second are the first of
a new case: a LogQL rule with `for: 0s` fires, an incident opens, and its runbook commands an action at once.
The clock starts before the line is pushed and stops when the signed command is read from its topic. Everything runs:
receiver, router, evaluator, responder, PostgreSQL, on two brokers: the embedded one and, where it is cached, Kafka.

The rival: a real Prometheus with its usual 15 s for scrape and evaluation, and an alert without `for`. Its clock starts
when a gauge crosses the threshold and stops when the notification reaches the Alertmanager API.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
from aiohttp import web
from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.table import Table

from engine.core.messages import decode_command, decode_signed_command
from engine.edge.logging import configure
from engine.edge.node import Node, running
from engine.edge.settings import LogSettings, ModeOverride, Settings
from engine.flow import COMMANDS, RoleName
from engine.loading import load

CASES_PER_S = 3
WARM_UP_S = 5
ROLES: tuple[RoleName, ...] = ("connectors", "router", "evaluator", "responder")

RULES = """
groups:
  - name: bench
    interval: 15s
    rules:
      - alert: Case
        expr: sum by (case) (count_over_time({job="bench"} |= "trigger" | json [10s])) > 0
        labels: {severity: warning, namespace: bench}
"""

RUNBOOK = """
runbooks:
  - name: Case
    match: ['alertname="Case"']
    priority: P3
    group_by: [case]
    limits: {cooldown: 0s, budget_per_hour: 1000000}
    escalation: [{to: nobody}]
    summary: case {{ labels.case }}
    steps:
      - name: act
        act:
          action: http.request
          target: bench
          params: {method: POST, path: '/case/{{ labels.case | segment }}', expect_status: [200]}
      - name: seen
        verify: {}
"""

Delays = list[float]


def settings(folder: Path, kafka_url: str) -> Settings:
    """Sentinel as it comes, but for what lets one target be commanded three times a second."""
    empty = Settings()
    responder = {
        "overrides": [ModeOverride(action="http.request", mode="auto")],
        "storm_targets": 1_000_000,
    }
    return Settings(
        state_dir=folder / "state",
        log=LogSettings(level="error", format="console"),
        kafka=empty.kafka.model_copy(update={"url": kafka_url, "topic_prefix": f"bench{random.randrange(10**9)}-"}),
        http=empty.http.model_copy(update={"listen": "127.0.0.1:0"}),
        rules=empty.rules.model_copy(update={"paths": [folder / "rules"]}),
        responder=empty.responder.model_copy(update=responder),
    )


async def measure_sentinel(folder: Path, kafka_url: str, seconds: int, rate: int) -> Delays:
    """Delays in ms from before the push of a case's line until its command is read."""
    for name, text in (("logql/bench.yml", RULES), ("runbooks/bench.yml", RUNBOOK)):
        file = folder / "rules" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    chosen = settings(folder, kafka_url)
    configure(chosen.log, chosen.instance)
    loaded = load(chosen.rules.paths)
    if loaded.errors:
        raise SystemExit("\n".join(map(str, loaded.errors)))
    async with running(chosen, ROLES, loaded) as node:
        await _ready(node)
        arrived: dict[str, float] = {}
        reading = asyncio.create_task(_read_commands(node, arrived))
        pushed = await _push(f"{node.http_url}/loki/api/v1/push", seconds, rate)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while len(arrived) < len(pushed):  # noqa: ASYNC110  # a benchmark may poll
                    await asyncio.sleep(0.1)
        reading.cancel()
    missing = [case for case in pushed if case not in arrived]
    if missing:
        print(f"{len(missing)} of {len(pushed)} cases led to no command", file=sys.stderr)
    return [(arrived[case] - at_s) * 1000 for case, at_s in pushed.items() if case in arrived]


async def _ready(node: Node) -> None:
    while not all(result.ok for result in (await node.health.readiness()).values()):  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.1)


async def _read_commands(node: Node, arrived: dict[str, float]) -> None:
    consumer = AIOKafkaConsumer(
        node.settings.kafka.topic_prefix + COMMANDS.name,
        bootstrap_servers=node.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=10,
    )
    async with consumer:
        async for message in consumer:
            command = decode_command(decode_signed_command(message.value).body)
            arrived.setdefault(str(command.params["path"]).removeprefix("/case/"), time.time())


async def _push(url: str, seconds: int, rate: int) -> dict[str, float]:
    """Push from another process; the cases with the time just before their line was pushed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.latency", "--push", url, "--seconds", str(seconds), "--rate", str(rate)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return {str(case): float(at_s) for case, at_s in json.loads(out).items()}


def push(url: str, seconds: int, rate: int) -> dict[str, float]:
    """Push lines at a steady rate, a request every 20 ms; cases only after the warm-up."""
    period_s = 0.02
    per_request = max(1, round(rate * period_s))
    cases: dict[str, float] = {}
    start = time.monotonic()
    with httpx.Client() as client:
        for turn in range(int(seconds / period_s)):
            time.sleep(max(0.0, start + turn * period_s - time.monotonic()))
            now_ns = time.time_ns()
            lines = [
                [str(now_ns + i), json.dumps({"event": "ok", "n": turn * per_request + i})] for i in range(per_request)
            ]
            if turn * period_s > WARM_UP_S and turn % round(1 / CASES_PER_S / period_s) == 0:
                case = f"c{turn}"
                lines[-1][1] = json.dumps({"event": "trigger", "case": case})
                cases[case] = time.time()
            body = {"streams": [{"stream": {"job": "bench"}, "values": lines}]}
            client.post(url, json=body, params={"source": "bench"}).raise_for_status()
    return cases


async def measure_prometheus(folder: Path, seconds: int) -> Delays:
    """Delays in ms from a gauge's crossing until its notification reaches the Alertmanager API."""
    from tests.parts import running_prometheus

    crossed: dict[str, float] = {}
    notified: dict[str, float] = {}
    async with _stub(crossed, notified) as port:
        (folder / "rules.yml").write_text(
            "groups: [{name: bench, rules: [{alert: Case, expr: bench_case > 0, labels: {severity: warning}}]}]"
        )
        config = f"""
global: {{scrape_interval: 15s, evaluation_interval: 15s}}
rule_files: ['{folder / "rules.yml"}']
scrape_configs: [{{job_name: bench, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]}}
"""
        with running_prometheus(folder, config):
            draw = random.Random(7)
            await asyncio.sleep(20)
            for i in range(max(20, seconds)):
                crossed[f"c{i}"] = time.time()
                await asyncio.sleep(draw.uniform(0.2, 1.8))
            await asyncio.sleep(35)
    return [(notified[case] - at_s) * 1000 for case, at_s in crossed.items() if case in notified]


@asynccontextmanager
async def _stub(crossed: dict[str, float], notified: dict[str, float]) -> AsyncIterator[int]:
    """A /metrics page with the crossed gauges, and an Alertmanager API that notes who was notified about when."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="".join(f'bench_case{{case="{case}"}} 1\n' for case in crossed) or "up_to_now 0\n")

    async def alerts(request: web.Request) -> web.Response:
        for alert in await request.json():
            notified.setdefault(alert["labels"]["case"], time.time())
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.post("/api/v2/alerts", alerts)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def show(rows: dict[str, Delays]) -> None:
    """Print the table, each row as a ratio to the rival's median."""
    table = Table("path", "n", "p50 ms", "p99 ms", "max ms", "p50 against Prometheus")
    rival = rows.get("Prometheus, 15 s scrape and evaluation -> notification")
    base = float(np.percentile(rival, 50)) if rival else float("nan")
    for name, delays in rows.items():
        p50, p99 = np.percentile(delays, [50, 99]) if delays else (float("nan"), float("nan"))
        ratio = f"{base / p50:.0f} times sooner" if rival and delays is not rival else "-"
        table.add_row(name, str(len(delays)), f"{p50:.0f}", f"{p99:.0f}", f"{max(delays, default=0):.0f}", ratio)
    Console().print(table)


def main() -> int:
    """Parse the arguments and run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=int, default=1000, help="log lines a second")
    parser.add_argument("--only", choices=("embedded", "kafka", "prometheus"))
    parser.add_argument("--push", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.push:
        print(json.dumps(push(given.push, given.seconds, given.rate)))
        return 0
    rows: dict[str, Delays] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only in (None, "embedded"):
            sub = folder / "embedded"
            rows["line -> command, embedded broker"] = asyncio.run(measure_sentinel(sub, "", given.seconds, given.rate))
        if given.only in (None, "kafka"):
            rows |= _guarded("line -> command, Kafka", lambda: _on_kafka(folder / "kafka", given.seconds, given.rate))
        if given.only in (None, "prometheus"):
            rival = folder / "prometheus"
            rival.mkdir()
            rows |= _guarded(
                "Prometheus, 15 s scrape and evaluation -> notification",
                lambda: asyncio.run(measure_prometheus(rival, given.seconds)),
            )
    show(rows)
    return 0


def _on_kafka(folder: Path, seconds: int, rate: int) -> Delays:
    folder.mkdir()
    from tests.parts import running_kafka

    with running_kafka(folder) as kafka:
        return asyncio.run(measure_sentinel(folder, kafka.url, seconds, rate))


def _guarded(name: str, work) -> dict[str, Delays]:  # type: ignore[no-untyped-def]
    """A row, or nothing and the reason where a part is not to be had."""
    import pytest

    try:
        return {name: work()}
    except pytest.skip.Exception as reason:
        print(f"{name}: left out: {reason}", file=sys.stderr)
        return {}


if __name__ == "__main__":
    sys.exit(main())
