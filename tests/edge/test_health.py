"""/health, /ready and /metrics over real loopback HTTP."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.edge import health, runtime
from engine.edge.health import CheckResult, Health, Heartbeats
from engine.edge.runtime import Runtime
from engine.edge.telemetry import Telemetry


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def get(routes, path):
    app = web.Application()
    app.add_routes(routes)
    async with TestClient(TestServer(app)) as client, client.get(path) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(("silent_s", "status"), [(0, 200), (5, 200), (5.1, 503)])
async def test_a_process_is_alive_while_each_loop_ticks_within_its_limit(silent_s, status):
    clock = Clock()
    beats = Heartbeats(clock)
    beats.register("evaluator", limit_s=5)
    clock.now_s += silent_s
    answer = await get(Health(beats).routes(), "/health")
    assert answer == (
        status,
        {
            "ok": status == 200,
            "checks": {"evaluator": {"ok": status == 200, "reason": f"ticked {silent_s:.1f} s ago, limit 5 s"}},
        },
    )


async def test_a_loop_that_ended_as_it_should_is_not_missed():
    clock = Clock()
    beats = Heartbeats(clock)
    beats.register("scraper", limit_s=1)
    clock.now_s += 60
    beats.forget("scraper")
    assert (await get(Health(beats).routes(), "/health"))[0] == 200


async def up() -> CheckResult:
    return CheckResult(True, "4 partitions")


async def down() -> CheckResult:
    return CheckResult(False, "no broker answers at kafka://x")


async def broken() -> CheckResult:
    raise OSError("connection refused")


async def hangs() -> CheckResult:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("check", "status", "reason"),
    [
        (up, 200, "4 partitions"),
        (down, 503, "no broker answers at kafka://x"),
        (broken, 503, "OSError: connection refused"),
        (hangs, 503, "no answer within 0.01 s"),
    ],
)
async def test_ready_says_of_each_part_whether_it_is_up_and_why(monkeypatch, check, status, reason):
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.01)
    answer = await get(Health(Heartbeats(), {"broker": check}).routes(), "/ready")
    assert answer == (status, {"ok": status == 200, "checks": {"broker": {"ok": status == 200, "reason": reason}}})


async def test_a_process_that_has_started_nothing_is_not_ready():
    assert (await get(Health(Heartbeats()).routes(), "/ready"))[0] == 503


async def test_metrics_name_what_is_counted():
    telemetry = Telemetry(process_metrics=False)
    telemetry.drops.labels("receiver", "late").inc(3)
    telemetry.lag.labels("router", "sentinel-metrics", "0").set(7)
    telemetry.rule_evaluation.labels("aureus/PolicyViolationSpike").observe(0.002)
    app = web.Application()
    app.add_routes(telemetry.routes())
    async with TestClient(TestServer(app)) as client, client.get("/metrics") as response:
        text = await response.text()
    assert 'sentinel_drops_total{reason="late",stage="receiver"} 3.0' in text
    assert 'sentinel_lag_messages{partition="0",role="router",topic="sentinel-metrics"} 7.0' in text
    assert 'sentinel_rule_evaluation_seconds_bucket{le="0.0025",rule="aureus/PolicyViolationSpike"} 1.0' in text


def test_every_metric_starts_with_the_products_name_and_says_what_it_is():
    for metric in Telemetry(process_metrics=False).registry.collect():
        assert metric.name.startswith("sentinel_")
        assert metric.documentation


class TestRuntimeFile:
    def test_a_running_process_is_found_by_its_state_folder(self, tmp_path):
        import os

        running = Runtime(os.getpid(), 1, "kafka://x", "postgresql://x/y", "http://127.0.0.1:9560")
        runtime.write(tmp_path / "var", running)
        assert runtime.find(tmp_path / "var") == running
        assert (tmp_path / "var" / runtime.FILE).stat().st_mode & 0o777 == 0o600
        runtime.remove(tmp_path / "var", running.pid)
        assert runtime.find(tmp_path / "var") is None

    def test_a_file_left_by_a_dead_process_or_broken_does_not_count(self, tmp_path):
        runtime.write(tmp_path, Runtime(2**22 + 1, 1, "", "", ""))
        assert runtime.find(tmp_path) is None
        (tmp_path / runtime.FILE).write_text("{")
        assert runtime.find(tmp_path) is None

    def test_only_the_process_that_wrote_it_takes_it_away(self, tmp_path):
        runtime.write(tmp_path, Runtime(5, 1, "", "", ""))
        runtime.remove(tmp_path, 6)
        assert (tmp_path / runtime.FILE).exists()
