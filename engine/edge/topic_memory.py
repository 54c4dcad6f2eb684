"""What an earlier run of a reader said, looked up on the topic that it said it on."""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from engine.core.messages import LogBatch, LogStream, decode_batch
from engine.edge.broker import client_options, fetch_wait_ms
from engine.edge.loki_reader import Remembered
from engine.edge.publisher import UnavailableError
from engine.edge.settings import KafkaSettings
from engine.flow import LOGS

_NEAR_MS = 60_000
"""Lines may have been sent so long before the time up to which their source is complete."""
_MOST_WITHOUT_LOOK_UP = 100_000
"""The embedded broker finds no offset for any time, but holds no more messages than this: all of them are read."""


class TopicMemory:
    """The topic `logs` as the memory of its sources, whichever process spoke for them."""

    def __init__(self, settings: KafkaSettings, bootstrap: str) -> None:
        self._settings = settings
        self._bootstrap = bootstrap

    async def recall(self, source: str, since_ms: int) -> Remembered | None:
        """How far a source was complete, and what it sent shortly before that and beyond; None if it sent nothing.

        Read are the messages stored since `since_ms`, of which those with the source as key are its own. Raises
        `UnavailableError` when the broker cannot be read.
        """
        try:
            return await self._read(source, since_ms)
        except KafkaError as error:
            raise UnavailableError(f"the topic {LOGS.name} cannot be read: {error!r}") from error

    async def _read(self, source: str, since_ms: int) -> Remembered | None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            fetch_max_wait_ms=fetch_wait_ms(self._settings),
            **client_options(self._settings),
        )
        try:
            await consumer.start()
            found = _Found()
            ends = await _seek(consumer, self._settings.topic_prefix + LOGS.name, self._settings.partitions, since_ms)
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    for message in messages:
                        if message.key == source.encode() and message.value:
                            found.note(message.value)
        finally:
            await consumer.stop()
        return found.remembered()


class _Found:
    """What the messages of one source amount to."""

    def __init__(self) -> None:
        self._complete_ms: int | None = None
        self._streams: list[tuple[int, LogStream]] = []

    def note(self, value: bytes) -> None:
        try:
            batch = decode_batch(value)
        except msgspec.DecodeError:
            return  # the router sends it to the dead-letter topic
        if not isinstance(batch, LogBatch):
            return
        self._complete_ms = max(self._complete_ms or 0, batch.watermark_ms)
        self._streams += [(stream.entries[-1].t_ns, stream) for stream in batch.streams]
        from_ns = (self._complete_ms - _NEAR_MS) * 1_000_000
        if batch.streams and self._streams[0][0] < from_ns:
            self._streams = [one for one in self._streams if one[0] >= from_ns]

    def remembered(self) -> Remembered | None:
        if self._complete_ms is None:
            return None
        return Remembered(self._complete_ms, [stream for _, stream in self._streams])


async def _seek(consumer: AIOKafkaConsumer, topic: str, partitions: int, since_ms: int) -> dict[TopicPartition, int]:
    """Put a consumer where the messages since a time begin; where each partition ends now."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
    starts = await consumer.beginning_offsets(places)
    since = await consumer.offsets_for_times(dict.fromkeys(places, max(0, since_ms)))
    for place in places:
        found, is_short = since[place], ends[place] - starts[place] <= _MOST_WITHOUT_LOOK_UP
        consumer.seek(place, found.offset if found else starts[place] if is_short else ends[place])
    return ends
