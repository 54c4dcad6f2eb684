"""Evaluators that are killed, join and leave in mid-traffic: no transition is lost, none comes out otherwise.

```
lines        ....x..xx...x....xx..x...xxx...x..xx..x....x....   shipped all the while
killed       ────────────── x SIGKILL      ── started ─────────
scaled       ──────────────────────────────────── stopped
                            started ───────────────────────────
alerts       firing .. resolved ..               .. firing ..   the same as a replay of what was shipped
```
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.bundle import BundleReader
from engine.core.messages import Transition, decode_transition
from engine.edge.node import Node, running
from engine.edge.recorder import open_recorder
from engine.edge.settings import Settings
from engine.loading import Loaded
from engine.replay import Comparison, replay
from examples.demo import manifest
from tests.e2e import shop
from tests.parts import Program, answers, free_ports, running_kafka
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

SERVICES = ["card", "cheque", "wallet", "mail", "stock"]


@dataclass
class World:
    """Connectors and router in this process on a real Kafka; evaluators are processes of their own."""

    folder: Path
    tree: dict[str, Any]
    node: Node
    loaded: Loaded
    client: shop.Client
    stack: AsyncExitStack

    def start_evaluator(self) -> tuple[Program, str]:
        """A further evaluator, and where it says that it is ready."""
        [port] = free_ports(1)
        self.tree["http"]["listen"] = f"127.0.0.1:{port}"
        self.tree["state_dir"] = str(self.folder / f"evaluator-{port}")
        program = shop.start_roles("evaluator", self.tree, self.folder)
        self.stack.callback(program.kill)
        return program, f"http://127.0.0.1:{port}/ready"

    async def ship(self, rounds: int) -> None:
        """Failing payments of one service after the other, and queues that grow and shrink: alerts come and go."""
        for number in range(rounds):
            await self.client.push(SERVICES[number % len(SERVICES)], lines=1 + number % 4)
            await self.client.write(SERVICES[number % 3], 80 + number % 50)
            await asyncio.sleep(0.1)  # the traffic's own pace, not a wait for something

    async def said(self) -> list[Transition]:
        return [decode_transition(value) for value in await shop.messages(self.node, "alerts")]

    async def replayed(self) -> Comparison:
        """Wait until every alert about payments has ended, then run everything that was shipped again."""

        async def ended() -> bool:
            last = {one.fingerprint: one.state for one in await self.said() if one.alertname == "PaymentsFail"}
            return len(last) == len(SERVICES) and set(last.values()) == {"resolved"}

        await until(ended, 60, "the end of every alert")
        path, settings = self.folder / "a.sentinel", self.node.settings
        opening = open_recorder(settings.kafka, self.node.bootstrap, path, manifest(self.node, self.loaded))
        async with opening as recorder:
            await recorder.catch_up()
        with BundleReader(path) as reader:
            return replay(reader.messages(), self.loaded.groups, settings.rules.shards, self.node.step_config)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "kafka").mkdir()
    async with AsyncExitStack() as stack:
        kafka = stack.enter_context(running_kafka(tmp_path / "kafka"))
        tree = shop.tree(tmp_path, "", "http://127.0.0.1:1", f"kafka://{kafka.url}")
        settings = Settings.model_validate(tree)
        loaded = shop.load_rules(settings)
        node = await stack.enter_async_context(running(settings, ["connectors", "router"], loaded))
        client = shop.Client(await stack.enter_async_context(aiohttp.ClientSession()), node.http_url)
        await shop.ready(node)
        yield World(tmp_path, tree, node, loaded, client, stack)


async def ready(url: str) -> None:
    await until(lambda: asyncio.to_thread(answers, url), 60, "an evaluator's readiness")


async def test_one_that_is_killed_and_started_again(world: World) -> None:
    first, url = world.start_evaluator()
    await ready(url)
    await world.ship(60)
    first.kill()
    second, url = world.start_evaluator()
    await world.ship(60)
    await ready(url)
    await world.ship(30)
    again = await world.replayed()
    assert (again.gone, again.added) == ([], [])
    assert len(again.identical) > 10
    ids = [one.id for one in await world.said()]
    assert len(ids) - len(set(ids)) <= 2  # said, and killed before that was noted: said again, with the same id
    assert second.stop() == 0


async def test_one_that_joins_and_one_that_leaves(world: World) -> None:
    first, url = world.start_evaluator()
    await ready(url)
    await world.ship(30)
    _, url = world.start_evaluator()
    await world.ship(60)
    await ready(url)
    assert first.stop() == 0
    await world.ship(60)
    again = await world.replayed()
    assert (again.gone, again.added) == ([], [])
    assert len(again.identical) > 10
