"""Recorded series to receivers of remote write: the topic `recorded`, each receiver with a consumer group of its own.

What a receiver has taken is committed, nothing earlier: at least once. While it is away nothing more is read; the
topic is the queue. Several processes of the role share the partitions; a group's series stay in one partition, so
their order is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from engine.core.messages import DeadLetter, MetricBatch, decode_batch
from engine.edge.broker import client_options, fetch_wait_ms
from engine.edge.settings import KafkaSettings, RemoteWriteSink
from engine.edge.sink_http import Answer, Receiver
from engine.flow import RECORDED
from engine.sinks.remote_write import HEADERS, Newest, Packer, Sample, halves, portions, samples_of
from engine.sinks.retry import Backoff

log = structlog.get_logger(__name__)

IDLE_MS = 1_000
MOST_MESSAGES = 500
MOST_SPLITS = 64
MOST_AWAY_MS = 3_600_000
"""How long a receiver may be away before the partitions are offered to another process, which finds it away as well."""
DEAD_LETTER_BYTES = 600_000

Bury = Callable[[DeadLetter], Awaitable[None]]


class RemoteWriter:
    """Brings recorded series to one receiver. A context manager around its consumer; `run` does the work."""

    def __init__(
        self,
        settings: tuple[KafkaSettings, RemoteWriteSink],
        bootstrap: str,
        receiver: Receiver,
        packer: Packer,
        bury: Bury,
    ) -> None:
        kafka, own = settings
        self._consumer = AIOKafkaConsumer(
            kafka.topic_prefix + RECORDED.name,
            bootstrap_servers=bootstrap,
            group_id=f"{kafka.topic_prefix}remote-write-{own.name}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # where the topic has lost what was committed; the first time, see `_begin`
            max_poll_interval_ms=MOST_AWAY_MS,
            fetch_max_wait_ms=fetch_wait_ms(kafka),
            session_timeout_ms=int(kafka.session_timeout_s * 1000),
            heartbeat_interval_ms=int(kafka.session_timeout_s * 250),
            **client_options(kafka),
        )
        self._receiver = receiver
        self._packer = packer
        self._bury = bury
        self._most = own.max_samples
        self._newest = Newest()
        self._begun: set[TopicPartition] = set()
        self._backoff = Backoff()
        self.name = own.name

    @property
    def partitions(self) -> int:
        """How many partitions it has been given, and knows where to begin in."""
        return len(self._begun)

    async def run(self) -> None:
        """Read and send until cancelled."""
        while True:
            await self._begin()
            taken = await self._consumer.getmany(timeout_ms=IDLE_MS, max_records=MOST_MESSAGES)
            found = {place: messages for place, messages in taken.items() if messages and place in self._begun}
            samples = [sample for messages in found.values() for one in messages for sample in await self._read(one)]
            fresh = self._newest.fresh(samples)
            self._receiver.drop("repeated", len(samples) - len(fresh))
            for portion in portions(fresh, self._most):
                await self.deliver(portion)
            await self._commit({place: messages[-1].offset + 1 for place, messages in found.items()})

    async def deliver(self, samples: Sequence[Sample]) -> None:
        """Send until the receiver has taken or refused every sample; the good ones of a refused request are saved."""
        left, splits = [samples], 0
        while left:
            portion = left.pop(0)
            answer = await self._answered(self._packer.body(portion))
            if answer.verdict == "taken":
                self._receiver.sent(len(portion))
            elif answer.code == "400" and len(portion) > 1 and splits < MOST_SPLITS:
                left[:0] = halves(portion)
                splits += 1
            else:
                log.error("remote_write.refused", url=self._receiver.name, samples=len(portion), reason=answer.said)
                self._receiver.drop("refused", len(portion))

    async def _answered(self, body: bytes) -> Answer:
        """The first answer that is not "later"."""
        while True:
            answer = await self._receiver.post(body, HEADERS)
            if answer.verdict != "later":
                self._backoff.succeeded()
                return answer
            log.warning("remote_write.away", url=self._receiver.name, reason=answer.said)
            await self._receiver.clock.sleep(self._backoff.failed(answer.asked_ms) / 1000)

    async def _read(self, message: Any) -> list[Sample]:
        try:
            batch = decode_batch(message.value or b"")
            if not isinstance(batch, MetricBatch):
                raise ValueError("not a batch of samples")
            return samples_of(batch)
        except ValueError as error:  # also what msgspec raises
            reason = f"not decodable: {error}"
            log.error("remote_write.message_refused", partition=message.partition, offset=message.offset, reason=reason)
            await self._bury(
                DeadLetter(
                    topic=RECORDED.name,
                    partition=message.partition,
                    offset=message.offset,
                    reason=reason,
                    at_ms=self._receiver.clock.now_ms(),
                    key=message.key,
                    value=(message.value or b"")[:DEAD_LETTER_BYTES],
                    size_bytes=len(message.value or b""),
                )
            )
            return []

    async def _begin(self) -> None:
        """Find the place in partitions that are new here: what is committed, or the end if nothing ever was.

        That end is committed at once: else a crash before the first commit would skip what came meanwhile.
        """
        consumer, assigned = self._consumer, set(self._consumer.assignment())
        for place in assigned - self._begun:
            offset = await consumer.committed(place)
            if offset is None:
                offset = (await consumer.end_offsets([place]))[place]
                await self._commit({place: offset})
            try:
                consumer.seek(place, offset)
            except IllegalStateError:
                return  # given to another process meanwhile
        self._begun = assigned

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        if not offsets:
            return
        telemetry, consumer = self._receiver.telemetry, self._consumer
        for place in offsets:
            waiting = max(0, (consumer.highwater(place) or 0) - offsets[place])
            telemetry.lag.labels(f"remote-write-{self.name}", RECORDED.name, str(place.partition)).set(waiting)
        try:
            await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            pass  # who has the partition now reads it from the last commit, and sends it again: that is harmless
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("remote_write.commit_failed", reason=str(error) or type(error).__name__)

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._consumer.stop()
