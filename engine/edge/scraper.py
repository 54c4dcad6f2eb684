"""Reads /metrics pages itself, for those who have exporters but no Prometheus.

Every target is a source of its own. Targets are spread over their interval, and a target's times lie on a fixed grid,
so a slow scrape delays neither the others nor itself. What a scrape means is decided by `connectors.scrape`; a failed
one is data as well: `up` becomes 0 and the target's series end with staleness markers.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence

import httpx
import structlog

from connectors import DecodeError
from connectors.scrape import ACCEPT, Exposition, Page, report
from engine.core.sources import SourceTiming
from engine.edge.publisher import Publisher, TooManySourcesError, UnavailableError
from engine.edge.settings import ScrapeTarget

_log = structlog.get_logger(__name__)
_MAX_PAGE_BYTES = 64 * 1024 * 1024
_USER_AGENT = "aureus-sentinel"


class Target:
    """One page to read, and what the last read of it showed."""

    def __init__(self, config: ScrapeTarget) -> None:
        url = httpx.URL(config.url)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        instance = f"{url.host}:{port}"
        self.config = config
        self.labels = {"job": config.job, "instance": instance, **config.labels}
        self.source_name = f"scrape/{config.job}/{config.url}"
        self.interval_ms = round(config.interval_s * 1_000)
        self.timing = SourceTiming(lateness_ms=0, idle_after_ms=3 * self.interval_ms)
        self.page = Page(self.labels)
        self.tracked: frozenset[bytes] = frozenset()

    def next_ms(self, now_ms: int) -> int:
        """The first time after `now_ms` on this target's grid, whose offset is a hash of its name."""
        offset_ms = zlib.crc32(self.source_name.encode()) % self.interval_ms
        return ((now_ms - offset_ms) // self.interval_ms + 1) * self.interval_ms + offset_ms


class Scraper:
    """The scrapes of this process. `elapsed_s` measures durations, `sleep` waits; both are replaced in tests."""

    def __init__(
        self,
        publisher: Publisher,
        targets: Sequence[ScrapeTarget],
        client: httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._client = client
        self._sleep = sleep
        self._elapsed_s = elapsed_s
        self.targets = [Target(config) for config in targets]

    async def run(self) -> None:
        """Scrape every target at its interval, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for target in self.targets:
                group.create_task(self._run_target(target))

    async def scrape_once(self, target: Target) -> bool:
        """One scrape of one target, sent to the topic; whether the broker has it."""
        at_ms = self._publisher.now_ms()
        started_s = self._elapsed_s()
        page, code = await self._read(target, at_ms)
        self._publisher.metrics.requests.labels("scrape", code).inc()
        result = report(target.labels, page, target.tracked, at_ms, self._elapsed_s() - started_s)
        try:
            source = self._publisher.source(target.source_name, "scrape", "metrics", target.timing)
            await self._publisher.publish(source, result.samples)
        except (UnavailableError, TooManySourcesError) as error:
            reason = "broker_unavailable" if isinstance(error, UnavailableError) else "too_many_sources"
            self._publisher.metrics.drop({reason: len(result.samples)})
            _log.warning("scrape_lost", job=target.config.job, url=target.config.url, error=str(error))
            target.tracked |= result.tracked  # what was never said to be gone is said at the next scrape
            return False
        target.tracked = result.tracked
        return True

    async def _run_target(self, target: Target) -> None:
        while True:
            now_ms = self._publisher.now_ms()
            await self._sleep((target.next_ms(now_ms) - now_ms) / 1_000)
            await self.scrape_once(target)

    async def _read(self, target: Target, at_ms: int) -> tuple[Exposition | None, str]:
        """The parsed page, None if there is none to be had; and the HTTP status or the kind of failure."""
        headers = {
            "Accept": ACCEPT,
            "User-Agent": _USER_AGENT,
            "X-Prometheus-Scrape-Timeout-Seconds": f"{target.config.timeout_s:g}",
        }
        try:
            async with (
                asyncio.timeout(target.config.timeout_s),
                self._client.stream("GET", target.config.url, headers=headers) as response,
            ):
                if response.status_code != 200:
                    return self._failed(target, f"HTTP status {response.status_code}", str(response.status_code))
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_PAGE_BYTES:
                        return self._failed(target, f"the page is over {_MAX_PAGE_BYTES} bytes", "too_large")
            return target.page.parse(bytes(body), response.headers.get("Content-Type", ""), at_ms), "200"
        except TimeoutError:
            return self._failed(target, f"no answer within {target.config.timeout_s:g} s", "timeout")
        except httpx.HTTPError as error:
            return self._failed(target, f"{type(error).__name__}: {error}", "unreachable")
        except DecodeError as error:
            return self._failed(target, str(error), error.reason)

    def _failed(self, target: Target, why: str, code: str) -> tuple[None, str]:
        _log.warning("scrape_failed", job=target.config.job, url=target.config.url, error=why)
        return None, code
