"""Log records from a topic that somebody else fills, on the embedded broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from connectors._records import Format
from engine.core import labels
from engine.core.messages import LogBatch, decode_batch, decode_dead_letter
from engine.edge.clock import SystemClock
from engine.edge.publisher import ConnectorMetrics, Publisher
from engine.edge.sender import Sender, open_sender
from engine.edge.settings_sources import LogTopic, RecordFields
from engine.edge.topic_reader import TopicReader, open_topic_reader
from engine.flow import DEAD_LETTER, LOGS
from tests.edge.conftest import Site
from tests.waiting import until

TOPIC = "their-logs"


@dataclass
class Reading:
    """A reader of a foreign topic, and the publisher it hands lines to; the broker's answers may be refused."""

    site: Site
    stack: AsyncExitStack
    registry: CollectorRegistry
    publisher: Publisher
    sender: Sender
    now_ms: list[int]
    refused: int = 0

    async def send(self, topic: str, key: bytes, value: bytes) -> None:
        if self.refused:
            self.refused -= 1
            raise ConnectionError("broker away")
        await self.sender(topic, key, value)

    async def open(self, kind: Format = "vector", fields: RecordFields | None = None) -> TopicReader:
        config = LogTopic(topic=TOPIC, format=kind, start="earliest", fields=fields or RecordFields())
        opening = open_topic_reader(self.site.settings.kafka, self.site.bootstrap, config, self.publisher, self.send)
        return await self.stack.enter_async_context(opening)

    async def put(self, value: bytes | None, partition: int = 0) -> None:
        await self.site.producer.send_and_wait(TOPIC, value, key=b"k", partition=partition)
        self.now_ms[0] = SystemClock().now_ms()  # by the same clock Kafka's client stamps the message

    async def lines(self) -> list[str]:
        batches = [decode_batch(value) for value in await self.site.read(LOGS)]
        streams = [stream for batch in batches if isinstance(batch, LogBatch) for stream in batch.streams]
        return [entry.line for stream in streams for entry in stream.entries]


@pytest.fixture
async def reading(site: Site) -> AsyncIterator[Reading]:
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(open_sender(site.settings.kafka, site.bootstrap))
        registry, now_ms = CollectorRegistry(), [0]
        found = Reading(site, stack, registry, None, sender, now_ms)  # type: ignore[arg-type]  # made in the next line
        found.publisher = Publisher(found.send, lambda: now_ms[0], ConnectorMetrics(registry))
        yield found
        await found.publisher.close()


async def read(reader: TopicReader, number: int) -> None:
    """Read until so many records were taken."""
    taken = 0

    async def more() -> bool:
        nonlocal taken
        taken += await reader.read_once()
        return taken >= number

    await until(more, 20, f"{number} records")


def record(line: str, **more: object) -> bytes:
    return msgspec.json.encode({"message": line, **more})


async def test_records_become_lines_with_the_labels_that_the_settings_name(reading: Reading) -> None:
    await reading.put(record("one", app="shop"))
    await reading.put(record("two", app="till"))
    reader = await reading.open(fields=RecordFields(labels={"app": "app"}))
    await read(reader, 2)
    batches = [decode_batch(value) for value in await reading.site.read(LOGS)]
    streams = [stream for batch in batches if isinstance(batch, LogBatch) for stream in batch.streams]
    assert [(labels.decode(stream.labels), stream.entries[0].line) for stream in streams] == [
        ({"app": "shop"}, "one"),
        ({"app": "till"}, "two"),
    ]
    counted = {"source_kind": "logs", "connector": "log_topics"}
    assert reading.registry.get_sample_value("sentinel_connector_events_total", counted) == 2


async def test_a_new_process_goes_on_where_the_group_was(reading: Reading) -> None:
    await reading.put(record("one"))
    async with AsyncExitStack() as first:
        reading.stack, outer = first, reading.stack
        await read(await reading.open(), 1)
        reading.stack = outer
    await reading.put(record("two"))
    await read(await reading.open(), 1)
    assert await reading.lines() == ["one", "two"]


async def test_offsets_are_committed_only_when_our_topic_has_the_lines(reading: Reading) -> None:
    await reading.put(record("one"))
    reader = await reading.open()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        committed = [await reader._consumer.committed(place) for place in reader._consumer.assignment()]
        assert not any(committed)

    reader._sleep = sleep
    reading.refused = 2
    await read(reader, 1)
    assert len(slept) >= 1
    assert await reading.lines() == ["one"]


async def test_poison_goes_to_the_dead_letters_with_its_reason_and_the_rest_goes_on(reading: Reading) -> None:
    for value in (record("one"), b"no json", record("two", timestamp="soon"), None, record("three")):
        await reading.put(value)
    await read(await reading.open(), 5)
    assert await reading.lines() == ["one", "three"]
    letters = [decode_dead_letter(value) for value in await reading.site.read(DEAD_LETTER)]
    assert [(one.topic, one.offset, one.reason.split(":")[0]) for one in letters] == [
        (TOPIC, 1, "bad_json"),
        (TOPIC, 2, "invalid_time"),
        (TOPIC, 3, "empty_body"),
    ]
    assert letters[0].value == b"no json"
    dropped = {"stage": "connector", "reason": "bad_json"}
    assert reading.registry.get_sample_value("sentinel_dropped_total", dropped) == 1


async def test_each_partition_is_a_source_and_complete_up_to_its_lateness(reading: Reading) -> None:
    await reading.put(record("one"), partition=0)
    await reading.put(record("two"), partition=1)
    reader = await reading.open("plain")
    await read(reader, 2)

    def watermark(partition: int) -> float:
        label = {"source": f"log_topics/{TOPIC}/{partition}"}
        return reading.registry.get_sample_value("sentinel_source_watermark_ms", label) or 0.0

    for partition in (0, 1):
        assert reading.now_ms[0] - 10_000 < watermark(partition) <= reading.now_ms[0] - 2_000
    before = watermark(0)
    reading.now_ms[0] += 60_000  # nothing more comes, and the broker says so

    async def moved() -> bool:
        await reader.read_once()
        return watermark(0) > before

    await until(moved, 20, "the watermark of a silent partition")
