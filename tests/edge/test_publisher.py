"""Which requests of a source share a message: a message may follow the last one after a while, or when it is full."""

from __future__ import annotations

import asyncio

import numpy as np
from msgspec import Raw
from prometheus_client import CollectorRegistry

from connectors import Taken
from engine.core.batching import MAX_EVENTS, Samples
from engine.core.messages import LogEntry, LogStream, MetricBatch, decode_batch
from engine.core.sources import SourceTiming
from engine.edge.publisher import ConnectorMetrics, Publisher, PublisherLimits, Source

T_MS = 1_700_000_000_000
FOR_EVER = PublisherLimits(spacing_s=3_600)


class Broker:
    """Acknowledges when its gate is open; `counts` are the samples or lines of each message that has any."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, topic: str, key: bytes, value: bytes) -> None:
        batch = decode_batch(value)
        count = batch.count if isinstance(batch, MetricBatch) else sum(len(one.entries) for one in batch.streams)
        if count:
            self.counts.append(count)
        await self.gate.wait()


def publisher(broker: Broker, limits: PublisherLimits) -> tuple[Publisher, Source]:
    made = Publisher(broker.send, lambda: T_MS, ConnectorMetrics(CollectorRegistry()), limits)
    return made, made.source("s", "remote_write", "metrics", SourceTiming(lateness_ms=1_000, idle_after_ms=60_000))


def samples(count: int) -> Samples:
    return Samples([b'{"__name__":"x"}'] * count, np.full(count, T_MS), np.ones(count))


async def test_after_a_pause_a_request_goes_at_once_and_what_follows_it_closely_goes_together() -> None:
    broker = Broker()
    own, source = publisher(broker, FOR_EVER)
    assert await own.publish(source, samples(3)) == Taken(3, {})
    others = [asyncio.create_task(own.publish(source, samples(count))) for count in (1, 2, 4)]
    await asyncio.wait(others, timeout=0)
    assert broker.counts == [3]
    await own.close()  # does not wait for the distance
    assert [await other for other in others] == [Taken(count, {}) for count in (1, 2, 4)]
    assert broker.counts == [3, 7]


async def test_a_full_message_keeps_no_distance() -> None:
    broker = Broker()
    own, source = publisher(broker, FOR_EVER)
    await own.publish(source, samples(1))
    waiting = asyncio.create_task(own.publish(source, samples(5)))
    await asyncio.wait([waiting], timeout=0)
    assert await own.publish(source, samples(MAX_EVENTS - 5)) == Taken(MAX_EVENTS - 5, {})
    await waiting
    assert broker.counts[0] == 1
    assert sum(broker.counts[1:]) == MAX_EVENTS  # as many messages as it takes
    await own.close()


async def test_what_waits_is_sent_when_the_distance_is_kept() -> None:
    broker = Broker()
    own, source = publisher(broker, PublisherLimits(spacing_s=0.001))
    await asyncio.gather(*(own.publish(source, samples(1)) for _ in range(5)))
    assert broker.counts == [1, 4]
    await own.close()


async def test_log_lines_keep_no_distance() -> None:
    broker = Broker()
    own, _ = publisher(broker, FOR_EVER)
    source = own.source("l", "loki_push", "logs", SourceTiming(lateness_ms=1_000, idle_after_ms=60_000))
    for _ in range(3):
        line = LogEntry(T_MS * 1_000_000, "x")
        assert await own.publish(source, [LogStream(Raw(b'{"job":"a"}'), [line])]) == Taken(1, {})
    assert broker.counts == [1, 1, 1]
    await own.close()


async def test_what_waited_behind_a_message_on_its_way_is_sent_before_the_end() -> None:
    broker = Broker()
    own, source = publisher(broker, FOR_EVER)
    broker.gate.clear()
    both = [asyncio.create_task(own.publish(source, samples(count))) for count in (1, 2)]
    await asyncio.wait(both, timeout=0)
    closing = asyncio.create_task(own.close())
    await asyncio.wait([closing], timeout=0)
    broker.gate.set()
    await closing
    assert [await one for one in both] == [Taken(1, {}), Taken(2, {})]
    assert broker.counts == [1, 2]
