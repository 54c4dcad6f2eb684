"""Polls a Prometheus that can only be queried: first what the rules look back, then what is new.

Asked is up to `settle_s` ago, where everything that will ever be there is there. So each poll is complete up to its end
and the source's watermark follows it; after an outage the next poll goes on where the last complete one ended. While
the server does not answer, event time of this source stands still: its rules wait, they do not decide on half.

What rules look back is older than the present, and only a new source may bring that. So the selectors that a reload
adds become a source of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import httpx
import structlog

from connectors._prometheus_api import ApiError, Ask, Collected, Piece, asks, pieces, read_series
from engine.core.rules import RuleGroup
from engine.core.sources import SourceTiming
from engine.edge.http_access import CredentialsError, request_headers
from engine.edge.publisher import Publisher, TooManySourcesError, UnavailableError
from engine.edge.settings_sources import PrometheusApi

_log = structlog.get_logger(__name__)
_NEVER_IDLE_MS = 2**53
_SIDE_BY_SIDE = 4
_FIRST_ANSWER_MS = 3_600_000  # history may be so much older than it was when it was asked for


@dataclass
class _Feed:
    """Selectors that are polled together, how far that is done, and which series of each were alive then."""

    source_name: str
    asks: Sequence[Ask]
    complete_ms: int | None = None
    live: dict[str, set[bytes]] = field(default_factory=dict)

    @property
    def reach_ms(self) -> int:
        return max((ask.reach_ms for ask in self.asks), default=0)


class PrometheusPoller:
    """One server and the rules that read from it. `sleep` waits; it is replaced in tests."""

    def __init__(
        self,
        publisher: Publisher,
        config: PrometheusApi,
        client: httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._publisher = publisher
        self._config = config
        self._client = client
        self._sleep = sleep
        self._interval_ms = round(config.interval_s * 1_000)
        self._feeds: list[_Feed] = []
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    def read(self, groups: Iterable[RuleGroup]) -> None:
        """From the next poll on, read exactly what these rules read. For the start, and for every reload of rules."""
        wanted = {ask.matchers: ask for ask in asks(groups, self._config.match)}
        for feed in self._feeds:
            kept = [ask for ask in feed.asks if ask.covers(wanted.get(ask.matchers))]
            for ask in kept:
                del wanted[ask.matchers]
            feed.asks = kept
        if wanted:
            name = f"prometheus_api/{self._config.name}" + (f"/{len(self._feeds)}" if self._feeds else "")
            self._feeds.append(_Feed(name, list(wanted.values())))

    async def run(self) -> None:
        """Poll at the interval, until cancelled."""
        while True:
            await self.poll_once()
            now_ms = self._publisher.now_ms()
            await self._sleep((self._interval_ms - now_ms % self._interval_ms) / 1_000)

    async def poll_once(self) -> bool:
        """Bring every selector up to the present; whether all of it was had and the broker has it."""
        return all([await self._poll(feed) for feed in self._feeds])

    async def _poll(self, feed: _Feed) -> bool:
        to_ms = self._publisher.now_ms() - round(self._config.settle_s * 1_000)
        oldest_ms = to_ms - max(feed.reach_ms, self._interval_ms)
        from_ms = oldest_ms if feed.complete_ms is None else max(feed.complete_ms, oldest_ms)
        code, why = "200", ""
        try:
            for piece in pieces(from_ms, to_ms, round(self._config.history_chunk_s * 1_000)):
                await self._take(feed, piece, is_last=piece.to_ms == to_ms, now_ms=to_ms)
        except TimeoutError:
            code, why = "timeout", f"no answer within {self._config.timeout_s:g} s"
        except httpx.HTTPStatusError as error:
            code, why = str(error.response.status_code), _told(error.response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            code, why = "unreachable", f"{type(error).__name__}: {error}"
        except ApiError as error:
            code, why = "no_samples", str(error)
        except CredentialsError as error:
            code, why = "no_credentials", str(error)
        except (UnavailableError, TooManySourcesError) as error:
            code, why = "broker_unavailable", str(error)
        self._publisher.metrics.requests.labels("prometheus_api", code).inc()
        if why:
            _log.warning("prometheus_api_failed", source=self._config.name, url=self._config.url, error=why)
        return not why

    async def _take(self, feed: _Feed, piece: Piece, *, is_last: bool, now_ms: int) -> None:
        """Ask for a piece, and put it on the topic; only then is it done."""
        collected = Collected(piece)
        wanted = [ask for ask in feed.asks if piece.to_ms > now_ms - max(ask.reach_ms, self._interval_ms)]
        bodies = await asyncio.gather(*(self._ask(ask.samples(piece), piece.to_ms) for ask in wanted))
        sent = {ask.matchers: collected.add(body) for ask, body in zip(wanted, bodies, strict=True)}
        none: set[bytes] = set()
        live = {ask.matchers: feed.live.get(ask.matchers, none) | sent.get(ask.matchers, none) for ask in feed.asks}
        gone = none
        if is_last:
            bodies = await asyncio.gather(*(self._ask(ask.live(), piece.to_ms) for ask in feed.asks))
            alive = {
                ask.matchers: {key for key, _ in read_series(body, "vector")}
                for ask, body in zip(feed.asks, bodies, strict=True)
            }
            live, gone = alive, none.union(*live.values()) - none.union(*alive.values())
        timing = SourceTiming(0, _NEVER_IDLE_MS, max_behind_ms=feed.reach_ms + self._interval_ms + _FIRST_ANSWER_MS)
        source = self._publisher.source(feed.source_name, "prometheus_api", "metrics", timing)
        await self._publisher.publish(source, collected.end(gone, self._config.name))
        feed.live, feed.complete_ms = live, piece.to_ms

    async def _ask(self, query: str, at_ms: int) -> bytes:
        form = {"query": query, "time": f"{at_ms / 1_000:.3f}", "timeout": f"{self._config.timeout_s:g}s"}
        url = f"{self._config.url.rstrip('/')}/api/v1/query"
        async with self._slots, asyncio.timeout(self._config.timeout_s):
            response = await self._client.post(url, data=form, headers=request_headers(self._config))
            response.raise_for_status()
            return response.content


def _told(response: httpx.Response) -> str:
    """What a server said instead of an answer: the reason in its own words, if it gave one."""
    try:
        read_series(response.content, "vector")
    except ApiError as error:
        return f"HTTP status {response.status_code}: {error}"
    return f"HTTP status {response.status_code}"
