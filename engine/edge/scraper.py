"""Reads /metrics pages itself, for those who have exporters but no Prometheus.

Every target is a source of its own. Targets are spread over their interval, and a target's times lie on a fixed grid,
so a slow scrape delays neither the others nor itself. What a scrape means is decided by `connectors.scrape`; a failed
one is data as well: `up` becomes 0 and the target's series end with staleness markers.

A source must go on saying how far it is for as long as rules wait for it. So a target from a file does not take a
source's name with it when it goes: its source stays, and the next target of the job that comes takes it over.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence

import httpx
import structlog

from connectors import DecodeError
from connectors._targets import Target
from connectors.scrape import ACCEPT, Exposition, Page, PageOptions, Seen, ending, report
from engine.core.batching import Samples
from engine.core.sources import SourceTiming
from engine.edge.discovery import TargetFiles, static_targets
from engine.edge.http_access import CredentialsError, request_headers
from engine.edge.publisher import Publisher, TooManySourcesError, UnavailableError
from engine.edge.settings_sources import ScrapeJob

_log = structlog.get_logger(__name__)
_MAX_PAGE_BYTES = 64 * 1024 * 1024
_USER_AGENT = "aureus-sentinel"

Sleep = Callable[[float], Awaitable[None]]
OpenClient = Callable[[ScrapeJob], httpx.AsyncClient]


class Scrape:
    """One target that is read, and what the last read of it showed."""

    def __init__(self, config: ScrapeJob, target: Target, source_name: str) -> None:
        self.config = config
        self.target = target
        self.source_name = source_name
        self.interval_ms = round(config.interval_s * 1_000)
        self.timing = SourceTiming(lateness_ms=0, idle_after_ms=3 * self.interval_ms)
        self.seen = Seen()
        options = PageOptions(
            honor_labels=config.honor_labels,
            honor_timestamps=config.honor_timestamps,
            sample_limit=config.sample_limit,
            metric_relabel=[one.step() for one in config.metric_relabel_configs],
        )
        self.page = Page(target.labels, options)

    def next_ms(self, now_ms: int) -> int:
        """The first time after `now_ms` on this target's grid, whose offset is a hash of what it is."""
        offset_ms = zlib.crc32(f"{self.config.job}/{self.target.url}".encode()) % self.interval_ms
        return ((now_ms - offset_ms) // self.interval_ms + 1) * self.interval_ms + offset_ms


class Scraper:
    """The scrapes of this process. `elapsed_s` measures durations, `sleep` waits; both are replaced in tests."""

    def __init__(
        self,
        publisher: Publisher,
        jobs: Sequence[ScrapeJob],
        open_client: OpenClient,
        sleep: Sleep = asyncio.sleep,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._sleep = sleep
        self._elapsed_s = elapsed_s
        self.jobs = [_JobScrapes(self, config, open_client(config)) for config in jobs]

    async def run(self) -> None:
        """Scrape every target at its interval, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for job in self.jobs:
                group.create_task(job.run(self._sleep))

    async def close(self) -> None:
        """Close the connections."""
        for job in self.jobs:
            await job.client.aclose()

    async def scrape_once(self, client: httpx.AsyncClient, scrape: Scrape) -> bool:
        """One scrape of one target, sent to the topic; whether the broker has it."""
        at_ms = self._publisher.now_ms()
        started_s = self._elapsed_s()
        page, code = await _read(client, scrape, at_ms)
        self._publisher.metrics.requests.labels("scrape", code).inc()
        result = report(scrape.target.labels, page, scrape.seen, at_ms, self._elapsed_s() - started_s)
        if not await self._publish(scrape, result.samples):
            # What was never said to be gone is said at the next scrape.
            scrape.seen = Seen(scrape.seen.tracked | result.seen.tracked, result.seen.series)
            return False
        scrape.seen = result.seen
        return True

    async def end(self, scrape: Scrape) -> bool:
        """Say that a target's series have ended, as it is not read any more; whether the broker has it."""
        return await self._publish(scrape, ending(scrape.target.labels, scrape.seen, self._publisher.now_ms()))

    async def repeat(self, client: httpx.AsyncClient, scrape: Scrape) -> None:
        """Scrape a target on its grid, until cancelled."""
        while True:
            now_ms = self._publisher.now_ms()
            await self._sleep((scrape.next_ms(now_ms) - now_ms) / 1_000)
            await self.scrape_once(client, scrape)

    async def _publish(self, scrape: Scrape, samples: Samples) -> bool:
        try:
            source = self._publisher.source(scrape.source_name, "scrape", "metrics", scrape.timing)
            await self._publisher.publish(source, samples)
        except (UnavailableError, TooManySourcesError) as error:
            reason = "broker_unavailable" if isinstance(error, UnavailableError) else "too_many_sources"
            self._publisher.metrics.drop({reason: len(samples)})
            _log.warning("scrape_lost", job=scrape.config.job, url=scrape.target.url, error=str(error))
            return False
        return True


class _JobScrapes:
    """The scrapes of one job: those that the settings name, and those in files, which come and go."""

    def __init__(self, scraper: Scraper, config: ScrapeJob, client: httpx.AsyncClient) -> None:
        self.config = config
        self.client = client
        self._scraper = scraper
        named = static_targets(config)
        self.static = [Scrape(config, target, name) for target, name in zip(named, _names(config, named), strict=True)]
        self._slots: dict[int, tuple[Scrape, asyncio.Task[None]]] = {}

    @property
    def discovered(self) -> list[Scrape]:
        """The scrapes that come from files, at this moment."""
        return [scrape for scrape, _ in self._slots.values()]

    async def run(self, sleep: Sleep) -> None:
        """Scrape the job's targets, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for scrape in self.static:
                group.create_task(self._scraper.repeat(self.client, scrape))
            if self.config.file_sd_configs:
                files = TargetFiles(self.config)
                while True:
                    found = await asyncio.to_thread(files.read)
                    if found is not None:
                        await self._take(found, group)
                    await sleep(files.refresh_s)

    async def _take(self, found: Sequence[Target], group: asyncio.TaskGroup) -> None:
        """Begin to scrape targets that are new, and end those that are gone."""
        wanted = {_identity(target): target for target in found}
        for slot, (scrape, task) in list(self._slots.items()):
            if wanted.pop(_identity(scrape.target), None) is None:
                task.cancel()
                await asyncio.wait([task])
                await self._scraper.end(scrape)
                del self._slots[slot]
        for target in wanted.values():
            slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
            scrape = Scrape(self.config, target, f"scrape/{self.config.job}/file_sd/{slot}")
            self._slots[slot] = (scrape, group.create_task(self._scraper.repeat(self.client, scrape)))


def _identity(target: Target) -> tuple[str, tuple[tuple[str, str], ...]]:
    return target.url, tuple(sorted(target.labels.items()))


def _names(config: ScrapeJob, targets: Sequence[Target]) -> list[str]:
    """A source's name for each target that the settings name: its URL, numbered if several have the same."""
    seen: dict[str, int] = {}
    names = []
    for target in targets:
        number = seen[target.url] = seen.get(target.url, 0) + 1
        names.append(f"scrape/{config.job}/{target.url}" + (f"#{number}" if number > 1 else ""))
    return names


async def _read(client: httpx.AsyncClient, scrape: Scrape, at_ms: int) -> tuple[Exposition | None, str]:
    """The parsed page, None if there is none to be had; and the HTTP status or the kind of failure."""
    config, url = scrape.config, scrape.target.url
    try:
        headers = {
            **request_headers(config),
            "Accept": ACCEPT,
            "User-Agent": _USER_AGENT,
            "X-Prometheus-Scrape-Timeout-Seconds": f"{config.timeout_s:g}",
        }
        async with asyncio.timeout(config.timeout_s), client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                return _failed(scrape, f"HTTP status {response.status_code}", str(response.status_code))
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    return _failed(scrape, f"the page is over {_MAX_PAGE_BYTES} bytes", "too_large")
        return scrape.page.parse(bytes(body), response.headers.get("Content-Type", ""), at_ms), "200"
    except TimeoutError:
        return _failed(scrape, f"no answer within {config.timeout_s:g} s", "timeout")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _failed(scrape, f"{type(error).__name__}: {error}", "unreachable")
    except CredentialsError as error:
        return _failed(scrape, str(error), "no_credentials")
    except DecodeError as error:
        return _failed(scrape, str(error), error.reason)


def _failed(scrape: Scrape, why: str, code: str) -> tuple[None, str]:
    _log.warning("scrape_failed", job=scrape.config.job, url=scrape.target.url, error=why)
    return None, code
