"""Every message of a partition is taken up once, in order and from the right place, whatever a rebalance does.

Around a rebalance Faust hands messages on before its consumer stands where the last commit left off, some twice, and
leaves out what it had fetched and thrown away:

    committed 8           seek done
    Faust      8 9 ......... 8 9 10 ..... 12 13        (seen with Kafka 4.1, in about one start of three)
    taken up                 8 9 10 (back to 11) 11 12 13

Whoever relied on that order lost a message in the middle: the evaluator a batch of its windows, for good. So messages
wait until the place to start from is known, what was taken up is passed over, and a hole sends the consumer back. Only
a hole that stays (retention has deleted what was there) is passed, with an error in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

log = structlog.get_logger(__name__)

Place = tuple[str, int]
"""Topic and partition."""

_ATTEMPTS = 3
_PATIENCE_S = 2.0


class Turns:
    """Whose turn it is, by partition. `seek(place, offset)` sends the consumer back; `elapsed_s` measures time."""

    def __init__(self, seek: Callable[[Place, int], Awaitable[None]], elapsed_s: Callable[[], float]) -> None:
        self._seek = seek
        self._elapsed_s = elapsed_s
        self._known = asyncio.Event()
        self._next: dict[Place, int] = {}
        self._sought: dict[Place, tuple[int, float, int]] = {}  # offset, when, how often

    def revoked(self) -> None:
        """Partitions are being given anew: where they start is not known."""
        self._known.clear()
        self._next.clear()
        self._sought.clear()

    def positioned(self, starts: Mapping[Place, int]) -> None:
        """The consumer has been put where each of its partitions starts."""
        self._next.update(starts)
        self._known.set()

    async def takes(self, message: Any, is_current: Callable[[Any], bool]) -> bool:
        """Whether to take up this message now; if not, it was taken up already or will come again.

        `is_current` says whether the message was fetched for the partitions as they are given now.
        """
        await self._known.wait()
        if not is_current(message):
            return False
        place, offset = (message.topic, message.partition), message.offset
        expected = self._next.get(place, offset)
        if offset < expected or (offset > expected and await self._goes_back(place, expected, offset)):
            return False
        self._next[place] = offset + 1
        self._sought.pop(place, None)
        return True

    async def _goes_back(self, place: Place, expected: int, offset: int) -> bool:
        """Send the consumer back for what was left out; False when that has been tried often enough."""
        now_s = self._elapsed_s()
        sought, since_s, attempts = self._sought.get(place, (expected, now_s - _PATIENCE_S, 0))
        if sought == expected and now_s - since_s < _PATIENCE_S:
            return True  # what is still in the pipes
        if attempts >= _ATTEMPTS:
            log.error("agent.gap", topic=place[0], partition=place[1], missing=offset - expected, offset=expected)
            return False
        self._sought[place] = (expected, now_s, attempts + 1)
        await self._seek(place, expected)
        return True
