"""Log lines reach the receiver complete and in order, or are counted as given up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from examples.aureus.logship import LogShipper
from tests.examples.conftest import LokiReceiver, until


@asynccontextmanager
async def shipping(url: str, dropped: Counter[str], buffer_lines_max: int = 1_000) -> AsyncIterator[LogShipper]:
    async with aiohttp.ClientSession() as session:
        shipper = LogShipper(session, url, "bridge", lambda reason, n: dropped.update({reason: n}), buffer_lines_max)
        running = asyncio.create_task(shipper.run())
        yield shipper
        await shipper.close(running)


async def test_lines_arrive_in_order_as_json_with_event_and_service(loki: LokiReceiver) -> None:
    dropped: Counter[str] = Counter()
    async with shipping(loki.url, dropped) as shipper:
        for n in range(500):
            shipper.log("info", "counted", n=n)
        shipper.log("error", "broke")
    assert [line["n"] for line in loki.events("counted", service="bridge", level="info")] == list(range(500))
    assert len(loki.events("broke", level="error")) == 1
    assert not dropped


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_receiver_in_trouble_gets_the_same_lines_again_and_none_twice(loki: LokiReceiver, status: int) -> None:
    dropped: Counter[str] = Counter()
    loki.answers = [status, status]
    async with shipping(loki.url, dropped) as shipper:
        shipper.log("info", "first")

        await until(lambda: loki.pushes >= 2, "two refused pushes")
        shipper.log("info", "second")

        await until(lambda: len(loki.lines) == 2, "both lines")
    assert [line["event"] for line in loki.lines] == ["first", "second"]
    assert not dropped


async def test_lines_the_receiver_refuses_for_good_are_counted_and_do_not_block(loki: LokiReceiver) -> None:
    dropped: Counter[str] = Counter()
    loki.answers = [400]
    async with shipping(loki.url, dropped) as shipper:
        shipper.log("info", "refused")

        await until(lambda: dropped == {"rejected": 1}, "the refused line is counted")
        shipper.log("info", "taken")
    assert [line["event"] for line in loki.lines] == ["taken"]


async def test_a_full_buffer_gives_up_the_oldest_lines_and_counts_them() -> None:
    dropped: Counter[str] = Counter()
    nobody = "http://127.0.0.1:9/loki/api/v1/push"  # the discard port: nobody listens
    async with shipping(nobody, dropped, buffer_lines_max=10) as shipper:
        for n in range(25):
            shipper.log("info", "counted", n=n)
    assert dropped == {"buffer_full": 15, "shutdown": 10}
