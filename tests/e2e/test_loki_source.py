"""A real Loki is tailed under load while the connection is cut, Loki is restarted and Sentinel is killed, at random.

```
agent     2,000 lines/s ────────────────────────────────────────────────── every line until Loki says 204
Loki      ────── SIGKILL ▏start ────────── SIGTERM ▏start ──────────
gate      ─ cut ▏──────────────── cut ▏──────────────────── cut ▏───
Sentinel  ──────────────── SIGKILL ▏▏▏ start ───────────────────────       ^ each line once
```

Every line has a number of its own. It is compared in two places: what stands on the topic `logs`, and what the
evaluator's windows count. `AUREUS_LOKI_S` is how long it runs, `AUREUS_LOKI_SEED` draws the accidents.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import pytest

from engine.core.messages import LogBatch, decode_batch
from tests.e2e.gate import Gate, opened
from tests.e2e.shop import start_roles
from tests.parts import Loki, Program, answers, free_ports, running_kafka, running_loki
from tests.topics import whole_topic
from tests.waiting import until

DURATION_S = float(os.environ.get("AUREUS_LOKI_S", "40"))
SEED = int(os.environ.get("AUREUS_LOKI_SEED", "4"))
LINES_PER_S = 2_000
TURN_S = 0.1
STREAMS = 8
REACH = "30m"
LOG_RULES = {
    "load:lines": f'sum(count_over_time({{job="load"}} [{REACH}]))',
    "load:numbers": f'count(sum by (number) (count_over_time({{job="load"}} | logfmt [{REACH}])))',
    "load:streams": f'count(sum by (stream) (count_over_time({{job="load"}} [{REACH}])))',
}

pytestmark = [pytest.mark.real, pytest.mark.timeout(DURATION_S * 2 + 240)]


@dataclass
class Agent:
    """Sends numbered lines, in order, each until Loki has it: as an agent does, which reads them from files."""

    url: str
    sent: int = 0
    retries: int = 0

    async def run(self, duration_s: float) -> None:
        started_s = time.monotonic()
        async with httpx.AsyncClient(timeout=5) as http:
            for turn in range(int(duration_s / TURN_S)):
                await asyncio.sleep(max(0.0, started_s + turn * TURN_S - time.monotonic()))
                behind_s = time.monotonic() - started_s - turn * TURN_S  # lines have the time at which they were made
                await self._push(http, self._lines(time.time_ns() - int(behind_s * 1e9)))

    def _lines(self, now_ns: int) -> bytes:
        count = int(LINES_PER_S * TURN_S)
        numbers = range(self.sent, self.sent + count)
        streams = [
            {
                "stream": {"job": "load", "stream": str(one)},
                # Several lines of one stream have one time, and they are not in order.
                "values": [[str(now_ns - number % 7), f"number={number} word"] for number in numbers[one::STREAMS]],
            }
            for one in range(STREAMS)
        ]
        self.sent += count
        return msgspec.json.encode({"streams": streams})

    async def _push(self, http: httpx.AsyncClient, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        while True:
            try:
                answer = await http.post(f"{self.url}/loki/api/v1/push", content=body, headers=headers)
                if answer.status_code == 204:
                    return
                assert answer.status_code >= 500, answer.text
            except httpx.TransportError:
                pass
            self.retries += 1
            await asyncio.sleep(0.1)


@dataclass
class World:
    """Loki behind a gate, Kafka, and a Sentinel that is started and killed."""

    folder: Path
    loki: Loki
    gate: Gate
    kafka_url: str
    port: int
    http: httpx.AsyncClient
    accidents: list[str] = field(default_factory=list)
    sentinel: Program | None = None

    async def start_sentinel(self) -> None:
        tree = {
            "state_dir": str(self.folder / "state"),
            "kafka": {"url": f"kafka://{self.kafka_url}", "fetch_wait_ms": 20, "session_timeout_s": 6},
            "http": {"listen": f"127.0.0.1:{self.port}"},
            "rules": {"paths": [str(self.folder / "rules")]},
            "connectors": {"loki": [{"name": "main", "url": f"http://127.0.0.1:{self.gate.port}"}]},
        }
        self.sentinel = start_roles("connectors,router,evaluator", tree, self.folder)
        await until(lambda: asyncio.to_thread(answers, f"{self.url}/ready"), 90, "Sentinel's readiness")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def cut(self, draw: random.Random) -> None:
        """Every connection to Loki is cut, and none is made for a while."""
        await self.gate.shut()
        await asyncio.sleep(draw.uniform(0.1, 3))
        await self.gate.open()

    async def restart_loki(self, *, kill: bool) -> None:
        await asyncio.to_thread(self.loki.kill if kill else self.loki.stop)
        self.loki.start()
        await asyncio.to_thread(self.loki.wait_until_ready)

    async def restart_sentinel(self) -> None:
        assert self.sentinel is not None
        self.sentinel.kill()
        await self.start_sentinel()

    async def have_accidents(self, draw: random.Random) -> None:
        """One after the other: each kind at least once, in any order, with pauses of any length."""
        kinds = ["cut", "loki killed", "cut", "loki stopped", "sentinel killed", "cut"]
        draw.shuffle(kinds)
        for kind in kinds:
            await asyncio.sleep(draw.uniform(0.2, DURATION_S / len(kinds) / 1.5))
            self.accidents.append(kind)
            if kind == "cut":
                await self.cut(draw)
            elif kind == "sentinel killed":
                await self.restart_sentinel()
            else:
                await self.restart_loki(kill=kind == "loki killed")

    async def number(self, name: str) -> float:
        """What a recorded series is now."""
        found = (await self.http.get(f"{self.url}/api/v1/query", params={"query": name})).json()
        rows = found["data"]["result"] if found["status"] == "success" else []
        return float(rows[0]["value"][1]) if rows else 0.0

    async def drops(self) -> list[str]:
        """What was left out; a batch that a killed router hands on again is no loss."""
        text = (await self.http.get(f"{self.url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("sentinel_drops_total")]
        return [line for line in lines if not re.search("no_rule|repeated_batch", line)]

    async def published(self) -> Counter[int]:
        """The number of every line on the topic `logs`, and how often it stands there."""
        found: Counter[int] = Counter()
        for batch in map(decode_batch, await whole_topic(self.kafka_url, "sentinel-logs")):
            assert isinstance(batch, LogBatch)
            lines = (entry.line for stream in batch.streams for entry in stream.entries)
            found.update(int(re.findall(r"number=(\d+)", line)[0]) for line in lines)
        return found


def write_rules(folder: Path) -> None:
    """Log rules that count what is in the windows, and a rule that makes their results answerable."""
    recorded = [{"record": name, "expr": text} for name, text in LOG_RULES.items()]
    kept = [{"alert": f"Keeps{i}", "expr": f"{name} < 0"} for i, name in enumerate(LOG_RULES)]
    for language, rules in (("logql", recorded), ("promql", kept)):
        (folder / "rules" / language).mkdir(parents=True)
        groups = {"groups": [{"name": language, "interval": "5s", "rules": rules}]}
        (folder / "rules" / language / "load.yml").write_bytes(msgspec.json.encode(groups))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    for name in ("kafka", "loki"):
        (tmp_path / name).mkdir()
    write_rules(tmp_path)
    async with AsyncExitStack() as stack:
        loki = stack.enter_context(running_loki(tmp_path / "loki"))
        gate = await stack.enter_async_context(opened(Gate(lambda: asyncio.open_connection("127.0.0.1", loki.port))))
        kafka = stack.enter_context(running_kafka(tmp_path / "kafka"))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        world = World(tmp_path, loki, gate, kafka.url, free_ports(1)[0], http)
        try:
            yield world
        finally:
            if world.sentinel is not None:
                world.sentinel.kill()


async def test_every_line_is_in_the_windows_exactly_once(world: World) -> None:
    agent = Agent(world.loki.url)
    before = asyncio.create_task(agent.run(3))  # history: it is there before Sentinel is
    await before
    await world.start_sentinel()
    sending = asyncio.create_task(agent.run(DURATION_S))
    await world.have_accidents(random.Random(SEED))
    await sending

    async def all_counted() -> bool:
        return await world.number("load:lines") >= agent.sent

    try:
        await until(all_counted, 60, "the windows holding every line")
    finally:
        published = await world.published()
        missing = set(range(agent.sent)) - set(published)
        double = [number for number, times in published.items() if times > 1]
        print(f"{agent.sent} lines, {agent.retries} retries, accidents {world.accidents}, drops {await world.drops()}")
        print(f"missing {len(missing)} {sorted(missing)[:5]}, double {len(double)} {sorted(double)[:5]}")
    assert not missing
    assert not double
    assert await world.number("load:lines") == agent.sent
    assert await world.number("load:numbers") == agent.sent
    assert await world.number("load:streams") == STREAMS
    assert await world.drops() == []
