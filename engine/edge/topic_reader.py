"""Reads log records from a Kafka topic that somebody else fills, with a consumer group of ours.

Each partition is a source. Offsets are committed when Sentinel's own topic has the lines, so a process that is killed
in between reads some records again, and their lines count twice. What cannot be decoded goes to the dead-letter topic
with its reason, and is done with then.

A partition is complete up to `lateness_ms` before its newest line; one that is read to its end, up to `lateness_ms`
before the last answer of its broker. One whose broker is away says nothing, so its event time stands still.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError
from msgspec import Raw

from connectors import DecodeError
from connectors._records import Fields, decode_record
from engine.core.batching import Streams
from engine.core.messages import DeadLetter, LogEntry, LogStream, encode
from engine.core.sources import SourceTiming
from engine.edge.broker import client_options, fetch_wait_ms
from engine.edge.faust_app import DEAD_LETTER_BYTES
from engine.edge.publisher import Publisher, Send, Source, UnavailableError
from engine.edge.settings import KafkaSettings
from engine.edge.settings_sources import LogTopic
from engine.flow import DEAD_LETTER

_log = structlog.get_logger(__name__)
_CONNECTOR = "log_topics"
_MOST_RECORDS = 2_000
_POLL_MS = 200
_RETRY_S = 1.0
_NEVER_MS = 2**53


class TopicReader:
    """One topic. `sleep` waits; it is replaced in tests."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        config: LogTopic,
        publisher: Publisher,
        send: Send,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._consumer = consumer
        self._config = config
        self._publisher = publisher
        self._send = send
        self._sleep = sleep
        fields = config.fields
        static = config.static_labels or ({} if fields.labels or fields.label_object else {"topic": config.topic})
        self._fields = Fields(fields.line, fields.time, fields.labels, static, fields.label_object)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self.read_once()
            except KafkaError as error:
                _log.warning("log_topic.failed", topic=self._config.topic, reason=repr(error))
                await self._sleep(_RETRY_S)

    async def read_once(self) -> int:
        """Take what is there; how many records. Raises `aiokafka.errors.KafkaError`."""
        found = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
        await asyncio.gather(*(self._take(place, records) for place, records in found.items()))
        for place in self._consumer.assignment() - set(found):
            await self._say_complete(place)
        return sum(map(len, found.values()))

    async def _take(self, place: TopicPartition, records: Sequence[Any]) -> None:
        """Put the lines of records on our topic, those that are none among the dead letters; then it is done."""
        streams = await self._decoded(records)
        source = self._source(place)
        while True:
            try:
                await self._publisher.publish(source, streams)
                if streams:
                    await self._complete(source, max(stream.entries[-1].t_ns for stream in streams) // 1_000_000)
                break
            except UnavailableError as error:
                _log.warning("log_topic.waits", topic=self._config.topic, reason=str(error))
                await self._sleep(_RETRY_S)
        try:
            await self._consumer.commit({place: records[-1].offset + 1})
        except CommitFailedError:  # another worker has the partition now, and reads these records again
            _log.warning("log_topic.lost", topic=self._config.topic, partition=place.partition)

    async def _decoded(self, records: Sequence[Any]) -> Streams:
        entries: defaultdict[bytes, list[LogEntry]] = defaultdict(list)
        for record in records:
            try:
                if not record.value:
                    raise DecodeError("empty_body", "the message is empty")
                for stream in decode_record(self._config.format, record.value, record.timestamp, self._fields):
                    if bytes(stream.labels) == b"{}":
                        raise DecodeError("invalid_labels", "a stream needs at least one label: set static_labels")
                    entries[bytes(stream.labels)] += stream.entries
            except DecodeError as error:
                await self._bury(record, error)
        for found in entries.values():
            found.sort(key=lambda entry: entry.t_ns)
        return [LogStream(Raw(labels), found) for labels, found in entries.items()]

    async def _bury(self, record: Any, error: DecodeError) -> None:
        value = record.value or b""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=f"{error.reason}: {error.detail}",
            at_ms=self._publisher.now_ms(),
            key=record.key,
            value=value[:DEAD_LETTER_BYTES],
            size_bytes=len(value),
        )
        self._publisher.metrics.drop({error.reason: 1})
        _log.error("log_topic.dead_letter", topic=letter.topic, offset=letter.offset, reason=letter.reason)
        while True:
            try:
                await self._send(DEAD_LETTER.name, letter.topic.encode(), encode(letter))
                return
            except KafkaError as failure:
                _log.warning("log_topic.waits", topic=self._config.topic, reason=repr(failure))
                await self._sleep(_RETRY_S)

    async def _say_complete(self, place: TopicPartition) -> None:
        """Move the watermark of a partition that is read to its end."""
        asked_ms, end = self._consumer.last_poll_timestamp(place), self._consumer.highwater(place)
        if not asked_ms or end is None or await self._consumer.position(place) < end:
            return
        try:
            await self._complete(self._source(place), asked_ms)
        except UnavailableError as error:
            _log.warning("log_topic.waits", topic=self._config.topic, reason=str(error))

    async def _complete(self, source: Source, newest_ms: int) -> None:
        await self._publisher.complete(source, min(newest_ms, self._publisher.now_ms()) - self._config.lateness_ms)

    def _source(self, place: TopicPartition) -> Source:
        name = f"{_CONNECTOR}/{place.topic}/{place.partition}"
        # The clock makes no promises by itself: silence says nothing of a topic that may only be away.
        timing = SourceTiming(_NEVER_MS, _NEVER_MS)
        return self._publisher.source(name, _CONNECTOR, "logs", timing)


@asynccontextmanager
async def open_topic_reader(
    settings: KafkaSettings, bootstrap: str, config: LogTopic, publisher: Publisher, send: Send
) -> AsyncIterator[TopicReader]:
    """A reader of one topic, whose consumer has joined its group."""
    consumer = AIOKafkaConsumer(
        config.topic,
        bootstrap_servers=config.url.removeprefix("kafka://") or bootstrap,
        group_id=config.group,
        enable_auto_commit=False,
        auto_offset_reset=config.start,
        session_timeout_ms=round(settings.session_timeout_s * 1_000),
        fetch_max_wait_ms=fetch_wait_ms(settings),
        **client_options(settings),
    )
    await consumer.start()
    try:
        yield TopicReader(consumer, config, publisher, send)
    finally:
        await consumer.stop()
