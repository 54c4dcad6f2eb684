"""Takes alerts that others raise (`POST /api/v2/alerts`) and puts what is new about them on the topic `alerts`.

What an alert means is decided by `connectors._alertmanager`. Only what the broker has counts as told, and a post is
answered after that. Posts and expiries go one after the other, so that each sees what the last one left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiohttp import web
from prometheus_client import Counter

from connectors import DecodeError
from connectors._alertmanager import PATH, Board, Change, decode
from engine.core.messages import encode
from engine.edge.publisher import ConnectorMetrics, Send
from engine.edge.settings_sources import AlertmanagerReceiver
from engine.flow import ALERTS

_log = structlog.get_logger(__name__)
_RETRY_AFTER_S = "5"
_REMEMBER_MS = 86_400_000
_NAME = "alertmanager"


class AlertReceiver:
    """The receiver of this process. `send` puts a message on a topic and waits for the broker."""

    def __init__(
        self,
        settings: AlertmanagerReceiver,
        send: Send,
        now_ms: Callable[[], int],
        metrics: ConnectorMetrics,
        transitions: Counter,
    ) -> None:
        self._settings = settings
        self._send = send
        self._now_ms = now_ms
        self._metrics = metrics
        self._transitions = transitions
        self._board = Board(settings.window_ms)
        self._turn = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """The one route."""
        return [web.post(PATH, self._post)]

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """End alerts whose sender has fallen silent, until cancelled."""
        while True:
            await self.expire_once()
            await sleep(1)

    async def expire_once(self) -> bool:
        """End what has expired by now; whether the broker has it. What it has not is tried again the next time."""
        async with self._turn:
            now_ms = self._now_ms()
            self._board.forget(now_ms - _REMEMBER_MS)
            return await self._tell(self._board.expired(now_ms))

    async def _post(self, request: web.Request) -> web.Response:
        response = await self._receive(await request.read())
        self._metrics.requests.labels(_NAME, str(response.status)).inc()
        return response

    async def _receive(self, body: bytes) -> web.Response:
        now_ms = self._now_ms()
        try:
            alerts, problems = decode(body, now_ms, round(self._settings.resolve_timeout_s * 1_000))
        except DecodeError as error:
            return web.json_response(str(error), status=error.status)
        async with self._turn:
            for alert in alerts:  # one at a time: a post may hold an alert twice
                if not await self._tell([self._board.change(alert, now_ms)]):
                    headers = {"Retry-After": _RETRY_AFTER_S}
                    return web.json_response("the broker does not take alerts now", status=503, headers=headers)
        if problems:
            self._metrics.drop({"invalid_alert": len(problems)})
            return web.json_response("; ".join(problems), status=400)
        return web.Response(status=200)

    async def _tell(self, changes: Iterable[Change]) -> bool:
        for change in changes:
            if (one := change.transition) is not None:
                try:
                    await self._send(ALERTS.name, one.fingerprint.encode(), encode(one))
                except Exception as error:  # whatever the broker's client raises; the sender says it again
                    _log.warning("alert_lost", labels=one.labels, state=one.state, error=str(error))
                    return False
                self._transitions.labels(one.rule, one.state).inc()
                _log.info("alert." + one.state, rule=one.rule, labels=one.labels, at_ms=one.at_ms, cause=one.cause)
            self._board.keep(change)
        return True
