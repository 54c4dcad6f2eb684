"""The whole flow in one process: real HTTP in, Kafka's protocol, PostgreSQL, rules, runbook, a real call out.

One node serves all tests of this module; each test watches a service or queue of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from engine.bundle import BundleReader
from engine.core.messages import DeadLetter, decode_dead_letter, decode_transition
from engine.edge.node import Node, running
from engine.edge.recorder import Recorder, open_recorder
from engine.edge.settings import Settings
from engine.flow import ROLES
from engine.loading import load_texts
from engine.replay import replay
from examples.demo import manifest
from tests.e2e import shop
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    node: Node
    service: shop.Shop
    client: shop.Client
    recorder: Recorder
    recording: AsyncExitStack
    bundle: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    postgres_url: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("node")
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(shop.fresh_database(postgres_url, migrated_template, "flow"))
        service = await stack.enter_async_context(shop.Shop().serving())
        settings = Settings.model_validate(shop.tree(folder, url, service.url))
        loaded = shop.load_rules(settings)
        node = await stack.enter_async_context(running(settings, ROLES, loaded))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await shop.ready(node)
        bundle = folder / "flow.sentinel"
        recording = await stack.enter_async_context(AsyncExitStack())
        opening = open_recorder(settings.kafka, node.bootstrap, bundle, manifest(node, loaded))
        recorder = await recording.enter_async_context(opening)
        yield World(node, service, shop.Client(session, node.http_url), recorder, recording, bundle)


async def test_failing_payments_are_found_repaired_once_verified_and_reported(world: World) -> None:
    await world.client.push("card", lines=3)
    kinds = await world.client.reaches("card", "incident.resolved")
    wanted = ["incident.opened", "command.sent", "command.outcome", "verify.succeeded", "incident.resolved"]
    assert [kind for kind in kinds if kind in wanted] == wanted
    assert world.service.restarts.count("card") == 1
    found = await world.client.incident("card")
    assert [command["status"] for command in found["commands"]] == ["succeeded"]
    report = await world.client.get(f"/incidents/{found['incident']['id']}/report")
    for part in ("Payments of card fail", "on shop", "succeeded", "payment_failed"):
        assert part in report


async def test_two_failures_are_not_three(world: World) -> None:
    await world.client.push("invoice", lines=2)
    await world.client.push("cheque", lines=3)  # what came after has been decided, so what came before has been
    await world.client.reaches("cheque", "incident.resolved")
    assert await world.client.incident("invoice") == {}


async def test_a_metric_alert_without_a_runbook_is_shown_and_opens_nothing(world: World) -> None:
    await world.client.write("mail", 101)

    async def firing() -> bool:
        alerts = await world.client.get("/api/alerts")
        return any(alert["labels"].get("queue") == "mail" and alert["state"] == "firing" for alert in alerts)

    await until(firing)
    answer = await world.client.get("/api/v1/query", query='queue_depth{job="shop"}')
    assert [(one["metric"]["queue"], one["value"][1]) for one in answer["data"]["result"]] == [("mail", "101")]
    assert not [one for one in await world.client.get("/api/incidents") if "queue" in one["labels"]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("sum(", 400),
        ("process_start_time_seconds", 422),  # no rule reads it
        ('queue_depth{job="shop"}[10m]', 422),  # further back than it is kept
    ],
)
async def test_a_query_that_cannot_be_answered_is_refused(world: World, query: str, status: int) -> None:
    assert await world.client.status("/api/v1/query", query=query) == status


async def test_the_process_says_how_it_is(world: World) -> None:
    ready = await world.client.get("/ready")
    assert ready["ok"]
    assert set(ready["checks"]) >= {"router", "evaluator", "responder", "executor"}
    assert (await world.client.get("/health"))["ok"]
    await world.client.push("wallet", lines=1)

    async def counted() -> bool:
        text = await world.client.get("/metrics")
        names = ("sentinel_transitions_total{", "sentinel_processed_total{", "sentinel_lag_messages{")
        return all(name in text for name in names)

    await until(counted)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/loki/api/v1/push", b'{"streams":[', {"Content-Type": "application/json"}),
        ("/loki/api/v1/push", b'{"streams":[{"stream":{"job":1}}]}', {"Content-Type": "application/json"}),
        ("/loki/api/v1/push", b"\xff\xff", {"Content-Type": "application/x-protobuf"}),
        ("/api/v1/write", b"not snappy", {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_and_changes_nothing(
    world: World, path: str, body: bytes, headers: dict[str, str]
) -> None:
    async def data() -> int:
        topics = [await shop.messages(world.node, topic) for topic in ("logs", "metrics")]
        return sum(b'"values":[' in one or b'"entries"' in one for batch in topics for one in batch)

    before = await data()
    assert await world.client.post(path, body, headers) == 400
    assert await data() == before


async def test_a_message_that_cannot_be_read_is_kept_with_its_reason_and_the_flow_goes_on(world: World) -> None:
    kafka = world.node.settings.kafka
    producer = AIOKafkaProducer(bootstrap_servers=world.node.bootstrap)
    await producer.start()
    try:
        put = await producer.send_and_wait(kafka.topic_prefix + "metrics", b"\x00 not json", key=b"somebody")
    finally:
        await producer.stop()

    async def letters() -> list[DeadLetter]:
        return [decode_dead_letter(value) for value in await shop.messages(world.node, "dead-letter")]

    [letter] = await until(letters)
    assert (letter.topic, letter.partition, letter.offset) == ("metrics", put.partition, put.offset)
    assert (letter.key, letter.value) == (b"somebody", b"\x00 not json")
    assert "not decodable" in letter.reason
    await world.client.write("after", 500)

    async def fired() -> bool:
        found = [decode_transition(value) for value in await shop.messages(world.node, "alerts")]
        return any(one.labels.get("queue") == "after" for one in found)

    await until(fired)
    assert "sentinel_dead_letters_total{" in await world.client.get("/metrics")


async def test_a_service_that_fails_again_is_repaired_again(world: World) -> None:
    for count in (1, 2):
        await world.client.push("again", lines=3)
        await until(lambda count=count: world.service.restarts.count("again") == count)  # type: ignore[misc]  # the loop's own value

        async def over() -> bool:
            return bool((found := await world.client.incident("again")) and found["incident"]["closed_ms"])

        await until(over)


async def test_at_the_end_a_replay_decides_everything_again(world: World) -> None:
    apps = [part for name, part in world.node.parts.items() if name.endswith("-app")]
    await until(lambda: not sum(sum(app.lag().values()) for app in apps))
    async with asyncio.timeout(20):
        await world.recorder.catch_up()
    await world.recording.aclose()
    with BundleReader(world.bundle) as reader:
        groups = load_texts(reader.manifest.rules).groups
        again = replay(reader.messages(), groups, reader.manifest.config.shards, world.node.step_config)
    assert (again.gone, again.added) == ([], [])
    assert len(again.identical) >= 7
    assert again.dropped == {"not_decodable": 1}
