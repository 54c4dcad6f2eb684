"""Faust, fenced off: applications that carry raw bytes, never raise, and never lose a message silently.

What is fenced and why (design: "Faust, fenced off"):

* An exception in an agent acknowledges the message and loses it. So `consume` catches everything: a message that
  cannot be used goes to the dead-letter topic with its reason, and only then is acknowledged.
* The longest wait of a fetch is fixed at 1.5 s, and the embedded broker holds an empty fetch for all of it even when
  data arrives. So `_Thread` sets it from the settings.
* A graceful stop waits for ever on events that are held back. So `stream_wait_empty` is off.
* After a SIGKILL partitions stay unread until the session times out. So the session is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import faust
import msgspec
import structlog
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import InvalidTopicError, KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError
from faust.exceptions import ConsumerNotStarted, ProducerSendError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from engine.core.messages import DeadLetter, encode
from engine.edge.broker import fetch_wait_ms, ssl_context
from engine.edge.clock import Clock
from engine.edge.sender import MAX_MESSAGE_BYTES
from engine.edge.settings import Settings
from engine.edge.telemetry import Telemetry
from engine.edge.turns import Turns
from engine.flow import DEAD_LETTER, Topic

log = structlog.get_logger(__name__)

RETRY_PAUSE_FIRST_S, RETRY_PAUSE_MAX_S = 0.2, 10.0
ATTEMPTS = 3
DEAD_LETTER_BYTES = 600_000  # in base64 still below what a broker takes by default

_REFUSALS = (MessageSizeTooLargeError, InvalidTopicError, TopicAuthorizationFailedError)
ENDS_TIMEOUT_S = 5.0

T = TypeVar("T")
Send = Callable[[str, bytes, bytes], Awaitable[None]]


class SendRefusedError(Exception):
    """The broker will never take this message: sending it again would go on for ever."""


class PoisonError(Exception):
    """A message that will never be usable, whatever is tried: it belongs in the dead-letter topic."""


class _Thread(driver.AIOKafkaConsumerThread):
    fetch_wait_ms: int

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.fetch_wait_ms
        return consumer


class _ReadOffsets(dict[TP, int | None]):
    """How far each partition was read. Faust would pass over what is older, also what it was sent back for.

    Whose turn it is, `Turns` decides; so to Faust, asking with `[]`, nothing was read yet.
    """

    def __getitem__(self, place: TP) -> None:
        return None


def _transport(fetch_wait_ms: int, turns: Turns) -> type[driver.Transport]:
    """A transport class whose consumers wait `fetch_wait_ms` at most for an empty fetch, and tell where they start."""

    class Thread(_Thread):
        pass

    Thread.fetch_wait_ms = fetch_wait_ms

    class Consumer(driver.Consumer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._read_offset = _ReadOffsets()

        def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
            thread = Thread(self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop())
            thread._close_thread_loop_on_stop = True
            return thread

        async def perform_seek(self) -> None:
            """As Faust, and to the beginning where nothing was committed yet.

            Faust leaves such a partition where the fetcher is, past what it fetched and threw away in the rebalance.
            """
            await super().perform_seek()
            own = [place for place in self.assignment() if not self._is_changelog_tp(place)]
            starts = {place: offset for place in own if (offset := self._committed_offset[place]) is not None}
            fresh = [place for place in own if place not in starts]
            if fresh:
                earliest = await self.earliest_offsets(*fresh)
                beginnings = {place: earliest.get(place) or 0 for place in fresh}
                await self.seek_wait(beginnings)
                starts |= beginnings
            turns.positioned({(place.topic, place.partition): offset for place, offset in starts.items()})

    class Transport(driver.Transport):
        pass

    Transport.Consumer = Consumer
    return Transport


@dataclass
class RoleApp:
    """One role's Faust application, and how far it is: for the watchdog and the lag metric.

    By partition, `begun` is the offset after the newest message taken up, `underway` how many of those are not
    finished (side by side they end in any order), `ends` where the broker said that the partition ends. `done` counts
    what was finished.
    """

    role: str
    app: faust.App
    prefix: str
    telemetry: Telemetry
    clock: Clock
    begun: dict[tuple[str, int], int] = field(default_factory=dict)
    underway: Counter[tuple[str, int]] = field(default_factory=Counter)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    done: int = 0
    reads: set[str] = field(default_factory=set)
    lanes: list[Lanes] = field(default_factory=list)
    joined: bool = False
    turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        """Let messages be taken up in their turn."""
        self.turns = Turns(self._seek, time.monotonic)

    def is_current(self, message: Any) -> bool:
        """Whether a message was fetched for the partitions as they are given now."""
        return bool(message.generation_id == self.app.consumer_generation_id)

    async def _seek(self, place: tuple[str, int], offset: int) -> None:
        with contextlib.suppress(KafkaError, ConsumerNotStarted):  # the next message finds the same hole
            await self.app.consumer.seek(TP(*place), offset)

    def topic(self, topic: Topic) -> Any:
        """A Faust topic of raw bytes."""
        return self.app.topic(
            self.prefix + topic.name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
        )

    async def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Send one message to a topic (name without prefix); returns once the broker has acknowledged it.

        While the broker is away it is tried again and again: what is not acknowledged must not be lost. Raises
        `SendRefusedError` for what the broker will never take.
        """
        pause_s = RETRY_PAUSE_FIRST_S
        while True:
            try:
                # The producer itself: `app.send` makes a topic and a schema for every message.
                producer = await self.app.maybe_start_producer()
                await (await producer.send(self.prefix + topic, key, value, None, None, None))
            except (KafkaError, ProducerSendError, OSError) as error:
                if isinstance(error, _REFUSALS) or isinstance(error.__cause__, _REFUSALS):
                    raise SendRefusedError(f"{topic} does not take {len(value)} bytes: {error}") from error
                log.error("broker.send_failed", role=self.role, topic=topic, reason=str(error) or type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_PAUSE_MAX_S)
            else:
                return

    async def ask_for_ends(self) -> None:
        """Ask the broker where the assigned partitions end: a consumer that has stopped fetching does not know."""
        consumer = self.app.consumer
        with contextlib.suppress(KafkaError, ConsumerNotStarted, TimeoutError, OSError):
            async with asyncio.timeout(ENDS_TIMEOUT_S):
                ends = await consumer.highwaters(*consumer.assignment())
            self.ends = {(place.topic, place.partition): end for place, end in ends.items()}

    def lag(self) -> dict[tuple[str, int], int]:
        """Messages that the assigned partitions hold and the role has not worked through."""
        consumer: Any = self.app.consumer
        out: dict[tuple[str, int], int] = {}
        for partition in consumer.assignment():
            if partition.topic not in self.reads:
                continue  # a table's changelog
            place = (partition.topic, partition.partition)
            end = max(consumer.highwater(partition) or 0, self.ends.get(place, 0))
            # Before the first message it is where the committed offset told Faust to start.
            begun = self.begun.get(place, consumer._read_offset.get(partition) or 0)
            out[place] = max(0, end - begun) + self.underway[place]
        return out


