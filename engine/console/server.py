"""The console: pages for people and the same as JSON, as aiohttp routes over a `Store`.

Nothing is fetched from outside, everything is escaped, every change needs a name. The checks on who may ask at all
are in `console.guard`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, get_args

import msgspec
import structlog
from aiohttp import web
from multidict import MultiMapping
from yarl import URL

from engine.console import guard, pages
from engine.console.model import (
    AlertNow,
    AlertsNow,
    Approval,
    Decision,
    DecisionRefusedError,
    Incident,
    OperatorKind,
    OperatorRefusedError,
    Pause,
    Said,
    Store,
)
from engine.console.silences import SilencePages

T = TypeVar("T", bound=msgspec.Struct)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CLOSED_SHOWN = 10
_LIST_MAX = 500
_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NAME_MAX, _REASON_MAX = 100, 500
_PATIENCE_S = 10
_NEEDS_TEXT: dict[OperatorKind, str] = {
    "close": "say why it is closed",
    "note": "a note needs a text",
    "reopen": "say why it is opened again",
}
_KINDS = "|".join(get_args(OperatorKind))

log = structlog.get_logger(__name__)


class ByName(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a pause or resume."""

    by: str


class Console:
    """The handlers. `now_ms` is the wall clock; `external_url` is how people reach the console, "" if just locally."""

    def __init__(
        self,
        store: Store,
        alerts_now: AlertsNow,
        now_ms: Callable[[], int],
        *,
        external_url: str = "",
        known_hosts: Iterable[str] = (),
    ) -> None:
        self._store = store
        self._alerts_now = alerts_now
        self._now_ms = now_ms
        self._guard = guard.Guard([URL(external_url).host or "", *known_hosts])
        self._secure = external_url.startswith("https:")
        self._templates = pages.environment()

    def routes(self) -> list[web.RouteDef]:
        """Every route of the console, checks included."""
        gets: dict[str, Handler] = {
            "/": self._overview,
            r"/incidents/{id:\d{1,18}}": self._incident_page,
            r"/incidents/{id:\d{1,18}}/report": self._report,
            r"/static/{name:[a-z]+\.[a-z]+}": self._static,
            "/api/incidents": self._api_incidents,
            r"/api/incidents/{id:\d{1,18}}": self._api_incident,
            "/api/alerts": self._api_alerts,
            "/api/approvals": self._api_approvals,
            "/api/pause": self._api_pause_state,
        }
        posts: dict[str, Handler] = {
            "/approvals/{command}": self._decide_form,
            rf"/incidents/{{id:\d{{1,18}}}}/{{kind:{_KINDS}}}": self._operator_form,
            "/pause": self._pause_form,
            "/resume": self._pause_form,
            "/api/approvals/{command}": self._api_decide,
            rf"/api/incidents/{{id:\d{{1,18}}}}/{{kind:{_KINDS}}}": self._api_operator,
            "/api/pause": self._api_pause,
            "/api/resume": self._api_pause,
        }
        silences = SilencePages(self._store, self._page, self._guard, self._now_ms)
        return [
            *(web.route(method, path, self._guarded(handler)) for method, path, handler in silences.routes()),
            *(web.get(path, self._guarded(handler)) for path, handler in gets.items()),
            *(web.post(path, self._guarded(handler)) for path, handler in posts.items()),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            is_api = request.path.startswith("/api/")
            refusal = self._guard.refusal(request)
            if refusal:
                log.warning("console.refused", reason=refusal, path=request.path, remote=request.remote)
                response: web.StreamResponse = _plain_error(is_api, 403, refusal)
            else:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        response = await handler(request)
                except TimeoutError:
                    response = _plain_error(is_api, 503, "the database does not answer; see /ready")
                except web.HTTPException as error:
                    response = _plain_error(is_api, error.status, error.text or error.reason)
            response.headers.update(guard.HEADERS)
            return response

        return answer

    # pages

    async def _overview(self, request: web.Request) -> web.Response:
        incidents = await self._store.incidents(open_only=True, limit=_LIST_MAX)
        recent = await self._store.incidents(open_only=False, limit=_LIST_MAX)
        alerts: list[AlertNow] = []
        alerts_error = ""
        try:
            alerts = await self._alerts_now()
        except Exception as error:  # the evaluators may be away; the rest of the page is needed all the more
            alerts_error = f"{type(error).__name__}: {error}"
        return await self._page(
            request,
            "overview.html",
            open=sorted(incidents, key=_by_urgency),
            closed=[incident for incident in recent if not incident.is_open][:_CLOSED_SHOWN],
            approvals=await self._store.approvals(),
            undelivered=await self._store.undelivered(),
            alerts=alerts,
            alerts_error=alerts_error,
        )

    async def _incident_page(self, request: web.Request) -> web.Response:
        detail = await self._store.incident(int(request.match_info["id"]))
        if detail is None:
            return await self._problem(request, 404, "No such incident", "There is no incident with this number.")
        return await self._page(request, "incident.html", detail=detail)

    async def _report(self, request: web.Request) -> web.Response:
        number = int(request.match_info["id"])
        text = await self._store.report(number)
        if text is None:
            raise web.HTTPNotFound(text=f"there is no incident {number}")
        response = web.Response(text=text, content_type="text/plain")
        if "download" in request.query:
            response.content_type = "text/markdown"
            response.headers["Content-Disposition"] = f'attachment; filename="incident-{number}.md"'
        return response

    async def _static(self, request: web.Request) -> web.Response:
        file = pages.STATIC / request.match_info["name"]
        if file.suffix not in _STATIC_TYPES or not file.is_file():
            raise web.HTTPNotFound(text="there is no such file")
        return web.Response(text=file.read_text(encoding="utf-8"), content_type=_STATIC_TYPES[file.suffix])

    async def _decide_form(self, request: web.Request) -> web.Response:
        form = await request.post()
        back = f"/incidents/{int(number)}" if (number := _field(form, "incident")).isdecimal() else "/"
        if not self._guard.holds(request, _field(form, guard.FIELD)):
            return await self._problem(request, 403, "Form out of date", "Open the page again and repeat.", back)
        if _field(form, "decision") not in ("approve", "deny"):
            return await self._problem(request, 400, "Not decided", "Choose approve or deny.", back)
        decision = Decision(
            approve=_field(form, "decision") == "approve",
            by=_field(form, "by"),
            body_sha256=_field(form, "body_sha256"),
            reason=_field(form, "reason"),
        )
        try:
            await self._decide(request.match_info["command"], decision)
        except ValueError as error:
            return await self._problem(request, 400, "Not decided", str(error), back)
        except DecisionRefusedError as error:
            return await self._problem(request, 409, "Not decided", str(error), back)
        return _see(back)

    async def _operator_form(self, request: web.Request) -> web.Response:
        form = await request.post()
        back = f"/incidents/{int(request.match_info['id'])}"
        if not self._guard.holds(request, _field(form, guard.FIELD)):
            return await self._problem(request, 403, "Form out of date", "Open the page again and repeat.", back)
        try:
            into = _field(form, "into")
            if into and not into.isdecimal():
                raise ValueError("the incident to merge into is a number")
            await self._operator(request, Said(_field(form, "by"), _field(form, "text"), int(into) if into else None))
        except ValueError as error:
            return await self._problem(request, 400, "Not done", str(error), back)
        except OperatorRefusedError as error:
            return await self._problem(request, 409, "Not done", str(error), back)
        return _see(back)

    async def _pause_form(self, request: web.Request) -> web.Response:
        form = await request.post()
        if not self._guard.holds(request, _field(form, guard.FIELD)):
            return await self._problem(request, 403, "Form out of date", "Open the page again and repeat.")
        try:
            await self._set_pause(request.path == "/pause", _field(form, "by"))
        except ValueError as error:
            return await self._problem(request, 400, "Not done", str(error))
        return _see("/")

    async def _page(self, request: web.Request, template: str, status: int = 200, **values: object) -> web.Response:
        session = self._guard.session(request)
        pause = await self._store.pause()
        html = self._templates.get_template(template).render(
            now_ms=self._now_ms(), pause=pause, csrf=self._guard.token(session), **values
        )
        response = web.Response(text=html, content_type="text/html", status=status)
        guard.set_session(response, session, secure=self._secure)
        return response

    async def _problem(
        self, request: web.Request, status: int, title: str, reason: str, back: str = "/"
    ) -> web.Response:
        return await self._page(request, "problem.html", status, title=title, reason=reason, back=back)

    # JSON API

    async def _api_incidents(self, request: web.Request) -> web.Response:
        open_only = request.query.get("open", "false")
        limit = request.query.get("limit", "100")
        if (
            open_only not in ("true", "false")
            or not re.fullmatch(r"\d{1,3}", limit)
            or not 1 <= int(limit) <= _LIST_MAX
        ):
            raise web.HTTPBadRequest(text=f"open is true or false, limit is 1 to {_LIST_MAX}")
        return _json(await self._store.incidents(open_only=open_only == "true", limit=int(limit)))

    async def _api_incident(self, request: web.Request) -> web.Response:
        number = int(request.match_info["id"])
        detail = await self._store.incident(number)
        if detail is None:
            raise web.HTTPNotFound(text=f"there is no incident {number}")
        return _json(detail)

    async def _api_alerts(self, _: web.Request) -> web.Response:
        try:
            return _json(await self._alerts_now())
        except Exception as error:  # the caller is told the reason, whatever it is
            raise web.HTTPServiceUnavailable(text=f"alerts are not known: {error}") from error

    async def _api_approvals(self, _: web.Request) -> web.Response:
        return _json(await self._store.approvals())

    async def _api_pause_state(self, _: web.Request) -> web.Response:
        return _json(await self._store.pause())

    async def _api_decide(self, request: web.Request) -> web.Response:
        decision = await _body(request, Decision)
        try:
            decided = await self._decide(request.match_info["command"], decision)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except DecisionRefusedError as error:
            raise web.HTTPConflict(text=str(error)) from error
        answer = {"decided": decided.state, "by": decision.by.strip()}
        return _json({**answer, "so_far": decided.so_far} if decided.state == "waiting" else answer)

    async def _api_operator(self, request: web.Request) -> web.Response:
        body = await _body(request, Said)
        try:
            await self._operator(request, body)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except OperatorRefusedError as error:
            raise web.HTTPConflict(text=str(error)) from error
        return _json({"noted": request.match_info["kind"], "by": body.by.strip()})

    async def _api_pause(self, request: web.Request) -> web.Response:
        body = await _body(request, ByName)
        try:
            pause = await self._set_pause(request.path == "/api/pause", body.by)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return _json(pause)

    # what both do

    async def _decide(self, command: str, decision: Decision) -> Approval:
        named = msgspec.structs.replace(decision, by=_name(decision.by), reason=decision.reason.strip()[:_REASON_MAX])
        decided = await self._store.decide(command, named, self._now_ms())
        log.info("console.decided", command=command, approve=named.approve, by=named.by)
        return decided

    async def _operator(self, request: web.Request, said: Said) -> None:
        number, kind = int(request.match_info["id"]), msgspec.convert(request.match_info["kind"], OperatorKind)
        meant = Said(_name(said.by), said.text.strip()[:_REASON_MAX], said.into if kind == "merge" else None)
        if kind in _NEEDS_TEXT and not meant.text:
            raise ValueError(_NEEDS_TEXT[kind])
        if kind == "merge" and meant.into is None:
            raise ValueError("say which incident it is merged into")
        await self._store.operator(number, kind, meant, self._now_ms())
        log.info("console.noted", incident=number, kind=kind, by=meant.by)

    async def _set_pause(self, paused: bool, by: str) -> Pause:
        await self._store.set_pause(paused=paused, by=_name(by), now_ms=self._now_ms())
        log.warning("console.paused" if paused else "console.resumed", by=by)
        return await self._store.pause()


def _by_urgency(incident: Incident) -> tuple[str, int]:
    return incident.priority, incident.opened_ms


def _name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > _NAME_MAX or not name.isprintable():
        raise ValueError(f"a decision needs your name: 1 to {_NAME_MAX} printable characters")
    return name


def _field(form: MultiMapping[object], name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _see(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


async def _body(request: web.Request, kind: type[T]) -> T:
    # A form of another site cannot have this type without the browser asking us first, which we never allow.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="the body must be application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f"the body is not what is expected: {error}") from error


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _plain_error(is_api: bool, status: int, reason: str) -> web.Response:
    if is_api:
        return web.json_response({"error": reason}, status=status)
    return web.Response(text=reason, status=status)
