"""What an earlier run of a source said is found on the topic, by its key."""

from __future__ import annotations

from msgspec import Raw

from engine.core.messages import Batch, LogBatch, LogEntry, LogStream, MetricBatch, encode
from engine.edge.topic_memory import TopicMemory
from engine.flow import LOGS
from tests.edge.conftest import Site

NOW = 1_700_000_000_000


def batch(watermark_ms: int, *at_ms: int, source: str = "loki/main@one") -> LogBatch:
    entries = [LogEntry(t_ms * 1_000_000, f"at {t_ms - NOW}") for t_ms in at_ms]
    streams = [LogStream(Raw(b'{"app":"a"}'), [entry]) for entry in entries]
    return LogBatch(source, 1, 1, watermark_ms, NOW, streams)


async def put(site: Site, message: Batch, key: str = "loki/main") -> None:
    await site.put(LOGS, encode(message), key=key.encode())


async def test_nothing_is_remembered_of_a_source_that_said_nothing(site: Site) -> None:
    await put(site, batch(NOW, NOW), key="loki/other")
    assert await TopicMemory(site.settings.kafka, site.bootstrap).recall("loki/main", 0) is None


async def test_the_last_watermark_and_the_lines_near_it_are_remembered_whichever_process_spoke(site: Site) -> None:
    await put(site, batch(NOW - 500_000, NOW - 400_000, NOW - 90_000))
    await put(site, batch(NOW - 20_000, NOW - 10_000))
    await put(site, batch(NOW + 9_000, NOW + 1, source="loki/other@one"), key="loki/other")
    await put(site, batch(NOW, NOW + 5, source="loki/main@two"))
    await put(site, MetricBatch("x", 1, 1, NOW + 99_000, NOW))
    await site.put(LOGS, b"no batch", key=b"loki/main")
    found = await TopicMemory(site.settings.kafka, site.bootstrap).recall("loki/main", 0)
    assert found is not None
    assert found.complete_ms == NOW
    assert [entry.line for stream in found.streams for entry in stream.entries] == ["at -10000", "at 5"]
