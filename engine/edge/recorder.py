"""Records topics to a bundle while they are written.

The recorder reads every partition itself, without a consumer group, from the first message that is there. A gap in the
offsets (the embedded broker drops what exceeds its small memory) is an error, never ignored: a bundle with a hole
would replay to something that never happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from engine.bundle import BundleWriter, Manifest
from engine.edge.broker import client_options, fetch_wait_ms
from engine.edge.settings import KafkaSettings
from engine.flow import ALERTS, COMMANDS, LOGS, METRICS, OUTCOMES

log = structlog.get_logger(__name__)

RECORDED = (METRICS, LOGS, ALERTS, COMMANDS, OUTCOMES)


class RecordingGapError(Exception):
    """Messages were gone before they could be recorded."""


class Recorder:
    """Copies messages from topics into a bundle. `catch_up` returns when everything written so far is in it."""

    def __init__(self, consumer: AIOKafkaConsumer, writer: BundleWriter, prefix: str) -> None:
        self._consumer = consumer
        self._writer = writer
        self._prefix = prefix
        self._next: dict[TopicPartition, int] = {}

    async def copy(self, timeout_ms: int = 200) -> int:
        """Copy what is there; returns the number of messages. Raises `RecordingGapError`."""
        count = 0
        batches = await self._consumer.getmany(timeout_ms=timeout_ms)
        for place, messages in batches.items():
            for message in messages:
                expected = self._next.get(place, 0)
                if message.offset != expected:
                    raise RecordingGapError(
                        f"topic {place.topic}, partition {place.partition}: offsets {expected} to {message.offset - 1} "
                        "were gone before they could be recorded"
                    )
                self._next[place] = message.offset + 1
                self._writer.add(
                    place.topic.removeprefix(self._prefix), place.partition, message.offset, message.value or b""
                )
                count += 1
        return count

    async def catch_up(self) -> None:
        """Copy until everything that stands on the topics now is in the bundle."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while any(self._next.get(place, 0) < end for place, end in ends.items()):
            await self.copy()

    async def run(self) -> None:
        """Copy until cancelled."""
        while True:
            await self.copy()


@asynccontextmanager
async def open_recorder(
    settings: KafkaSettings, bootstrap: str, path: Path, manifest: Manifest
) -> AsyncIterator[Recorder]:
    """A recorder of all topics that a replay needs, writing to `path`; `run` it beside the roles."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=fetch_wait_ms(settings),
        **client_options(settings),
    )
    await consumer.start()
    try:
        places = [
            TopicPartition(settings.topic_prefix + topic.name, number)
            for topic in RECORDED
            for number in await _partitions(consumer, settings.topic_prefix + topic.name)
        ]
        consumer.assign(places)
        with BundleWriter(path, manifest) as writer:
            yield Recorder(consumer, writer, settings.topic_prefix)
            log.info("recorder.done", bundle=str(path), messages=writer.messages)
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    """The partitions of a topic; the embedded broker creates it when it is first asked for."""
    while True:
        await consumer._client.add_topic(topic)
        await consumer._client.force_metadata_update()
        found = consumer.partitions_for_topic(topic)
        if found:
            return sorted(found)
        await asyncio.sleep(0.1)
