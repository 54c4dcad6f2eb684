"""openclaw: the chat gateway. Long-lived websockets in, every message put to aureus-os for a decision.

It closes no silent connection by itself, only reports it (`connection_timeout`): that is what lets a leak grow until
somebody sets a limit or restarts it.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from prometheus_client import Counter, Gauge

from examples.aureus.connections import CHANNELS, Connection, ConnectionTable
from examples.aureus.service import Kit, read_body

MESSAGE_BYTES_MAX = 16 * 1024
CLOSE_TIMEOUT_S = 1.0
DECIDE_TIMEOUT_S = 2.0
SWEEP_INTERVAL_S = 1.0

Chat = web.WebSocketResponse


class Message(msgspec.Struct, frozen=True):
    """What a client sends over its websocket."""

    action: str


class Block(msgspec.Struct, frozen=True):
    """Body of a blocklist call."""

    user_id: str
    reason: str = ""


class Limits(msgspec.Struct, frozen=True):
    """Body of a limits call; null takes the limit away."""

    max_connections_per_channel: int | None


class OpenClaw:
    """The service's state: the connection table, and whether it is restarting."""

    def __init__(self, kit: Kit, decide_url: str, stale_after_s: float) -> None:
        self.kit = kit
        self._decide_url = decide_url
        self._table: ConnectionTable[Chat] = ConnectionTable(stale_after_s=stale_after_s)
        self._restarting = False
        self._tasks: set[asyncio.Task[None]] = set()
        registry, labels = kit.registry, ["channel"]
        self._active = Gauge("openclaw_active_connections", "Open chats.", labels, registry=registry)
        self._opened = Counter("openclaw_connections_opened", "Chats opened.", labels, registry=registry)
        self._closed = Counter("openclaw_connections_closed", "Chats closed.", labels, registry=registry)
        self._opened_count = dict.fromkeys(CHANNELS, 0)
        for channel in CHANNELS:
            self._active.labels(channel).set_function(partial(self._table.active, channel))
            self._opened.labels(channel)  # a counter that starts at 0 shows its first increase
            self._closed.labels(channel)

    def routes(self) -> list[web.RouteDef]:
        """Chats for everyone, blocklist, limits, connections and restart for administrators."""
        return [
            web.get("/ws/{channel}", self.chat),
            web.post("/api/admin/blocklist", self.block),
            web.get("/api/admin/blocklist", self.show_blocklist),
            web.post("/api/admin/limits", self.set_limits),
            web.get("/api/admin/limits", self.show_limits),
            web.post("/api/admin/restart", self.restart),
            web.get("/api/admin/connections", self.show_connections),
        ]

    def unhealthy(self) -> str:
        """A gateway that is restarting takes no chats."""
        return "restarting" if self._restarting else ""

    async def run(self) -> None:
        """Report connections that have fallen silent."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.report_stale(time.monotonic())

    async def stop(self) -> None:
        """Close every chat."""
        self._restarting = True
        await self._close(self._table.everyone(), WSCloseCode.GOING_AWAY)

    def report_stale(self, now_s: float) -> None:
        """Log each silent connection once per silence."""
        for connection in self._table.stale(now_s):
            if not connection.reported_stale:
                connection.reported_stale = True
                self.kit.log("warning", "connection_timeout", channel=connection.channel, user=connection.user)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """A websocket: the client sends `{"action": ...}`, each is answered with the decision."""
        channel, user = request.match_info["channel"], request.query.get("user", "")
        self._refuse_unwelcome(channel, user)
        chat = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S, autoping=False, compress=False, max_msg_size=MESSAGE_BYTES_MAX
        )
        connection = Connection(chat, channel, user, time.monotonic())
        self._table.add(connection)  # before the handshake is awaited, so that a burst cannot pass the limit
        self._opened.labels(channel).inc()
        self._opened_count[channel] += 1
        self.kit.log("info", "connection_opened", channel=channel, user=user)
        try:
            await chat.prepare(request)
            if user in self._table.blocked or self._restarting:  # since the handshake began: nobody closed it
                await chat.close(code=WSCloseCode.POLICY_VIOLATION)
            await self._converse(connection)
        except ConnectionResetError:
            if not chat.prepared:  # the client went away before the handshake: there is no chat to hand back
                return web.Response(status=HTTPStatus.REQUEST_TIMEOUT)
            # Otherwise it went away in the middle of an answer: a chat that ended like any other.
        finally:
            self._table.remove(chat)
            self._closed.labels(channel).inc()
            self.kit.log("info", "connection_closed", channel=channel, user=user)
        return chat

    def _refuse_unwelcome(self, channel: str, user: str) -> None:
        if channel not in CHANNELS:
            raise web.HTTPNotFound(text=f"no channel {channel!r}; there are {', '.join(CHANNELS)}")
        if not user:
            raise web.HTTPBadRequest(text="the query parameter 'user' is missing")
        if user in self._table.blocked:
            self.kit.log("warning", "user_rejected", user=user, channel=channel)
            raise web.HTTPForbidden(text="user is blocked")
        if self._restarting:
            raise web.HTTPServiceUnavailable(text="restarting", headers={"Retry-After": "1"})
        if self._table.full(channel):
            self.kit.log("warning", "connection_refused", user=user, channel=channel, limit=self._table.limit)
            raise web.HTTPServiceUnavailable(text="channel is full", headers={"Retry-After": "5"})

    async def _converse(self, connection: Connection[Chat]) -> None:
        chat = connection.handle
        while True:
            message = await chat.receive()
            connection.last_seen_s = time.monotonic()
            connection.reported_stale = False
            if message.type is WSMsgType.PING:
                await chat.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await chat.send_str(await self._decide(connection, message.data))
            elif message.type is not WSMsgType.PONG:
                return

    async def _decide(self, connection: Connection[Chat], text: str) -> str:
        try:
            action = msgspec.json.decode(text, type=Message).action
        except msgspec.MsgspecError as error:
            return msgspec.json.encode({"decision": "error", "reason": f"message: {error}"}).decode()
        question = {"user": connection.user, "channel": connection.channel, "action": action}
        timeout = aiohttp.ClientTimeout(total=DECIDE_TIMEOUT_S)
        self.kit.requests.inc()  # a message is what a gateway answers; the handshake alone is not
        started = time.perf_counter()
        try:
            async with self.kit.session.post(self._decide_url, json=question, timeout=timeout) as response:
                response.raise_for_status()
                return await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.kit.errors.inc()
            self.kit.log("error", "decide_failed", channel=connection.channel, error=repr(error))
            return msgspec.json.encode({"decision": "error", "reason": "no decision"}).decode()
        finally:
            self.kit.duration.observe(time.perf_counter() - started)

    async def block(self, request: web.Request) -> web.Response:
        """Refuse a user from now on and close what they have open."""
        asked = await read_body(request, Block)
        if not asked.user_id:
            raise web.HTTPBadRequest(text="body: user_id is empty")
        self._table.blocked[asked.user_id] = asked.reason
        self.kit.log("warning", "user_blocked", user=asked.user_id, reason=asked.reason)
        theirs = self._table.of_user(asked.user_id)
        await self._close(theirs, WSCloseCode.POLICY_VIOLATION)
        return web.json_response({"user_id": asked.user_id, "closed": len(theirs)}, status=201)

    async def show_blocklist(self, _: web.Request) -> web.Response:
        """Who is refused."""
        return web.json_response({"blocked": sorted(self._table.blocked)})

    async def set_limits(self, request: web.Request) -> web.Response:
        """Limit each channel: more are refused from now on, and those beyond are closed, longest silent first."""
        limit = (await read_body(request, Limits)).max_connections_per_channel
        if limit is not None and limit < 1:
            raise web.HTTPBadRequest(text="body: max_connections_per_channel must be 1 or more, or null")
        self._table.limit = limit
        surplus = self._table.beyond_limit()
        self.kit.log("warning", "limits_changed", max_connections_per_channel=limit, reaped=len(surplus))
        await self._close(surplus, WSCloseCode.TRY_AGAIN_LATER)
        return web.json_response({"max_connections_per_channel": limit, "reaped": len(surplus)})

    async def show_limits(self, _: web.Request) -> web.Response:
        """The limit in force."""
        return web.json_response({"max_connections_per_channel": self._table.limit})

    async def restart(self, _: web.Request) -> web.Response:
        """Close every connection; new ones are refused until that is done. Blocklist and limit stay."""
        open_now = self._table.everyone()
        if not self._restarting:
            self._restarting = True
            task = asyncio.create_task(self._finish_restart(open_now))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.json_response({"closing": len(open_now)}, status=202)

    async def _finish_restart(self, open_now: list[Connection[Chat]]) -> None:
        await self._close(open_now, WSCloseCode.SERVICE_RESTART)
        self.kit.log("warning", "restarted", closed=len(open_now))
        self._restarting = False

    async def show_connections(self, _: web.Request) -> web.Response:
        """Per channel: active, opened and closed since the start, and how many look leaked."""
        leaked = dict.fromkeys(CHANNELS, 0)
        for connection in self._table.stale(time.monotonic()):
            leaked[connection.channel] += 1
        channels = {
            channel: {
                "active": self._table.active(channel),
                "opened": self._opened_count[channel],
                "closed": self._opened_count[channel] - self._table.active(channel),
                "leaked": leaked[channel],
            }
            for channel in CHANNELS
        }
        return web.json_response({"active": len(self._table), "channels": channels})

    async def _close(self, connections: list[Connection[Chat]], code: WSCloseCode) -> None:
        """Close chats side by side; their handlers take them off the table as they end."""
        closing = (c.handle.close(code=code) for c in connections if c.handle.prepared)
        await asyncio.gather(*closing, return_exceptions=True)