def open_app(role: str, settings: Settings, bootstrap: str, own: tuple[Telemetry, Clock]) -> RoleApp:
    """A Faust application for one role; its consumer group is "<prefix><role>". Start it with `app.start()`."""
    kafka = settings.kafka
    security = kafka.security
    credentials: Any = None
    if security.protocol.startswith("SASL"):
        credentials = faust.SASLCredentials(
            username=security.sasl_username,
            password=security.sasl_password.get_secret_value(),
            mechanism=security.sasl_mechanism,
            ssl_context=ssl_context(kafka) if security.protocol == "SASL_SSL" else None,
        )
    elif security.protocol == "SSL":
        credentials = faust.SSLCredentials(context=ssl_context(kafka))
    datadir = settings.state_dir / "faust" / role  # Faust insists on one, though nothing of ours is in it
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        kafka.topic_prefix + role,
        broker=[f"kafka://{server}" for server in bootstrap.split(",")],
        broker_client_id=f"sentinel-{role}-{settings.instance}",
        broker_credentials=credentials,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.session_timeout_s / 4,
        broker_commit_interval=0.5,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=kafka.partitions,
        # What the router writes is read at once and not kept long: there the time to compress counts, not the size.
        producer_compression_type="snappy" if role == "router" else "zstd",
        producer_linger=0,
        producer_max_batch_size=MAX_MESSAGE_BYTES,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        web_enabled=False,
        autodiscover=False,
        datadir=str(datadir),
    )
    opened = RoleApp(role, app, kafka.topic_prefix, *own)
    app.transport = _transport(fetch_wait_ms(kafka), opened.turns)(app.conf.broker, app, app.loop)

    async def joined(*_: Any, **__: Any) -> None:
        opened.joined = True

    async def revoked(*_: Any, **__: Any) -> None:
        opened.turns.revoked()

    app.on_partitions_assigned.connect(joined, weak=False)
    app.on_partitions_revoked.connect(revoked, weak=False)
    return opened


