"""Puts decoded events on their topic: stamps, sends, waits for the broker, and tells the source's clock how it went.

Receivers and scrapers share one `Publisher` per process. Per source, order is kept without a lock: between the stamp
and putting the batches in line for `send` nothing is awaited, so no other request can come between. Only the
acknowledgement is awaited, and only it lets the caller answer "taken".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

from connectors import Taken
from engine.core.batching import MAX_EVENTS, Events, Samples
from engine.core.messages import encode
from engine.core.sources import Kind, Request, SourceClock, SourceTiming, Stamp

_SAMPLE_BYTES = 100

Send = Callable[[str, bytes, bytes], Awaitable[None]]
"""`send(topic, key, value)` resolves when the broker acknowledged. Calls made in order must be stored in order."""


class UnavailableError(Exception):
    """The broker cannot take more now: nothing was acknowledged, try again later."""


class TooManySourcesError(Exception):
    """A new source beyond the limit of this process."""


class ConnectorMetrics:
    """The connectors' own counters, in the given registry. `dropped` may be one that other stages count on, too."""

    def __init__(self, registry: CollectorRegistry, dropped: Counter | None = None) -> None:
        self.events = Counter(
            "sentinel_connector_events_total",
            "Samples and lines that the broker acknowledged.",
            ["source_kind", "connector"],
            registry=registry,
        )
        self.requests = Counter(
            "sentinel_connector_requests_total",
            "Requests by HTTP answer; scrapes by what the target answered.",
            ["connector", "code"],
            registry=registry,
        )
        self.watermark = Gauge(
            "sentinel_source_watermark_ms",
            "Event time up to which a source is complete.",
            ["source"],
            registry=registry,
        )
        self.dropped = dropped or Counter(
            "sentinel_dropped_total", "What was kept out, by reason.", ["stage", "reason"], registry=registry
        )

    def drop(self, reasons: Mapping[str, int]) -> None:
        """Count what was kept out."""
        for reason, number in reasons.items():
            self.dropped.labels("connector", reason).inc(number)


@dataclass(frozen=True)
class PublisherLimits:
    """How much one process takes on.

    `max_sources`: a further source is refused, never an old one forgotten, since a source that falls silent without
    heartbeats would hold the watermark. `max_pending_bytes`: what may wait for the broker. `ack_timeout_s`: how long
    a caller waits for it. `spacing_s`: how soon after one message of samples of a source the next may follow that is
    not full; a message costs every stage far more than what it carries. What comes after a pause is sent at once, and
    so are log lines, each of which may be the one that somebody waits for.
    """

    max_sources: int = 1_000
    max_pending_bytes: int = 64 * 1024 * 1024
    ack_timeout_s: float = 20.0
    spacing_s: float = 0.05


@dataclass(eq=False)
class Source:
    """One source of this process: get it from `Publisher.source`, publish with it."""

    name: str
    connector: str
    clock: SourceClock
    is_beating: bool = False
    is_sending: bool = False
    waiting: list[_Waiting] = field(default_factory=list)
    next_send_s: float = 0.0
    timer: asyncio.TimerHandle | None = None


@dataclass(eq=False)
class _Waiting:
    """A request that is not acknowledged yet; its `outcome` is what went wrong, "" if all is well."""

    request: Request
    size: int
    outcome: asyncio.Future[str]


