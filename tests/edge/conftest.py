"""An embedded broker with Sentinel's topics for the tests of the parts that meet on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from engine.edge.broker import ensure_topics, open_broker
from engine.edge.settings import Settings
from engine.flow import TOPICS, Topic
from tests.topics import whole_topic


@dataclass
class Site:
    """A broker with every topic, settings that name it, and somebody who writes and reads."""

    settings: Settings
    bootstrap: str
    producer: AIOKafkaProducer

    def name(self, topic: Topic) -> str:
        return self.settings.kafka.topic_prefix + topic.name

    async def put(self, topic: Topic, value: bytes | None, key: bytes = b"k") -> tuple[int, int]:
        """Write one message; its partition and offset."""
        put = await self.producer.send_and_wait(self.name(topic), value, key=key)
        return put.partition, put.offset

    async def read(self, topic: Topic) -> list[bytes]:
        """Everything that stands on a topic now, in order within each key."""
        return await whole_topic(self.bootstrap, self.name(topic), self.settings.kafka.partitions)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    tree = {
        "state_dir": tmp_path,
        "kafka": {"fetch_wait_ms": 20, "session_timeout_s": 6},
        "http": {"listen": "127.0.0.1:0"},
    }
    settings = Settings.model_validate(tree)
    async with open_broker(settings.kafka) as bootstrap:
        await ensure_topics(settings.kafka, bootstrap, TOPICS)
        named = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"url": f"kafka://{bootstrap}"})})
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        try:
            yield Site(named, bootstrap, producer)
        finally:
            await producer.stop()
