"""What stands on a topic, read from its beginning to its end without a consumer group."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

PARTITIONS = 4  # of a topic where the settings do not say otherwise


async def whole_topic(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> list[bytes]:
    """Everything that stands on a topic now, in order within each key."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[bytes] = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += [message.value for message in batch]
        return found
    finally:
        await consumer.stop()
