"""What is away for a while comes back, and nothing that happened meanwhile is lost or done twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from engine.core.messages import decode_transition
from engine.edge.database import Database
from engine.edge.node import running
from engine.edge.settings import Settings
from engine.flow import ROLES
from tests.e2e import shop
from tests.e2e.gate import gated
from tests.parts import running_kafka
from tests.waiting import until

SERVICES = ["card", "cheque", "wallet"]


async def test_alerts_that_come_while_the_database_is_away_become_incidents_when_it_is_back(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        gate, database_url = await stack.enter_async_context(gated(database.url))
        service = await stack.enter_async_context(shop.Shop().serving())
        settings = Settings.model_validate(shop.tree(tmp_path, database_url, service.url))
        node = await stack.enter_async_context(running(settings, ROLES, shop.load_rules(settings)))
        client = shop.Client(await stack.enter_async_context(aiohttp.ClientSession()), node.http_url)
        await shop.ready(node)

        await gate.shut()
        for name in SERVICES:
            await client.push(name, lines=3)

        async def resolved() -> bool:
            found = [decode_transition(value) for value in await shop.messages(node, "alerts")]
            return {one.labels["service"] for one in found if one.state == "resolved"} == set(SERVICES)

        await until(resolved)  # so the outage was as long as the rule's window
        assert service.restarts == []
        await gate.open()
        for name in SERVICES:
            await client.reaches(name, "incident.resolved")
        assert not node.failure.done()
        assert len(service.restarts) == len(set(service.restarts))
    said = capfd.readouterr()
    told = [word for word in (said.out + said.err).split() if word in ("database.away", "database.back")]
    assert told[:2] == ["database.away", "database.back"]
    assert len(told) <= 8  # a change of state is a line, not every failed try


@pytest.mark.real
@pytest.mark.timeout(240)
async def test_a_broker_that_dies_and_comes_back_loses_nothing_that_was_taken(
    database: Database, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        (tmp_path / "kafka").mkdir()
        kafka = stack.enter_context(running_kafka(tmp_path / "kafka"))
        service = await stack.enter_async_context(shop.Shop().serving())
        settings = Settings.model_validate(shop.tree(tmp_path, database.url, service.url, f"kafka://{kafka.url}"))
        node = await stack.enter_async_context(running(settings, ROLES, shop.load_rules(settings)))
        client = shop.Client(await stack.enter_async_context(aiohttp.ClientSession()), node.http_url)
        await shop.ready(node)
        await client.push("card", lines=3)
        await client.reaches("card", "command.sent")
        kafka.kill(0)

        async def refused() -> bool:
            return await client.try_push("cheque", lines=3) == 503

        await until(refused, 60, "the receiver's refusal")  # so whoever ships the lines keeps them
        kafka.start(0)
        await asyncio.to_thread(kafka.wait_until_ready)

        async def taken() -> bool:
            return await client.try_push("wallet", lines=3) == 204

        await until(taken, 60, "the receiver taking lines again")
        for name in ("card", "wallet"):
            await client.reaches(name, "command.outcome", 90)
        assert service.restarts.count("card") == service.restarts.count("wallet") == 1
        assert not node.failure.done()
