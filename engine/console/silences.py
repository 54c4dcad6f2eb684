"""Silences in the console: a page for people, and Alertmanager's API v2 for amtool and whatever else speaks it.

`GET /api/v2/silences`, `POST /api/v2/silences`, `GET` and `DELETE /api/v2/silence/{id}` take and give Alertmanager's
JSON. Its ids here name silences that never change: to change one, expire it and make another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import structlog
from aiohttp import web

from engine.console import guard
from engine.console.pages import iso_time
from engine.core import duration
from engine.core.labels import Matcher, MatcherSet, MatchOp, parse_matcher
from engine.response.silences import Silence, SilenceKind

log = structlog.get_logger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NAME_MAX, _COMMENT_MAX, _SHOWN = 100, 500, 100
_OPS: dict[tuple[bool, bool], MatchOp] = {
    (False, True): "=",
    (False, False): "!=",
    (True, True): "=~",
    (True, False): "!~",
}


class SilenceStore(Protocol):
    """What the page and the API ask of the database."""

    async def silences(self, limit: int) -> list[Silence]:
        """Silences, also those that are over, the last to end first."""
        ...

    async def silence(self, silence_id: str) -> Silence | None:
        """One silence."""
        ...

    async def add_silence(self, silence: Silence, now_ms: int) -> Silence:
        """Keep a new one, which gets its id; raises `ValueError` when it cannot be one."""
        ...

    async def expire_silence(self, silence_id: str, by: str, now_ms: int) -> Silence | None:
        """End one now; None when none of this id holds or will."""
        ...


class AmMatcher(msgspec.Struct, rename="camel"):
    """A matcher as Alertmanager's JSON has it."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool = True


class AmSilence(msgspec.Struct, rename="camel"):
    """What Alertmanager's `POST /api/v2/silences` takes."""

    matchers: list[AmMatcher]
    starts_at: str
    ends_at: str
    created_by: str
    comment: str
    id: str = ""


def alertmanager_silence(silence: Silence, now_ms: int) -> dict[str, object]:
    """A silence as Alertmanager's API gives it; its `annotations.kind` tells maintenance apart."""
    return {
        "id": silence.id,
        "status": {"state": silence.state(now_ms)},
        "updatedAt": iso_time(silence.starts_ms),
        "matchers": [
            {"name": m.name, "value": m.value, "isRegex": m.op in ("=~", "!~"), "isEqual": m.op in ("=", "=~")}
            for m in silence.matchers
        ],
        "startsAt": iso_time(silence.starts_ms),
        "endsAt": iso_time(silence.ends_ms),
        "createdBy": silence.by,
        "comment": silence.comment,
        "annotations": {"kind": silence.kind},
    }


