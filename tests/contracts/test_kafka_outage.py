"""A broker that dies and comes back loses nothing that was acknowledged, and nothing comes twice or out of order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.parts import running_kafka

MESSAGES = 60
KILL_AT = 20


@pytest.mark.real
async def test_messages_sent_across_a_crash_of_the_broker_arrive_once_and_in_order(tmp_path: Path) -> None:
    with running_kafka(tmp_path) as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.url, enable_idempotence=True, request_timeout_ms=60_000)
        await producer.start()
        try:
            waiting = []
            for number in range(MESSAGES):
                waiting.append(await producer.send("across", b"%d" % number, partition=0))
                if number == KILL_AT:
                    await waiting[0]
                    kafka.kill(0)
            kafka.start(0)
            await asyncio.to_thread(kafka.wait_until_ready)
            await asyncio.gather(*waiting)
        finally:
            await producer.stop()
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.url, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition("across", 0)])
            values = [(await consumer.getone()).value for _ in range(MESSAGES)]
        finally:
            await consumer.stop()
    assert values == [b"%d" % number for number in range(MESSAGES)]
