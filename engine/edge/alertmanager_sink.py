"""Alerts to Alertmanagers: the topic `alerts` from its beginning into a book, and each Alertmanager told from it.

There is no consumer group and no offset to keep: every process of the role reads the whole topic and tells every
Alertmanager, as a pair of Prometheus does; they recognise an alert by its labels. Nothing is sent before the topic has
been read up to where it ended at the start, so that a restart says what fires and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from engine.core.messages import decode_transition
from engine.edge.broker import client_options, fetch_wait_ms
from engine.edge.settings import KafkaSettings
from engine.edge.sink_http import Receiver
from engine.flow import ALERTS
from engine.sinks.alertmanager import Book, Deliveries, Policy, postable, requests
from engine.sinks.retry import Backoff

log = structlog.get_logger(__name__)

IDLE_MS = 1_000
_HEADERS = {"Content-Type": "application/json"}


class AlertmanagerSink:
    """Tells every receiver. A context manager around its consumer; `run` does the work."""

    def __init__(self, settings: KafkaSettings, bootstrap: str, receivers: Sequence[Receiver], policy: Policy) -> None:
        self._consumer = AIOKafkaConsumer(
            settings.topic_prefix + ALERTS.name,
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=fetch_wait_ms(settings),
            **client_options(settings),
        )
        self.book = Book()
        self._tellers = [Teller(receiver, self.book, policy) for receiver in receivers]
        self.has_caught_up = asyncio.Event()

    async def run(self) -> None:
        """Read and tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            for teller in self._tellers:
                group.create_task(self._tell(teller))

    async def _follow(self) -> None:
        ends = await self._consumer.end_offsets(self._consumer.assignment())  # without a group: every partition
        while True:
            if not self.has_caught_up.is_set() and await self._is_past(ends):
                self.book.forget_ended()
                log.info("alertmanager.caught_up", firing=len(self.book))
                self.has_caught_up.set()
            found = await self._consumer.getmany(timeout_ms=IDLE_MS)
            for messages in found.values():
                for message in messages:
                    self.take(message.value)

    async def _is_past(self, ends: dict[TopicPartition, int]) -> bool:
        return all([await self._consumer.position(place) >= end for place, end in ends.items()])

    def take(self, value: bytes | None) -> None:
        """Take one message of the topic into account."""
        try:
            transition = decode_transition(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # the responder sends it to the dead-letter topic
        for teller in self._tellers:
            teller.news.set()
        dropped = self.book.note(transition, self._tellers[0].now_ms())
        self._tellers[0].receiver.drop("too_many_alerts", dropped)

    async def _tell(self, teller: Teller) -> None:
        await self.has_caught_up.wait()
        await teller.run()

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._consumer.stop()


class Teller:
    """Keeps one Alertmanager told. It waits for nobody else, and nobody waits for it."""

    def __init__(self, receiver: Receiver, book: Book, policy: Policy) -> None:
        self.receiver = receiver
        self.news = asyncio.Event()
        self._book = book
        self._policy = policy
        self._deliveries = Deliveries(book, policy.resend_ms)
        self._backoff = Backoff()

    def now_ms(self) -> int:
        """The clock."""
        return self.receiver.clock.now_ms()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            pause_ms = await self.turn()
            if pause_ms:
                await self.receiver.clock.sleep(pause_ms / 1000)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._idle_ms() / 1000):
                    await self.news.wait()

    async def turn(self) -> int:
        """Tell everything that is due; how long to leave it alone before the rest, 0 when all was told."""
        self.news.clear()
        self._book.forget_ended(self.now_ms())
        for entries in requests(self._deliveries.due(self.now_ms())):
            now_ms = self.now_ms()
            body = msgspec.json.encode([postable(entry, self._policy, now_ms) for entry in entries])
            answer = await self.receiver.post(body, _HEADERS)
            if answer.verdict == "later":
                log.warning("alertmanager.away", url=self.receiver.name, reason=answer.said)
                return self._backoff.failed(answer.asked_ms)
            self._backoff.succeeded()
            if answer.verdict == "taken":
                self.receiver.sent(len(entries))
            else:  # an Alertmanager takes the good ones of a request all the same
                log.error("alertmanager.refused", url=self.receiver.name, alerts=len(entries), reason=answer.said)
                self.receiver.drop("refused", len(entries))
            self._deliveries.told(entries, now_ms)
        return 0

    def _idle_ms(self) -> int:
        next_ms = self._deliveries.next_ms()
        return IDLE_MS if next_ms is None else max(0, min(IDLE_MS, next_ms - self.now_ms()))