Handler = Callable[[Any], Awaitable[None]]


def consume(role: RoleApp, topics: Iterable[Topic], handle: Handler, *, hold: bool = False, parallel: int = 1) -> None:
    """Let a role's `handle(event)` work through topics.

    `handle` gets Faust's event (`event.value` and `event.key` are bytes). Messages of one partition are handled in
    order, each once in an assignment; with `parallel` above 1, so many at once, and only those with one key in order.
    When it returns, the message is acknowledged, unless `hold`: then the handler does it itself, later. When it raises
    `PoisonError`, the message goes to the dead-letter topic. Anything else it raises is tried again with a growing
    pause, three times in all, and then treated as poison: the flow goes on, the bytes are kept, nothing is lost.
    """
    names = [role.prefix + topic.name for topic in topics]
    role.reads.update(names)
    channel = role.app.topic(
        *names,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )
    lanes = Lanes(parallel)

    async def work(event: Any) -> None:
        message = event.message
        try:
            done = await _guarded(role, event, handle)
        finally:
            role.underway[message.topic, message.partition] -= 1
        if not (hold and done):
            event.ack()
        role.done += 1
        role.telemetry.processed.labels(role.role, message.topic.removeprefix(role.prefix)).inc()

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            if not await role.turns.takes(event.message, role.is_current):
                continue
            place = (event.message.topic, event.message.partition)
            role.begun[place] = event.message.offset + 1
            role.underway[place] += 1
            if parallel == 1:
                await work(event)
            else:
                await lanes.submit(event.key or b"", partial(work, event))

    role.app.agent(channel, name=f"{role.role}-agent")(agent)
    role.lanes.append(lanes)


class Lanes:
    """Runs work side by side, but work with one key in the order it was given; at most `limit` at a time."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._tails: dict[bytes, asyncio.Task[None]] = {}

    async def submit(self, key: bytes, work: Callable[[], Awaitable[None]]) -> None:
        """Start work as soon as there is room; waits for room, not for the work."""
        await self._free.acquire()
        before = self._tails.get(key)
        task = asyncio.create_task(self._run(before, work))
        self._tails[key] = task
        task.add_done_callback(lambda done: self._tails.pop(key) if self._tails.get(key) is done else None)

    async def _run(self, before: asyncio.Task[None] | None, work: Callable[[], Awaitable[None]]) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            await work()
        finally:
            self._free.release()

    async def drain(self, timeout_s: float) -> None:
        """Let what has been started come to its end, for so long at most."""
        if self._tails:
            await asyncio.wait(list(self._tails.values()), timeout=timeout_s)


async def _guarded(role: RoleApp, event: Any, handle: Handler) -> bool:
    """Whether the message was handled; if not, it is in the dead-letter topic."""
    pause_s = RETRY_PAUSE_FIRST_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await handle(event)
        except PoisonError as error:
            await _bury(role, event, str(error))
            return False
        except Exception as error:  # an agent must never raise: Faust would acknowledge and lose the message
            reason = f"{type(error).__name__}: {error}"
            log.exception("agent.failed", role=role.role, attempt=attempt, reason=reason)
            if attempt == ATTEMPTS:
                await _bury(role, event, f"failed {attempt} times: {reason}")
                return False
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 4, RETRY_PAUSE_MAX_S)
        else:
            return True
    return False


async def _bury(role: RoleApp, event: Any, reason: str) -> None:
    message = event.message
    letter = DeadLetter(
        topic=message.topic.removeprefix(role.prefix),
        partition=message.partition,
        offset=message.offset,
        reason=reason,
        at_ms=role.clock.now_ms(),
        key=event.key,
        value=(event.value or b"")[:DEAD_LETTER_BYTES],
        size_bytes=len(event.value or b""),
    )
    log.error(
        "message.dead_letter", topic=letter.topic, partition=letter.partition, offset=letter.offset, reason=reason
    )
    role.telemetry.dead_letters.labels(letter.topic, reason.split(":")[0][:60]).inc()
    await role.send(DEAD_LETTER.name, letter.topic.encode(), encode(letter))


def decoded(decode: Callable[[bytes], T], value: bytes | None) -> T:
    """The message behind the bytes; raises `PoisonError` with the decoder's own reason."""
    if value is None:
        raise PoisonError("not decodable: the message is empty")
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PoisonError(f"not decodable: {error}") from error
