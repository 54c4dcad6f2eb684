"""What many incidents came to: the account of a day as a page, and times to acknowledge and resolve as JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from aiohttp import web

from engine.core import duration
from engine.response.account import DayAccount, summary_of
from engine.response.stats import Lifetime, Stats, stats_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AccountStore(Protocol):
    """What these pages ask of the database."""

    async def account(self, day: dt.date) -> DayAccount:
        """What a day in UTC came to, so far."""
        ...

    async def lifetimes(self, from_ms: int, to_ms: int) -> list[Lifetime]:
        """Incidents opened in a span of time, with their times."""
        ...


class AccountPages:
    """The handlers. `page(request, template, status, **values)` gives a page of the console."""

    def __init__(
        self, store: AccountStore, page: Callable[..., Awaitable[web.Response]], now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._page = page
        self._now_ms = now_ms

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each route."""
        return [("GET", "/account", self._account), ("GET", "/api/stats", self._api_stats)]

    async def _account(self, request: web.Request) -> web.Response:
        today = dt.datetime.fromtimestamp(self._now_ms() / 1000, dt.UTC).date()
        try:
            day = dt.date.fromisoformat(request.query.get("day", today.isoformat()))
            around = {"before": day - dt.timedelta(days=1), "after": day + dt.timedelta(days=1)}
        except (ValueError, OverflowError):
            told = {"title": "No such day", "reason": "A day is written like 2026-11-24.", "back": "/account"}
            return await self._page(request, "problem.html", 400, **told)
        found = await self._store.account(day)
        return await self._page(request, "account.html", account=found, summary=summary_of(found), **around)

    async def _api_stats(self, request: web.Request) -> web.Response:
        try:
            since_ms = duration.parse_ms(request.query.get("since", "30d"))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        found = await stats_since(self._store, self._now_ms(), since_ms)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")


async def stats_since(store: AccountStore, now_ms: int, since_ms: int) -> list[Stats]:
    """Times of the incidents opened lately: all of them, then by runbook and severity."""
    return stats_of(await store.lifetimes(now_ms - since_ms, now_ms + 1), now_ms)
