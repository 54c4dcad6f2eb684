"""The wall clock, read at the edge only. The pure core never sees it: it is told the time.

What waits takes a `Clock`, so that tests wait without waiting. Whoever decides about commands goes by `DatabaseClock`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

_SYNC_S = 10.0


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """Tells the time and waits."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""

    async def sleep(self, duration_s: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return now_ms()

    async def sleep(self, duration_s: float) -> None:
        """Wait."""
        await asyncio.sleep(duration_s)


class DatabaseClock:
    """The database's clock, by which cooldowns, budgets, approvals and expiries are counted in every process alike.

    It is read every ten seconds and carried on by the monotonic clock in between: that this machine's wall clock is
    wrong, or jumps, changes nothing. `read` gives the database's time in ms since 1970; call `sync` before the first
    use, and let `run` go on beside.
    """

    def __init__(self, read: Callable[[], Awaitable[int]], monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._monotonic_s = monotonic_s
        self._offset_ms = 0.0

    async def sync(self) -> None:
        """Read the database's clock; its answer is taken to be from the middle of the time that it took."""
        asked_s = self._monotonic_s()
        read_ms = await self._read()
        self._offset_ms = read_ms - (asked_s + self._monotonic_s()) / 2 * 1000

    async def run(self) -> None:
        """Stay in step, for ever."""
        while True:
            await self.sleep(_SYNC_S)
            await self.sync()

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return round(self._monotonic_s() * 1000 + self._offset_ms)

    async def sleep(self, duration_s: float) -> None:
        """Wait."""
        await asyncio.sleep(duration_s)
