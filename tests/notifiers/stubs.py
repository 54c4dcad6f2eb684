"""PagerDuty, Slack and Alertmanager on loopback HTTPS, as strict as the real ones document themselves, and real SMTP.

    async with running(PagerDutyStub(), make_tls(tmp_path)) as pagerduty:
        ...  settings: notify.pagerduty.url = pagerduty.url, notify.pagerduty.ca_file = tls.ca_file

A body that breaks the documented schema is answered as the service answers it, and kept in `problems`: a test that
uses a stub ends with `assert not stub.problems`. `outage` holds answers to give instead of the next ones.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, TypeVar
from urllib.parse import urlencode

from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.notifiers import schemas
from tests.notifiers.tls import Tls

ROUTING_KEY = "0123456789abcdef0123456789abcdef"
SLACK_TOKEN = "xoxb-test-token"
SLACK_SECRET = "slack-signing-secret"
PAGERDUTY_SECRET = "pagerduty-webhook-secret"


@dataclass
class Stub:
    """What all have: where it listens, what was wrong with what came, and answers to give instead."""

    url: str = ""
    problems: list[str] = field(default_factory=list)
    outage: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: int = 0

    def app(self) -> web.Application:
        """The service."""
        app = web.Application(middlewares=[self._count])
        app.add_routes(self.routes())
        return app

    def routes(self) -> list[web.RouteDef]:
        """Its routes."""
        raise NotImplementedError

    def go_away(self, times: int = 1, status: int = 503, **headers: str) -> None:
        """Answer the next requests with a status, and headers such as `Retry_After`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.outage += [(status, named)] * times

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests += 1
        if self.outage:
            status, headers = self.outage.pop(0)
            return web.json_response({"error": "not now"}, status=status, headers=headers)
        response: web.StreamResponse = await handler(request)
        return response


@dataclass
class PagerDutyStub(Stub):
    """`events` as they came; `alerts` is how each dedup key stands: triggered, acknowledged, resolved."""

    events: list[dict[str, Any]] = field(default_factory=list)
    alerts: dict[str, str] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """Events API v2."""
        return [web.post("/v2/enqueue", self._enqueue)]

    async def _enqueue(self, request: web.Request) -> web.Response:
        event = await request.json()
        problems = schemas.pagerduty_event(event)
        if event.get("routing_key") != ROUTING_KEY:
            problems.append("no service has this routing_key")
        if problems:
            self.problems += problems
            body = {"status": "invalid event", "message": "Event object is invalid", "errors": problems}
            return web.json_response(body, status=400)
        self.events.append(event)
        key, action = event.get("dedup_key") or f"made-{len(self.events)}", event["event_action"]
        self._apply(key, action)
        body = {"status": "success", "message": "Event processed", "dedup_key": key}
        return web.json_response(body, status=202)

    def _apply(self, key: str, action: str) -> None:
        now = self.alerts.get(key)
        if action == "trigger" and now in (None, "resolved"):
            self.alerts[key] = "triggered"
        elif action == "acknowledge" and now == "triggered":
            self.alerts[key] = "acknowledged"
        elif action == "resolve" and now is not None:
            self.alerts[key] = "resolved"

    def actions(self) -> list[str]:
        """What was done, in its order."""
        return [event["event_action"] for event in self.events]


