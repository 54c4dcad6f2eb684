"""`/health` and `/ready` that tell the truth.

Health says whether this process is alive: every long-running loop must have ticked recently. A supervisor restarts a
process that is not. Readiness says whether every part the process's roles need is up; each check answers with a
reason a person can act on. A check that raises or hangs has failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

CHECK_TIMEOUT_S = 2.0

Check = Callable[[], Awaitable["CheckResult"]]


@dataclass(frozen=True)
class CheckResult:
    """Whether one part is up, and why (or why not)."""

    ok: bool
    reason: str = ""


class Heartbeats:
    """Notes when each loop of the process last ticked. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limits_s: dict[str, float] = {}
        self._beats: dict[str, float] = {}

    def register(self, loop: str, limit_s: float) -> None:
        """A loop that must tick at least every `limit_s` seconds from now on."""
        self._limits_s[loop] = limit_s
        self.beat(loop)

    def forget(self, loop: str) -> None:
        """A loop that ended as it should."""
        self._limits_s.pop(loop, None)

    def beat(self, loop: str) -> None:
        """The loop has ticked."""
        self._beats[loop] = self._clock()

    def results(self) -> dict[str, CheckResult]:
        """Each registered loop, with how long ago it ticked."""
        now = self._clock()
        ages_s = {loop: now - self._beats[loop] for loop in self._limits_s}
        return {
            loop: CheckResult(
                age_s <= self._limits_s[loop], f"ticked {age_s:.1f} s ago, limit {self._limits_s[loop]:g} s"
            )
            for loop, age_s in ages_s.items()
        }


class Health:
    """What `/health` and `/ready` answer from. `ready` may be added to while parts start."""

    def __init__(self, heartbeats: Heartbeats, ready: Mapping[str, Check] | None = None) -> None:
        self.heartbeats = heartbeats
        self.ready: dict[str, Check] = dict(ready or {})

    async def readiness(self) -> dict[str, CheckResult]:
        """The result of every readiness check, run side by side."""
        results = await asyncio.gather(*(_guarded(check) for check in self.ready.values()))
        return dict(zip(self.ready, results, strict=True))

    def routes(self) -> list[web.RouteDef]:
        """`GET /health` and `GET /ready`: 200 or 503, JSON with each check and its reason."""
        return [web.get("/health", self._health), web.get("/ready", self._ready)]

    async def _health(self, _: web.Request) -> web.Response:
        return _answer(self.heartbeats.results())

    async def _ready(self, _: web.Request) -> web.Response:
        return _answer(await self.readiness() or {"start": CheckResult(False, "no part has reported yet")})


async def _guarded(check: Check) -> CheckResult:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return CheckResult(False, f"no answer within {CHECK_TIMEOUT_S:g} s")
    except Exception as error:  # a broken check is a failed check, whatever broke
        return CheckResult(False, f"{type(error).__name__}: {error}")


def _answer(results: Mapping[str, CheckResult]) -> web.Response:
    ok = all(result.ok for result in results.values())
    checks = {name: {"ok": result.ok, "reason": result.reason} for name, result in results.items()}
    return web.json_response({"ok": ok, "checks": checks}, status=200 if ok else 503)
