"""What Sentinel asks of a broker, held against the embedded one and a real Kafka alike.

A difference that is known is a strict xfail: when a release of librdkafka closes the gap, this suite says so.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import MessageSizeTooLargeError, OffsetOutOfRangeError

from tests.contracts.conftest import Broker, both, only_kafka

PARTITIONS = 4
EMBEDDED_KEEPS_BYTES = 5 * 1024 * 1024
READ_TIMEOUT_S = 20


@asynccontextmanager
async def producing(broker: Broker, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.url, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def consuming(broker: Broker, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    defaults: dict[str, Any] = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 20, "enable_auto_commit": False}
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=broker.url, **(defaults | options))
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def administering(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.url)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def send(broker: Broker, topic: str, values: Sequence[bytes], **options: Any) -> None:
    """Send all to partition 0, in order."""
    async with producing(broker, **options) as producer:
        sent = [await producer.send(topic, value, partition=0) for value in values]
        for one in sent:
            await one


async def read(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """The next so many records; fewer when they do not come in time."""
    records: list[ConsumerRecord[bytes, bytes]] = []
    deadline = time.monotonic() + READ_TIMEOUT_S
    while len(records) < count and time.monotonic() < deadline:
        for batch in (await consumer.getmany(timeout_ms=200, max_records=count - len(records))).values():
            records.extend(batch)
    return records


@both()
async def test_a_key_always_meets_the_same_partition_and_each_partition_keeps_the_order(
    broker: Broker, topic: str
) -> None:
    async with producing(broker, max_batch_size=512) as producer:
        sent = [await producer.send(topic, str(i).encode(), key=f"key-{i % 17}".encode()) for i in range(1000)]
        for one in sent:
            await one
    async with consuming(broker, topic) as consumer:
        records = await read(consumer, 1000)
    partitions_of_key = defaultdict(set)
    numbers_of_partition = defaultdict(list)
    for record in records:
        partitions_of_key[record.key].add(record.partition)
        numbers_of_partition[record.partition].append(int(record.value or b""))
    assert len(records) == 1000
    assert {len(partitions) for partitions in partitions_of_key.values()} == {1}
    assert len(numbers_of_partition) == PARTITIONS
    assert all(numbers == sorted(numbers) for numbers in numbers_of_partition.values())


@both()
async def test_a_group_that_starts_again_goes_on_from_the_committed_offset(broker: Broker, topic: str) -> None:
    await send(broker, topic, [b"%d" % i for i in range(10)])
    member = {"group_id": topic, "session_timeout_ms": 6_000}  # the embedded one lets a member back in after 5 of them
    async with consuming(broker, topic, **member) as consumer:
        assert [record.value for record in await read(consumer, 10)][-1] == b"9"
        await consumer.commit({TopicPartition(topic, 0): 4})
    async with consuming(broker, topic, **member) as consumer:
        assert [record.value for record in await read(consumer, 6)] == [b"4", b"5", b"6", b"7", b"8", b"9"]


@only_kafka
async def test_two_members_of_a_group_share_the_partitions(broker: Broker, topic: str) -> None:
    # The embedded broker answers the second member's SyncGroup with InvalidRequest when the leader's came first.
    await send(broker, topic, [b"first"])
    async with consuming(broker, topic, group_id=topic) as one:
        assert len(one.assignment()) == PARTITIONS
        async with consuming(broker, topic, group_id=topic, heartbeat_interval_ms=100) as other:
            deadline = time.monotonic() + READ_TIMEOUT_S
            while len(one.assignment()) + len(other.assignment()) != PARTITIONS and time.monotonic() < deadline:
                await one.getmany(timeout_ms=50)
                await other.getmany(timeout_ms=50)
            assert len(one.assignment()) == len(other.assignment()) == PARTITIONS / 2
            assert one.assignment().isdisjoint(other.assignment())


@both()
@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_compressed_batches_come_back_as_they_were_sent(broker: Broker, topic: str, codec: str) -> None:
    values = [b'{"line": %d}' % i * 50 for i in range(200)]
    await send(broker, topic, values, compression_type=codec)
    async with consuming(broker, topic) as consumer:
        assert [record.value for record in await read(consumer, len(values))] == values


@both()
async def test_key_headers_time_and_a_missing_value_are_kept(broker: Broker, topic: str) -> None:
    headers = [("content-type", b"json"), ("empty", b"")]
    async with producing(broker) as producer:
        await producer.send_and_wait(topic, None, key=b"key", headers=headers, timestamp_ms=1_234_567_890_123)
    async with consuming(broker, topic) as consumer:
        (record,) = await read(consumer, 1)
    assert (record.key, record.value, list(record.headers), record.timestamp, record.offset) == (
        b"key", None, headers, 1_234_567_890_123, 0,
    )  # fmt: skip


@both()
async def test_a_topic_comes_into_being_with_the_default_partitions_when_it_is_written_to(
    broker: Broker, topic: str
) -> None:
    await send(broker, topic, [b"first"])
    async with consuming(broker, topic) as consumer:
        assert consumer.partitions_for_topic(topic) == set(range(PARTITIONS))


@both()
async def test_a_message_of_a_megabyte_passes(broker: Broker, topic: str) -> None:
    value = b"x" * 1_000_000
    await send(broker, topic, [value])
    async with consuming(broker, topic) as consumer:
        assert [record.value for record in await read(consumer, 1)] == [value]


@both(embedded_differs="the embedded broker has no limit on the size of a message")
async def test_a_message_beyond_the_limit_is_refused(broker: Broker, topic: str) -> None:
    with pytest.raises(MessageSizeTooLargeError):
        await send(broker, topic, [b"x" * 2_000_000], max_request_size=4_000_000)


@both(embedded_differs="the embedded broker has no CreateTopics: every topic has the default partitions")
async def test_a_topic_can_be_created_with_its_own_partitions(broker: Broker, topic: str) -> None:
    async with administering(broker) as admin:
        await admin.create_topics([NewTopic(topic, num_partitions=7, replication_factor=1)])
        (told,) = await admin.describe_topics([topic])
    assert len(told["partitions"]) == 7


@both(embedded_differs="the embedded broker finds no offset for a time")
async def test_the_offset_of_a_time_is_found(broker: Broker, topic: str) -> None:
    async with producing(broker) as producer:
        for time_ms in (1_000, 2_000, 3_000):
            await producer.send_and_wait(topic, b"", partition=0, timestamp_ms=time_ms)
    partition = TopicPartition(topic, 0)
    async with consuming(broker) as consumer:
        found = (await consumer.offsets_for_times({partition: 1_500}))[partition]
    assert found is not None
    assert (found.offset, found.timestamp) == (1, 2_000)


@both(embedded_differs="the embedded broker holds a fetch for its whole wait, also when data has come: keep it short")
async def test_data_ends_the_wait_of_a_fetch(broker: Broker, topic: str) -> None:
    await send(broker, topic, [b"first"])
    async with consuming(broker, topic, fetch_max_wait_ms=2_000) as consumer, producing(broker) as producer:
        await read(consumer, 1)
        assert await consumer.getmany(timeout_ms=300) == {}  # by now a fetch waits at the broker
        await producer.send_and_wait(topic, b"second", partition=0)
        sent_s = time.monotonic()
        assert [record.value for record in await read(consumer, 1)] == [b"second"]
        assert time.monotonic() - sent_s < 1.0


async def lose_the_oldest(broker: Broker, topic: str) -> None:
    """Fill partition 0 with 100 messages and make the broker forget some of the first."""
    await send(broker, topic, [b"x" * (EMBEDDED_KEEPS_BYTES // 50)] * 100, max_batch_size=1)
    if broker.kind == "kafka":
        async with administering(broker) as admin:
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=50)})


@both()
async def test_a_consumer_behind_the_oldest_kept_message_sees_the_gap_in_the_offsets(
    broker: Broker, topic: str
) -> None:
    await lose_the_oldest(broker, topic)
    partition = TopicPartition(topic, 0)
    async with consuming(broker, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 10)
        (record,) = await read(consumer, 1)
        oldest = (await consumer.beginning_offsets([partition]))[partition]
    assert 10 < record.offset == oldest


@both()
async def test_without_a_reset_policy_a_gap_is_an_error(broker: Broker, topic: str) -> None:
    await lose_the_oldest(broker, topic)
    partition = TopicPartition(topic, 0)
    async with consuming(broker, auto_offset_reset="none") as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 10)
        with pytest.raises(OffsetOutOfRangeError):
            await consumer.getone()


@both()
async def test_reset_to_latest_hides_a_gap_until_something_new_comes(broker: Broker, topic: str) -> None:
    await lose_the_oldest(broker, topic)
    partition = TopicPartition(topic, 0)
    async with consuming(broker, auto_offset_reset="latest") as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 10)
        assert await consumer.getmany(timeout_ms=500) == {}
        assert await consumer.position(partition) == 100