def pagerduty_webhook(
    event_type: str, dedup_key: str, *, agent: str = "Ada Lovelace", event: str = "E1", secret: str = PAGERDUTY_SECRET
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a v3 webhook, signed: HMAC-SHA256 of the body, in hexadecimal, after `v1=`."""
    body = json.dumps(
        {
            "event": {
                "id": event,
                "event_type": event_type,
                "resource_type": "incident",
                "occurred_at": "2026-01-31T12:00:00.000Z",
                "agent": {"id": "PXPGF42", "type": "user_reference", "summary": agent},
                "client": None,
                "data": {"id": "PT4KHLK", "type": "incident", "status": "acknowledged", "incident_key": dedup_key},
            }
        }
    ).encode()
    mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {"Content-Type": "application/json", "X-PagerDuty-Signature": f"v1={mark}"}


@dataclass
class SlackStub(Stub):
    """`messages` by (channel, ts), as they read now; `posted` in their order; `whispers` are the ephemeral ones."""

    messages: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)
    whispers: list[dict[str, Any]] = field(default_factory=list)
    channels: set[str] = field(default_factory=lambda: {"C0OPS", "C0SECURITY"})
    _ts: Iterator[int] = field(default_factory=lambda: itertools.count(1_800_000_000))

    def routes(self) -> list[web.RouteDef]:
        """Web API methods; `url` ends with /api/ as Slack's does."""
        return [
            web.post("/api/chat.postMessage", self._post),
            web.post("/api/chat.update", self._update),
            web.post("/api/chat.postEphemeral", self._whisper),
        ]

    async def _post(self, request: web.Request) -> web.Response:
        message, error = await self._read(request)
        root = message.get("thread_ts")
        if not error and root is not None and (message["channel"], root) not in self.messages:
            error = "thread_not_found"
        if error:
            return self._refuse(error)
        ts = f"{next(self._ts)}.000100"
        self.messages[message["channel"], ts] = message
        self.posted.append(message | {"ts": ts})
        return web.json_response({"ok": True, "channel": message["channel"], "ts": ts, "message": message})

    async def _update(self, request: web.Request) -> web.Response:
        message, error = await self._read(request)
        at = (message.get("channel", ""), message.get("ts", ""))
        if error or at not in self.messages:
            return self._refuse(error or "message_not_found")
        self.messages[at] |= message
        return web.json_response({"ok": True, "channel": at[0], "ts": at[1], "text": message["text"]})

    async def _whisper(self, request: web.Request) -> web.Response:
        message, error = await self._read(request)
        if error or not str(message.get("user", "")).startswith("U"):
            return self._refuse(error or "user_not_in_channel")
        self.whispers.append(message)
        return web.json_response({"ok": True, "message_ts": f"{next(self._ts)}.000100"})

    async def _read(self, request: web.Request) -> tuple[dict[str, Any], str]:
        message: dict[str, Any] = await request.json() if request.content_type == "application/json" else {}
        if request.headers.get("Authorization") != f"Bearer {SLACK_TOKEN}":
            return message, "invalid_auth"
        if message.get("channel") not in self.channels:
            return message, "channel_not_found"
        problems = schemas.slack_message(message)
        self.problems += problems
        return message, "invalid_blocks" if problems else ""

    def _refuse(self, error: str) -> web.Response:
        self.problems.append(error)
        return web.json_response({"ok": False, "error": error})

    def buttons(self, message: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The buttons of a message by their action_id."""
        found = [block["elements"] for block in message.get("blocks", []) if block["type"] == "actions"]
        return {button["action_id"]: button for elements in found for button in elements}


def slack_press(
    message: dict[str, Any], button: dict[str, Any], *, user: str, name: str, at_s: int, secret: str = SLACK_SECRET
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of what Slack sends when somebody presses a button: `block_actions`, signed `v0=`."""
    payload = {
        "type": "block_actions",
        "user": {"id": user, "username": name, "name": name, "team_id": "T0"},
        "api_app_id": "A0",
        "trigger_id": "1.2.3",
        "container": {"type": "message", "message_ts": message["ts"], "channel_id": message["channel"]},
        "channel": {"id": message["channel"], "name": "ops"},
        "message": {"ts": message["ts"], "thread_ts": message.get("thread_ts"), "text": message["text"]},
        "response_url": "https://hooks.slack.invalid/actions/T0/1/2",
        "actions": [
            {
                "type": "button",
                "action_id": button["action_id"],
                "block_id": "b",
                "value": button.get("value"),
                "text": button["text"],
                "action_ts": f"{at_s}.0001",
            }
        ],
    }
    return slack_signed(urlencode({"payload": json.dumps(payload)}).encode(), at_s, secret)


def slack_signed(body: bytes, at_s: int, secret: str = SLACK_SECRET) -> tuple[bytes, dict[str, str]]:
    """A body with Slack's headers: HMAC-SHA256 of `v0:TIME:BODY`, in hexadecimal, after `v0=`."""
    mark = hmac.new(secret.encode(), f"v0:{at_s}:".encode() + body, hashlib.sha256).hexdigest()
    return body, {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": str(at_s),
        "X-Slack-Signature": f"v0={mark}",
    }


@dataclass
class AlertmanagerStub(Stub):
    """`alerts` is every alert that came, in its order."""

    alerts: list[dict[str, Any]] = field(default_factory=list)

    def routes(self) -> list[web.RouteDef]:
        """The one path that alerts are posted to."""
        return [web.post("/api/v2/alerts", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        alerts = await request.json()
        problems = schemas.alertmanager_alerts(alerts)
        if problems:
            self.problems += problems
            return web.json_response(problems, status=400)
        self.alerts += alerts
        return web.Response()


Some = TypeVar("Some", bound=Stub)


@asynccontextmanager
async def running(stub: Some, tls: Tls | None = None, port: int = 0) -> AsyncIterator[Some]:
    """Serve a stub on loopback, over TLS if given; `stub.url` is where."""
    runner = web.AppRunner(stub.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls.context if tls else None)
    await site.start()
    bound = runner.addresses[0][1]
    path = "/api/" if isinstance(stub, SlackStub) else ""
    stub.url = f"{'https' if tls else 'http'}://127.0.0.1:{bound}{path}"
    try:
        yield stub
    finally:
        await runner.cleanup()


class Mailbox:
    """A real SMTP server's handler: keeps what it takes. `refuse` are answers to give to DATA instead, one each."""

    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.mails: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.was_encrypted: list[bool] = []
        self.users: list[str | None] = []
        self.refuse: list[str] = []

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        """Take a mail."""
        if self.refuse:
            return self.refuse.pop(0)
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.envelopes.append((envelope.mail_from or "", list(envelope.rcpt_tos)))
        self.was_encrypted.append(session.ssl is not None)
        auth = session.auth_data
        self.users.append(auth.login.decode() if isinstance(auth, LoginPassword) else None)
        return "250 OK"


@contextmanager
def mail_server(*, tls: Tls | None = None, login: tuple[str, str] | None = None) -> Iterator[Mailbox]:
    """aiosmtpd on a loopback port: with `tls` STARTTLS is required, with `login` so is that user and password."""
    mailbox = Mailbox()

    def authenticate(_: Any, __: Any, ___: Any, mechanism: str, data: Any) -> AuthResult:
        del mechanism
        given = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else None
        return AuthResult(success=login is not None and given == login, handled=False, auth_data=data)

    options: dict[str, Any] = {"tls_context": tls.context, "require_starttls": True} if tls else {}
    if login is not None:
        options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": tls is not None}
    controller = Controller(mailbox, hostname="127.0.0.1", port=_free_port(), **options)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:  # aiosmtpd cannot say which free port it took
        return int(server.getsockname()[1])
