"""Sending to topics from outside a Faust agent: the connectors' way into Kafka."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer

from engine.edge.broker import client_options
from engine.edge.settings import KafkaSettings

MAX_MESSAGE_BYTES = 1_000_000


class Sender:
    """Sends messages and waits for the broker's acknowledgement. Topic names are without prefix."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self._producer = producer
        self._prefix = prefix
        # One lock a source: where a partition's batch is full, aiokafka lets a later message of the same key overtake
        # those that wait for room (28 of 900 did when tried), and an overtaken batch would count as repeated.
        self._order: defaultdict[bytes, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, topic: str, key: bytes, value: bytes) -> None:
        """Send one message; returns once it is acknowledged. Messages of one key are stored in the order of the calls.

        Raises `aiokafka.errors.KafkaError`.
        """
        async with self._order[key]:
            acknowledged = await self._producer.send(self._prefix + topic, value=value, key=key)
        await acknowledged

    async def check(self) -> None:
        """Raises when the broker does not answer."""
        await self._producer.client.fetch_all_metadata()


@asynccontextmanager
async def open_sender(settings: KafkaSettings, bootstrap: str) -> AsyncIterator[Sender]:
    """A running sender."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type="zstd",
        max_request_size=MAX_MESSAGE_BYTES,
        max_batch_size=MAX_MESSAGE_BYTES,
        **client_options(settings),
    )
    await producer.start()
    try:
        yield Sender(producer, settings.topic_prefix)
    finally:
        await producer.stop()
