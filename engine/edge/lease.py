"""A lease as its holder sees it: work may go on only until the end of the last renewal that was confirmed.

The database decides who holds a target, but a holder that is cut off from it is not told that it has lost it. So the
holder counts for itself, on its monotonic clock, from before it asked: its own end comes before the database's, and
then the work is cancelled, whatever became of the renewal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_CANCEL_SHARE = 0.1  # this part of a lease is left for the cancelled work to end in
_FAREWELL_S = 5.0


class LeaseLostError(Exception):
    """The lease is over, or somebody else has it."""


class Lease:
    """The right to act, under a fencing token. `asked_s` is when it was asked for, by `monotonic_s`."""

    def __init__(
        self, token: int, length_ms: int, asked_s: float, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.token = token
        self.length_ms = length_ms
        self._monotonic_s = monotonic_s
        self._confirm(asked_s)

    def _confirm(self, asked_s: float) -> None:
        self._end_s = asked_s + self.length_ms / 1000 * (1 - _CANCEL_SHARE)

    def left_s(self) -> float:
        """How long the work may still go on; not positive: it may not."""
        return self._end_s - self._monotonic_s()

    def check(self) -> None:
        """Raises `LeaseLostError` when the lease is over as far as this process can know."""
        if self.left_s() <= 0:
            raise LeaseLostError("not renewed in time")

    async def guard(
        self,
        work: Coroutine[Any, Any, T],
        renew: Callable[[], Awaitable[float | None]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> T:
        """Do work while the lease is held. `renew` gives the time it asked at, None when the lease was lost.

        Raises `LeaseLostError` when it is held no longer; the work has ended then.
        """
        working = asyncio.create_task(work)
        keepers = {asyncio.create_task(self._keep(renew, sleep)), asyncio.create_task(self._watch(sleep))}
        try:
            await asyncio.wait({working, *keepers}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise LeaseLostError("not renewed in time" if self.left_s() <= 0 else "taken over")
        finally:
            for task in (working, *keepers):
                task.cancel()
            await asyncio.gather(working, return_exceptions=True)
            # A renewal may hang on a connection that is gone; nothing depends on its end.
            await asyncio.wait(keepers, timeout=_FAREWELL_S)

    async def _keep(
        self, renew: Callable[[], Awaitable[float | None]], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        """Renew until the lease is lost."""
        while True:
            await sleep(self.length_ms / 3000)
            asked_s = await renew()
            if asked_s is None:
                return
            self._confirm(asked_s)

    async def _watch(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Wait for the end of the last confirmed renewal."""
        while (left_s := self.left_s()) > 0:
            await sleep(left_s)