class Publisher:
    """The way from decoded events to the topics `metrics` and `logs`, for every source of this process."""

    def __init__(
        self,
        send: Send,
        now_ms: Callable[[], int],
        metrics: ConnectorMetrics,
        limits: PublisherLimits | None = None,
        instance: str = "",
    ) -> None:
        self.metrics = metrics
        self._send = send
        self.now_ms = now_ms
        self._limits = limits or PublisherLimits()
        self._instance = instance
        self._sources: dict[str, Source] = {}
        self._pending_bytes = 0
        self.unacknowledged = 0
        """How many requests wait for the broker."""
        self._tasks: set[asyncio.Task[str]] = set()

    def source(self, name: str, connector: str, kind: Kind, timing: SourceTiming) -> Source:
        """The source of this name, made on first use; raises `TooManySourcesError`."""
        known = self._sources.get(name)
        if known is None:
            if len(self._sources) >= self._limits.max_sources:
                raise TooManySourcesError(f"this process serves {self._limits.max_sources} sources already")
            known = self._sources[name] = Source(
                name, connector, SourceClock(self._own(name), kind, self.now_ms(), timing)
            )
        return known

    def _own(self, name: str) -> str:
        """A source is what *this process* hears of a sender: two that share one must not number its batches as one."""
        return f"{name}@{self._instance}" if self._instance else name

    async def publish(self, source: Source, events: Events) -> Taken:
        """Send events and wait until the broker has them; how many were taken, and by reason how many were not.

        The latter are counted. Raises `UnavailableError` when the caller should try all of it again.
        Cancelling the caller does not cancel what is on its way.
        """
        if self._pending_bytes >= self._limits.max_pending_bytes:
            source.clock.refused(events, self.now_ms())
            raise UnavailableError(f"{self._pending_bytes} bytes wait for the broker")
        request = source.clock.admit(events, self.now_ms())
        if request.accepted:
            outcome = asyncio.get_running_loop().create_future()
            waiting = _Waiting(request, _rough_size(request.events), outcome)
            self._pending_bytes += waiting.size
            self.unacknowledged += 1
            source.waiting.append(waiting)
            self._send_in_time(source)
            done, _ = await asyncio.wait({outcome}, timeout=self._limits.ack_timeout_s)
            if not done:
                raise UnavailableError(f"the broker did not acknowledge within {self._limits.ack_timeout_s:g} s")
            if problem := outcome.result():
                raise UnavailableError(problem)
        self.metrics.drop(request.dropped)
        return Taken(request.accepted, request.dropped)

    async def complete(self, source: Source, to_ms: int) -> int:
        """Say that nothing older than `to_ms` follows from a source that knows it; how far its watermark is then.

        Data on its way or failed still holds it. Raises `UnavailableError` when the broker did not take it.
        """
        batch = source.clock.complete(to_ms, self.now_ms())
        if batch is not None:
            task = self._start(source, [encode(batch)])
            await asyncio.wait({task}, timeout=self._limits.ack_timeout_s)
            if not task.done() or task.cancelled() or task.result():
                source.clock.heartbeat_failed()
                raise UnavailableError(task.result() if task.done() and not task.cancelled() else "no acknowledgement")
            self.metrics.watermark.labels(source.name).set(batch.watermark_ms)
        return source.clock.watermark_ms or 0

    async def heartbeat_once(self) -> None:
        """Let every source say how far it is, if it has something to say, and wait for the broker."""
        tasks = [task for source in list(self._sources.values()) if (task := self._beat(source))]
        if tasks:
            await asyncio.wait(tasks)

    async def run_heartbeats(
        self, interval_s: float = 0.02, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Beat until cancelled. A broker that does not answer holds up its own source only."""
        while True:
            for source in list(self._sources.values()):
                self._beat(source)
            await sleep(interval_s)

    async def close(self, timeout_s: float = 10.0) -> None:
        """Wait for everything on its way, then give up on the rest. Stop the callers first."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._send_all() or self._tasks:  # an acknowledgement may leave more to send, or a heartbeat
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            late = list(self._tasks)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _send_all(self) -> bool:
        """Send what waits for its time; whether anything did."""
        waiting = [source for source in self._sources.values() if source.waiting and not source.is_sending]
        for source in waiting:
            self._send_waiting(source)
        return bool(waiting)

    def _send_in_time(self, source: Source) -> None:
        """Send what waits as soon as a message may follow the last one."""
        if source.is_sending:
            return  # it goes on when that has been acknowledged
        pause_s = source.next_send_s - asyncio.get_running_loop().time()
        if pause_s <= 0 or sum(one.request.accepted for one in source.waiting) >= MAX_EVENTS:
            self._send_waiting(source)
        elif source.timer is None:
            source.timer = asyncio.get_running_loop().call_later(pause_s, self._send_waiting, source)

    def _send_waiting(self, source: Source) -> None:
        """Send what waits, all together."""
        if source.timer is not None:
            source.timer.cancel()
            source.timer = None
        spacing_s = self._limits.spacing_s if source.clock.kind == "metrics" else 0.0
        source.next_send_s = asyncio.get_running_loop().time() + spacing_s
        waiting, source.waiting = source.waiting, []
        stamp = source.clock.stamp([one.request for one in waiting], self.now_ms())
        source.is_sending = True
        task = self._start(source, [encode(batch) for batch in stamp.batches])
        task.add_done_callback(lambda done: self._settle(source, stamp, waiting, done))

    def _beat(self, source: Source) -> asyncio.Task[str] | None:
        if source.is_beating:
            return None
        batch = source.clock.heartbeat(self.now_ms())
        if batch is None:
            return None
        source.is_beating = True
        task = self._start(source, [encode(batch)])
        task.add_done_callback(lambda done: self._beat_done(source, batch.watermark_ms, done))
        return task

    def _start(self, source: Source, payloads: list[bytes]) -> asyncio.Task[str]:
        """Hand payloads to the broker at once and in order; the task's result is what went wrong, "" if all is well."""
        size = sum(map(len, payloads))
        self._pending_bytes += size
        key = source.name.encode()
        sends = [asyncio.create_task(self._hand_over(source.clock.kind, key, payload)) for payload in payloads]
        task = asyncio.create_task(self._acknowledged(sends, size))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hand_over(self, topic: str, key: bytes, payload: bytes) -> None:
        await self._send(topic, key, payload)

    async def _acknowledged(self, sends: list[asyncio.Task[None]], size: int) -> str:
        try:
            results = await asyncio.gather(*sends, return_exceptions=True)
        finally:
            self._pending_bytes -= size
        problems = [result for result in results if isinstance(result, BaseException)]
        return f"the broker did not take it: {problems[0]!r}" if problems else ""

    def _settle(self, source: Source, stamp: Stamp, sent: list[_Waiting], task: asyncio.Task[str]) -> None:
        problem = "it was given up" if task.cancelled() else task.result()
        if problem:
            source.clock.failed(stamp, self.now_ms())
        else:
            source.clock.delivered(stamp)
            self.metrics.watermark.labels(source.name).set(stamp.batches[-1].watermark_ms)
            accepted = sum(one.request.accepted for one in sent)
            self.metrics.events.labels(source.clock.kind, source.connector).inc(accepted)
        for one in sent:
            self._pending_bytes -= one.size
            self.unacknowledged -= 1
            one.outcome.set_result(problem)
        source.is_sending = False
        if source.waiting:
            self._send_in_time(source)
        elif not problem:
            self._beat(source)

    def _beat_done(self, source: Source, watermark_ms: int, task: asyncio.Task[str]) -> None:
        source.is_beating = False
        if task.cancelled() or task.result():
            source.clock.heartbeat_failed()
        else:
            self.metrics.watermark.labels(source.name).set(watermark_ms)


def _rough_size(events: Events) -> int:
    """About how many bytes events take in memory while they wait."""
    if isinstance(events, Samples):
        return len(events) * _SAMPLE_BYTES
    return sum(len(entry.line) + _SAMPLE_BYTES for stream in events for entry in stream.entries)
