"""Faust, fenced off: nothing is lost silently, order is kept by key, and how far a role is, is told truly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from engine.core.messages import decode_batch, decode_dead_letter
from engine.edge import faust_app
from engine.edge.clock import SystemClock
from engine.edge.faust_app import Handler, Lanes, PoisonError, RoleApp, consume, decoded, open_app
from engine.edge.telemetry import Telemetry
from engine.flow import DEAD_LETTER, LOGS
from tests.edge.conftest import Site
from tests.waiting import until


class TestLanes:
    async def test_work_with_one_key_is_done_in_its_order(self) -> None:
        lanes, done = Lanes(8), list[tuple[bytes, int]]()

        async def work(key: bytes, number: int) -> None:
            for _ in range(5 - number):  # the later, the quicker
                await asyncio.sleep(0)
            done.append((key, number))

        for number in range(5):
            for key in (b"a", b"b"):
                await lanes.submit(key, partial(work, key, number))
        await lanes.drain(5)
        assert [number for key, number in done if key == b"a"] == list(range(5))
        assert [number for key, number in done if key == b"b"] == list(range(5))

    async def test_work_with_different_keys_does_not_wait_for_each_other(self) -> None:
        lanes, gate, done = Lanes(2), asyncio.Event(), list[str]()

        async def slow() -> None:
            await gate.wait()
            done.append("slow")

        async def quick() -> None:
            done.append("quick")

        await lanes.submit(b"a", slow)
        await lanes.submit(b"b", quick)
        await until(lambda: done == ["quick"], 5)
        gate.set()
        await lanes.drain(5)
        assert done == ["quick", "slow"]

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_no_more_than_the_limit_are_at_work(self, limit: int) -> None:
        lanes, at_work, most = Lanes(limit), 0, 0

        async def work() -> None:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1

        for number in range(20):
            await lanes.submit(b"%d" % number, work)
        await lanes.drain(5)
        assert most == limit


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "the message is empty"),
        (b"", "not decodable"),
        (b"{}", "not decodable"),
        (b"\xff", "not decodable"),
        (b'{"kind":"metrics","source":5}', "not decodable"),
    ],
)
def test_bytes_that_are_no_message_are_poison(value: bytes | None, says: str) -> None:
    with pytest.raises(PoisonError, match=says):
        decoded(decode_batch, value)


@asynccontextmanager
async def role(site: Site, handle: Handler, **options: Any) -> AsyncIterator[RoleApp]:
    """A role of its own that reads the topic `logs`."""
    opened = open_app("tester", site.settings, site.bootstrap, (Telemetry(process_metrics=False), SystemClock()))
    consume(opened, [LOGS], handle, **options)
    await opened.app.start()
    try:
        yield opened
    finally:
        await opened.app.stop()


def counted(results: dict[bytes, list[Exception]]) -> tuple[list[bytes], Callable[[Any], Awaitable[None]]]:
    """A handler that raises what stands for a message, one after the other; and what it was called with."""
    calls: list[bytes] = []

    async def handle(event: Any) -> None:
        calls.append(event.value)
        if left := results.get(event.value):
            raise left.pop(0)

    return calls, handle


async def test_what_fails_three_times_is_kept_and_the_flow_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_app, "RETRY_PAUSE_FIRST_S", 0.001)
    broken: list[Exception] = [RuntimeError("out of order")] * 3
    calls, handle = counted({b"poison": [PoisonError("no use")], b"broken": broken, b"flaky": [OSError("once")]})
    place = await site.put(LOGS, b"poison")
    for value in (b"broken", b"flaky", None, b"last"):
        await site.put(LOGS, value)
    async with role(site, handle) as running:
        await until(lambda: running.done == 5)
        assert sum(running.lag().values()) == 0
    assert calls == [b"poison", *[b"broken"] * 3, *[b"flaky"] * 2, None, b"last"]
    poison, failed = [decode_dead_letter(value) for value in await site.read(DEAD_LETTER)]
    assert (poison.topic, poison.partition, poison.offset) == ("logs", *place)
    assert (poison.key, poison.value, poison.reason) == (b"k", b"poison", "no use")
    assert (failed.value, failed.reason) == (b"broken", "failed 3 times: RuntimeError: out of order")


async def test_an_empty_message_has_a_dead_letter_that_can_be_read(site: Site) -> None:
    async def handle(event: Any) -> None:
        decoded(decode_batch, event.value)

    await site.put(LOGS, None)
    async with role(site, handle) as running:
        await until(lambda: running.done == 1)
    [letter] = [decode_dead_letter(value) for value in await site.read(DEAD_LETTER)]
    assert (letter.value, letter.reason) == (b"", "not decodable: the message is empty")


async def test_a_large_message_that_cannot_be_used_does_not_stop_those_behind_it(site: Site) -> None:
    async def handle(event: Any) -> None:
        decoded(decode_batch, event.value)

    await site.put(LOGS, b"x" * 850_000)
    await site.put(LOGS, b"also not a batch")
    async with role(site, handle) as running:
        await until(lambda: running.done == 2)
    letters = [decode_dead_letter(value) for value in await site.read(DEAD_LETTER)]
    assert sorted((len(letter.value), letter.size_bytes) for letter in letters) == [(16, 16), (600_000, 850_000)]


async def test_what_is_still_at_work_counts_as_lag_though_what_came_later_is_done(site: Site) -> None:
    gate = asyncio.Event()

    async def handle(event: Any) -> None:
        if event.value == b"slow":
            await gate.wait()

    partition, _ = await site.put(LOGS, b"slow", key=b"a")
    others = [key for number in range(99) if (key := b"%d" % number)]
    while (await site.put(LOGS, b"quick", key=others.pop()))[0] != partition:
        pass
    async with role(site, handle, parallel=4) as running:
        await until(lambda: running.done >= 1 and sum(running.lag().values()) == 1)
        gate.set()
        await until(lambda: sum(running.lag().values()) == 0)
        await running.ask_for_ends()
        assert sum(running.ends.values()) == running.done
