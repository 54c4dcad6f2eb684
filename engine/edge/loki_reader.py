"""Reads a Loki: the tail brings lines early, and a check, again and again, sees to it that each is taken once.

A check looks at the span from what is complete up to `lateness_ms` ago. Where Loki counts as many lines there as were
taken, or once those that were missing have been fetched, the span is complete and the watermark follows. So nothing
depends on the tail, which breaks, and which loses lines silently when its reader or Loki's own queues are slow.

While Loki does not answer, event time of this source stands still. When it is back, its agents send what they held
back; for `settle_ms` lines are taken but the watermark waits, so that those are not late.

What is complete survives a restart without a file of its own: it stands on the topic, with the lines (`TopicMemory`),
so that the two cannot disagree. Without anything there the windows are filled as far back as the rules look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import structlog

from connectors._loki_api import Scope, Taken, scopes
from connectors._prometheus_api import Piece, pieces
from engine.core.messages import LogStream
from engine.core.rules import RuleGroup
from engine.core.sources import SourceTiming
from engine.edge.loki_client import LokiClient, LokiError
from engine.edge.publisher import Publisher, Source, TooManySourcesError, UnavailableError
from engine.edge.settings_sources import LokiApi

_log = structlog.get_logger(__name__)
_NEVER_MS = 2**53
_FIRST_ANSWER_MS = 3_600_000  # history may be so much older than it was when it was asked for
_REMEMBER_MS = 60_000  # a tail may bring a line so long after a check has fetched it
_RETRY_S, _RETRY_MOST_S = 1.0, 60.0
_EARLIER_RUN = 0  # the number of a scope that is none of this run's
_LEAST_SPAN_MS = 60_000  # at the first start, when no rule says how far to look back


@dataclass(frozen=True)
class Remembered:
    """What an earlier run said: how far it was complete, and the lines that it sent beyond and shortly before that."""

    complete_ms: int
    streams: Sequence[LogStream]


class Memory(Protocol):
    """Where an earlier run can be looked up."""

    async def recall(self, source: str, since_ms: int) -> Remembered | None:
        """What was said of a source since a time; None if nothing was."""


class LokiReader:
    """One Loki and the streams that are read from it. `sleep` waits; it is replaced in tests."""

    def __init__(
        self,
        publisher: Publisher,
        config: LokiApi,
        client: LokiClient,
        memory: Memory,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._publisher = publisher
        self._config = config
        self._client = client
        self._memory = memory
        self._sleep = sleep
        self._source: Source | None = None
        self._complete_ms = 0
        self._taken = Taken()
        self._numbers: dict[str, int] = {}  # of every selector ever read
        self._scopes: list[Scope] = []
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._tailed: set[str] = set()
        self._was_away = False
        self._settled_ms = 0

    def read(self, groups: Iterable[RuleGroup]) -> None:
        """From now on, read what these rules read. For the start, and for every reload of rules.

        Streams that a reload adds are read from the present on; only a start fills windows with what was before.
        """
        self._scopes = scopes(groups, self._config.selectors)
        for scope in self._scopes:
            self._numbers.setdefault(scope.selector, len(self._numbers) + 1)

    async def run(self) -> None:
        """Tail and check, until cancelled."""
        try:
            while True:
                await self.check_once()
                self._follow()
                await self._sleep(self._config.interval_s)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the tails."""
        tasks = list(self._tails.values())
        self._tails.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check_once(self) -> bool:
        """Make everything up to `lateness_ms` ago complete; whether that was done."""
        code, why = "200", ""
        try:
            if self._scopes:
                await self._check(await self._begun(), self._publisher.now_ms())
        except LokiError as error:
            code, why, self._was_away = error.code, str(error), True
        except (UnavailableError, TooManySourcesError) as error:
            code, why = "broker_unavailable", str(error)
        self._publisher.metrics.requests.labels("loki", code).inc()
        if why:
            _log.warning("loki.check_failed", source=self._config.name, url=self._config.url, reason=why)
        return not why

    async def _begun(self) -> Source:
        """The source; on first use with what an earlier run left, or from as far back as the rules look."""
        if self._source is None:
            reach_ms = max([_LEAST_SPAN_MS, *(scope.reach_ms for scope in self._scopes)])
            oldest_ms = self._publisher.now_ms() - self._config.lateness_ms - reach_ms
            name = f"loki/{self._config.name}"
            found = await self._memory.recall(name, oldest_ms - _REMEMBER_MS)
            if found is not None:
                self._taken.add(found.streams, _EARLIER_RUN)
            # The clock makes no promises by itself: only a check knows what is complete.
            timing = SourceTiming(_NEVER_MS, _NEVER_MS, max_behind_ms=reach_ms + _FIRST_ANSWER_MS)
            source = self._publisher.source(name, "loki", "logs", timing)
            self._complete_ms = await self._publisher.complete(
                source, max(oldest_ms, found.complete_ms if found else 0)
            )
            self._source = source
        return self._source

    async def _check(self, source: Source, now_ms: int) -> None:
        chunk_ms = round(self._config.history_chunk_s * 1_000)
        for piece in pieces(self._complete_ms, now_ms - self._config.lateness_ms, chunk_ms):
            filling = [self._fill(source, scope, piece) for scope in self._scopes]
            for outcome in await asyncio.gather(*filling, return_exceptions=True):  # none goes on behind our back
                if isinstance(outcome, BaseException):
                    raise outcome
            if self._was_away:
                self._was_away, self._settled_ms = False, now_ms + self._config.settle_ms
            if now_ms >= self._settled_ms:
                self._complete_ms = max(self._complete_ms, await self._publisher.complete(source, piece.to_ms))
                self._taken.forget(self._complete_ms - _REMEMBER_MS)

    async def _fill(self, source: Source, scope: Scope, piece: Piece) -> None:
        """Take the lines of a piece that are not taken yet."""
        number, selector = self._numbers[scope.selector], scope.selector
        if selector in self._tailed:
            there = await self._client.count(selector, piece.from_ms, piece.to_ms)
            if there == self._taken.count(number, piece.from_ms, piece.to_ms):
                return
        pages = self._client.pages(selector, piece.from_ms * 1_000_000, piece.to_ms * 1_000_000)
        async with aclosing(pages) as found:
            async for streams in found:
                await self._take(source, streams, number)

    async def _take(self, source: Source, streams: Sequence[LogStream], number: int) -> None:
        new = self._taken.add(streams, number)
        try:
            await self._publisher.publish(source, new)
        except UnavailableError:
            self._taken.remove(new)  # the next check misses them, and fetches them
            raise

    def _follow(self) -> None:
        """Have a tail for each selector that is read, and no other."""
        wanted = {scope.selector for scope in self._scopes} if self._config.tail and self._source else set()
        for selector in set(self._tails) - wanted:
            self._tails.pop(selector).cancel()
        for selector in wanted - set(self._tails):
            self._tails[selector] = asyncio.create_task(self._tail(selector), name=f"loki-tail-{self._config.name}")

    async def _tail(self, selector: str) -> None:
        """Tail until cancelled. Loki allows ten tails a tenant by default: one that is refused is tried less often."""
        pause_s = _RETRY_S
        while True:
            try:
                await self._tail_once(selector)
                _log.info("loki.tail_ended", source=self._config.name, selector=selector)
                pause_s = _RETRY_S
            except LokiError as error:
                self._publisher.metrics.requests.labels("loki", f"tail_{error.code}").inc()
                _log.warning("loki.tail_broken", source=self._config.name, selector=selector, reason=str(error))
                pause_s = min(pause_s * 2, _RETRY_MOST_S) if error.code != "unreachable" else _RETRY_S
            finally:
                self._tailed.discard(selector)
            await self._sleep(pause_s)

    async def _tail_once(self, selector: str) -> None:
        """Take what one connection brings."""
        source, number = await self._begun(), self._numbers[selector]
        async with aclosing(self._client.tail(selector, self._publisher.now_ms() * 1_000_000)) as messages:
            async for streams, left_out in messages:
                self._tailed.add(selector)
                if left_out:
                    _log.info("loki.tail_left_out", source=self._config.name, selector=selector, lines=left_out)
                try:
                    await self._take(source, streams, number)
                except UnavailableError as error:
                    _log.warning("loki.tail_waits", source=self._config.name, reason=str(error))
