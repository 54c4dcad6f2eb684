"""The wall clock, read at the edge only. The pure core never sees it: it is told the time.

What waits takes a `Clock`, so that tests wait without waiting.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


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
