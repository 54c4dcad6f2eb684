"""Log lines on their way to Loki: batched, in time order, kept while the receiver is away.

Wire format: Loki's `POST /loki/api/v1/push` with JSON. The query parameter `source` names the service, so that each
service is a source of its own with its own watermark.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Literal

import aiohttp
import msgspec

Level = Literal["info", "warning", "error"]

BATCH_INTERVAL_S = 0.1
BATCH_LINES_MAX = 1_000
BUFFER_LINES_MAX = 20_000
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 5.0
PUSH_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
NAMESPACE = "aureus"

_console = logging.getLogger(__name__)


class LogShipper:
    """Ships one service's log lines. `log` never blocks; `run` pushes until `close`.

    At most `buffer_lines_max` lines wait; beyond that the oldest are given up. `on_drop(reason, lines)` hears of
    every line that will not arrive: "buffer_full", "rejected" (a 4xx answer) or "shutdown".
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        push_url: str,
        service: str,
        on_drop: Callable[[str, int], None],
        buffer_lines_max: int = BUFFER_LINES_MAX,
    ) -> None:
        self._session = session
        self._url = push_url
        self._service = service
        self._on_drop = on_drop
        self._buffer_lines_max = buffer_lines_max
        self._buffer: deque[tuple[int, Level, str]] = deque()
        self._batch: list[tuple[int, Level, str]] = []
        self._last_ns = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._reachable = True

    def log(self, level: Level, event: str, **fields: object) -> None:
        """Queue one JSON line; its time is now, and later than that of every line before."""
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        line = msgspec.json.encode({"event": event, "service": self._service, "level": level, **fields})
        if len(self._buffer) >= self._buffer_lines_max:
            self._buffer.popleft()
            self._on_drop("buffer_full", 1)
        self._buffer.append((self._last_ns, level, line.decode()))
        self._wake.set()

    async def run(self) -> None:
        """Push batches in order; a batch that could not be delivered is tried again before any later line."""
        backoff_s = BACKOFF_MIN_S
        while True:
            await self._wake.wait()
            if not self._closing:
                await asyncio.sleep(BATCH_INTERVAL_S)
            self._wake.clear()
            while self._buffer or self._batch:
                if await self._push():
                    backoff_s = BACKOFF_MIN_S
                    continue
                if self._closing:
                    self._on_drop("shutdown", len(self._buffer) + len(self._batch))
                    return
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            if self._closing:
                return

    async def close(self, running: asyncio.Task[None]) -> None:
        """Try once more to deliver what waits, then end the task of `run`."""
        self._closing = True
        self._wake.set()
        _, unfinished = await asyncio.wait([running], timeout=CLOSE_TIMEOUT_S)
        if unfinished:
            running.cancel()
            await asyncio.wait([running])
            self._on_drop("shutdown", len(self._buffer) + len(self._batch))

    async def _push(self) -> bool:
        if not self._batch:
            self._batch = list(islice(self._buffer, BATCH_LINES_MAX))
            for _ in self._batch:
                self._buffer.popleft()
        body = push_body(self._service, self._batch)
        try:
            async with self._session.post(
                self._url,
                params={"source": self._service},
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=PUSH_TIMEOUT_S),
            ) as response:
                status, answer = response.status, (await response.text())[:200]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._note_unreachable(str(error) or type(error).__name__)
            return False
        if status >= 500 or status == 429:
            self._note_unreachable(f"status {status}: {answer}")
            return False
        if status >= 400:
            _console.error("%s: %s refused %d log lines: %s", self._service, self._url, len(self._batch), answer)
            self._on_drop("rejected", len(self._batch))
        elif not self._reachable:
            _console.info("%s: log lines reach %s again", self._service, self._url)
        self._reachable = True
        self._batch = []
        return True

    def _note_unreachable(self, why: str) -> None:
        if self._reachable:
            _console.warning("%s: log lines wait, %s cannot take them: %s", self._service, self._url, why)
        self._reachable = False


def push_body(service: str, lines: list[tuple[int, Level, str]]) -> bytes:
    """Loki's JSON push body of (time in ns, level, line): one stream per level, order kept."""
    by_level: dict[Level, list[tuple[str, str]]] = {}
    for t_ns, level, line in lines:
        by_level.setdefault(level, []).append((str(t_ns), line))
    streams = [
        {"stream": {"job": service, "namespace": NAMESPACE, "level": level}, "values": values}
        for level, values in by_level.items()
    ]
    return msgspec.json.encode({"streams": streams})
