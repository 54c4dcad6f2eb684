"""Every message of a partition once, in order, from the right place, whatever order they are handed on in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edge.turns import Place, Turns

PLACE: Place = ("topic", 0)


@dataclass
class Message:
    offset: int
    is_current: bool = True
    topic: str = "topic"
    partition: int = 0


class Consumer:
    """Turns with a clock, and where the consumer was sent."""

    def __init__(self) -> None:
        self.sought: list[int] = []
        self.at_s = 0.0
        self.turns = Turns(self._seek, lambda: self.at_s)

    async def _seek(self, place: Place, offset: int) -> None:
        assert place == PLACE
        self.sought.append(offset)

    async def taken(self, *offsets: int) -> list[int]:
        """Which of these were taken up, handed on in this order."""
        return [offset for offset in offsets if await self.turns.takes(Message(offset), lambda one: one.is_current)]


async def test_messages_wait_until_the_place_to_start_from_is_known():
    consumer = Consumer()
    early = asyncio.create_task(consumer.taken(8, 9))
    await asyncio.sleep(0)
    assert not early.done()
    consumer.turns.positioned({PLACE: 8})
    assert await early == [8, 9]


async def test_what_was_taken_up_is_passed_over():
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    assert await consumer.taken(8, 9, 8, 9, 10) == [8, 9, 10]
    assert consumer.sought == []


async def test_what_lies_before_the_committed_offset_is_passed_over():
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    assert await consumer.taken(6, 7, 8) == [8]


async def test_a_hole_sends_the_consumer_back_once_and_what_is_in_the_pipes_is_passed_over():
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    assert await consumer.taken(8, 11, 12, 9, 10, 11, 12) == [8, 9, 10, 11, 12]
    assert consumer.sought == [9]


async def test_a_first_message_that_was_left_out_is_a_hole_too():
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    assert await consumer.taken(9, 8, 9) == [8, 9]
    assert consumer.sought == [8]


async def test_a_hole_that_stays_is_passed_in_the_end(capsys: pytest.CaptureFixture[str]):
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    taken = []
    for offset in range(20, 60):
        consumer.at_s += 0.5
        taken += await consumer.taken(offset)
    assert consumer.sought == [8, 8, 8]
    assert taken[0] > 20
    assert taken == list(range(taken[0], 60))
    assert "agent.gap" in capsys.readouterr().out


async def test_after_a_rebalance_everything_begins_anew():
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    assert await consumer.taken(8, 9) == [8, 9]
    consumer.turns.revoked()
    consumer.turns.positioned({PLACE: 8})
    assert await consumer.taken(8, 9) == [8, 9]


async def test_what_was_fetched_before_a_rebalance_is_not_taken():
    consumer = Consumer()
    consumer.turns.positioned({PLACE: 8})
    assert not await consumer.turns.takes(Message(8, is_current=False), lambda one: one.is_current)
    assert await consumer.taken(8) == [8]


@given(st.lists(st.integers(5, 30), max_size=60))
def test_whatever_is_handed_on_is_taken_in_order_and_each_once(offsets: list[int]):
    async def run() -> list[int]:
        consumer = Consumer()
        consumer.turns.positioned({PLACE: 8})
        return await consumer.taken(*offsets)

    taken = asyncio.run(run())
    assert taken == list(range(8, 8 + len(taken)))