def parse_time_ms(text: str) -> int:
    """A time as RFC 3339 writes it, with its offset. Raises `ValueError`."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"not a time: {text!r} (write it like 2026-12-01T22:00:00Z)") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} says no time zone (write it like 2026-12-01T22:00:00Z)")
    return int(moment.astimezone(UTC).timestamp() * 1000)


class SilencePages:
    """The handlers. `page(request, template, status, **values)` gives a page of the console."""

    def __init__(
        self,
        store: SilenceStore,
        page: Callable[..., Awaitable[web.Response]],
        forms: guard.Guard,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._page = page
        self._forms = forms
        self._now_ms = now_ms

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each route."""
        return [
            ("GET", "/silences", self._overview),
            ("POST", "/silences", self._add_form),
            ("POST", "/silences/{id}/expire", self._expire_form),
            ("GET", "/api/v2/silences", self._api_list),
            ("POST", "/api/v2/silences", self._api_add),
            ("GET", "/api/v2/silence/{id}", self._api_one),
            ("DELETE", "/api/v2/silence/{id}", self._api_expire),
        ]

    # pages

    async def _overview(self, request: web.Request) -> web.Response:
        now_ms = self._now_ms()
        found = await self._store.silences(_SHOWN)
        holding = [one for one in found if one.state(now_ms) != "expired"]
        over = [one for one in found if one.state(now_ms) == "expired"]
        return await self._page(request, "silences.html", holding=holding[::-1], over=over)

    async def _add_form(self, request: web.Request) -> web.Response:
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        if not self._forms.holds(request, form.get(guard.FIELD, "")):
            return await self._refused(request, 403, "Open the page again and repeat.")
        now_ms = self._now_ms()
        try:
            matchers = tuple(parse_matcher(line) for line in form.get("matchers", "").splitlines() if line.strip())
            ends_ms = now_ms + duration.parse_ms(form.get("for", "").strip())
            kind: SilenceKind = "maintenance" if form.get("kind") == "maintenance" else "silence"
            by, comment = form.get("by", ""), form.get("comment", "")
            await self._add(Silence("", matchers, now_ms, ends_ms, by, comment, kind))
        except ValueError as error:
            return await self._refused(request, 400, str(error))
        return web.Response(status=303, headers={"Location": "/silences"})

    async def _expire_form(self, request: web.Request) -> web.Response:
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        if not self._forms.holds(request, form.get(guard.FIELD, "")):
            return await self._refused(request, 403, "Open the page again and repeat.")
        try:
            ended = await self._expire(request.match_info["id"], form.get("by", ""))
        except ValueError as error:
            return await self._refused(request, 400, str(error))
        if ended is None:
            return await self._refused(request, 409, "No such silence holds or will.")
        return web.Response(status=303, headers={"Location": "/silences"})

    async def _refused(self, request: web.Request, status: int, reason: str) -> web.Response:
        return await self._page(request, "problem.html", status, title="Not done", reason=reason, back="/silences")

    # Alertmanager's API

    async def _api_list(self, request: web.Request) -> web.Response:
        try:
            filters = tuple(parse_matcher(text) for text in request.query.getall("filter", []))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        now_ms = self._now_ms()
        # As Alertmanager: a filter is asked of the silence's matchers as if they were labels.
        found = [
            one
            for one in await self._store.silences(_SHOWN)
            if not filters or MatcherSet(filters)({m.name: m.value for m in one.matchers})
        ]
        return web.json_response([alertmanager_silence(one, now_ms) for one in found])

    async def _api_one(self, request: web.Request) -> web.Response:
        found = await self._store.silence(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound(text="there is no such silence")
        return web.json_response(alertmanager_silence(found, self._now_ms()))

    async def _api_add(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="the body must be application/json")
        try:
            asked = msgspec.json.decode(await request.read(), type=AmSilence)
            if asked.id:
                raise ValueError("a silence is not changed here: expire it and make another")
            matchers = tuple(Matcher(m.name, _OPS[m.is_regex, m.is_equal], m.value) for m in asked.matchers)
            starts_ms, ends_ms = parse_time_ms(asked.starts_at), parse_time_ms(asked.ends_at)
            kept = await self._add(Silence("", matchers, starts_ms, ends_ms, asked.created_by, asked.comment))
        except (ValueError, msgspec.DecodeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response({"silenceID": kept.id})

    async def _api_expire(self, request: web.Request) -> web.Response:
        by = request.query.get("by", "") or "API"  # Alertmanager's DELETE names nobody
        if await self._expire(request.match_info["id"], by) is None:
            raise web.HTTPNotFound(text="no such silence holds or will")
        return web.Response()

    # what both do

    async def _add(self, silence: Silence) -> Silence:
        named = msgspec.structs.replace(
            silence, by=_text(silence.by, "name", _NAME_MAX), comment=_text(silence.comment, "comment", _COMMENT_MAX)
        )
        kept = await self._store.add_silence(named, self._now_ms())
        log.warning("console.silenced", silence=kept.id, by=kept.by)
        return kept

    async def _expire(self, silence_id: str, by: str) -> Silence | None:
        named = _text(by, "name", _NAME_MAX)
        if await self._store.silence(silence_id) is None:
            return None
        ended = await self._store.expire_silence(silence_id, named, self._now_ms())
        log.info("console.silence_expired", silence=silence_id, by=named)
        return ended


def _text(text: str, what: str, most: int) -> str:
    said = " ".join(text.split())
    if not said or len(said) > most or not said.isprintable():
        raise ValueError(f"a silence needs a {what}: 1 to {most} printable characters")
    return said
