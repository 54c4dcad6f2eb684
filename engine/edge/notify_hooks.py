"""What people answer from where they were told: Slack's buttons at `/hooks/slack`, PagerDuty at `/hooks/pagerduty`.

These two paths are called from outside, so they believe nothing that is not signed with a secret that both sides have.
Each request counts once; all that comes of it is written in one transaction. A path whose secret is not configured is
not served.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import parse_qs

import asyncpg
import msgspec
import structlog
from aiohttp import web
from msgspec import Struct
from slack_sdk.signature import Clock, SignatureVerifier

from engine.edge import approvals, audit, incidents
from engine.edge.database import Database
from engine.notifiers import Environment, NotDeliveredError
from engine.notifiers.slack import APPROVE, DENY, call
from engine.response.model import Operated

log = structlog.get_logger(__name__)

KEPT_MS = 24 * 3_600_000  # longer than a signed request of Slack is valid, and than PagerDuty repeats an event
_NAME_CHARACTERS = 80
_DECISIONS: dict[str, approvals.Decision] = {APPROVE: "approved", DENY: "denied"}
_TOLD = {
    "unknown": "No such command waits for approval.",
    "expired": "The approval has expired; nothing will be done.",
    "already_decided": "It was decided already.",
    "changed_command": "The command is not the one that was shown here; look at it in the console.",
    "same_person": "You have agreed already; a second person must agree too.",
    "first_of_two": "Noted: yours is the first yes of two. Nothing is done before another person agrees.",
    "not_an_approver": "You may not decide about commands: your Slack user is not in notify.slack.approvers.",
}


class _User(Struct, frozen=True):
    id: str
    name: str = ""
    username: str = ""


class _Channel(Struct, frozen=True):
    id: str


class _Button(Struct, frozen=True):
    action_id: str
    value: str | None = None


class _Interaction(Struct, frozen=True):
    """Slack's `block_actions`, as far as it is of use."""

    type: str
    user: _User
    actions: list[_Button] = []
    channel: _Channel | None = None
    container: dict[str, Any] = {}


class _Value(Struct, frozen=True, forbid_unknown_fields=True):
    """What a button of ours carries."""

    command: str
    sha256: str


class _Agent(Struct, frozen=True):
    summary: str | None = None
    id: str | None = None


class _Data(Struct, frozen=True):
    incident_key: str | None = None


class _Event(Struct, frozen=True):
    id: str
    event_type: str
    data: _Data = _Data()
    agent: _Agent | None = None


class _Webhook(Struct, frozen=True):
    """PagerDuty's webhook (v3), as far as it is of use."""

    event: _Event


class _At(Clock):
    """Our clock for the check of Slack's time stamp."""

    def __init__(self, now_ms: int) -> None:
        self._now_s = now_ms / 1000

    def now(self) -> float:
        """Seconds since 1970."""
        return self._now_s


class Hooks:
    """The two handlers."""

    def __init__(self, database: Database, env: Environment) -> None:
        self._database = database
        self._env = env
        self._whispers: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """The paths that have a secret."""
        settings = self._env.settings
        paths = []
        if settings.slack.has_signing_secret:
            paths.append(web.post("/hooks/slack", self._slack))
        if settings.pagerduty.has_webhook_secret:
            paths.append(web.post("/hooks/pagerduty", self._pagerduty))
        return paths

    # Slack

    async def _slack(self, request: web.Request) -> web.Response:
        body = await request.read()
        mark = request.headers.get("X-Slack-Signature", "")
        secret = self._secret("slack", "signing_secret")
        at = request.headers.get("X-Slack-Request-Timestamp", "")
        if not is_of_slack(body, at, mark, secret=secret, now_ms=self._env.now_ms()):
            return _refuse(request, "the signature does not hold, or is older than five minutes")
        try:
            sent = msgspec.json.decode(parse_qs(body.decode())["payload"][0], type=_Interaction)
        except (KeyError, UnicodeDecodeError, msgspec.DecodeError) as error:
            return _refuse(request, f"the body is no interaction: {error}", 400)
        pressed = next((button for button in sent.actions if button.action_id in _DECISIONS), None)
        if sent.type != "block_actions" or pressed is None:
            return web.Response()  # not of ours: a link, or another version's button
        try:
            value = msgspec.json.decode(pressed.value or "", type=_Value)
        except msgspec.DecodeError as error:
            return _refuse(request, f"the button carries no command: {error}", 400)
        reason = await self._decide(mark, sent.user, _DECISIONS[pressed.action_id], value)
        if reason == "replayed":
            return _refuse(request, "the request was seen before")
        if reason in _TOLD:
            self._whisper(sent, _TOLD[reason])
        return web.Response()

    async def _decide(self, mark: str, user: _User, decision: approvals.Decision, value: _Value) -> str:
        """Take a decision; "accepted", "first_of_two" where another person must agree too, or why it does not count."""
        by, now_ms = _named("slack", user.id, user.name or user.username), self._env.now_ms()
        may = user.id in self._env.settings.slack.approvers

        async def work(conn: asyncpg.Connection) -> str:
            is_first = await _is_first(conn, f"slack:{mark}", now_ms)
            if is_first and may:
                decided = await approvals.decide(
                    conn, value.command, decision, by=by, now_ms=now_ms, seen_sha256=value.sha256
                )
                waits = decided.accepted and decided.approval is not None and decided.approval.state == "waiting"
                return "first_of_two" if waits else decided.reason
            reason: Literal["not_an_approver", "replayed"] = "not_an_approver" if is_first else "replayed"
            found = await approvals.find(conn, value.command)
            data: dict[str, object] = {"decision": decision, "reason": reason, "sha256": value.sha256}
            await audit.append(
                conn,
                at_ms=now_ms,
                actor=by,
                kind="approval.refused",
                incident=found.incident if found is not None else None,
                command=value.command,
                data=data,
            )
            return reason

        reason = await self._database.run(work)
        log.info("notify.decided", command=value.command, decision=decision, by=by, reason=reason)
        return reason

    def _whisper(self, sent: _Interaction, text: str) -> None:
        """Tell the one person, beside the answer: Slack waits three seconds for that."""
        if sent.channel is None:
            return
        arguments = {"channel": sent.channel.id, "user": sent.user.id, "text": text}
        if root := sent.container.get("thread_ts"):
            arguments["thread_ts"] = root
        task = asyncio.create_task(self._tell(arguments), name="whisper")
        self._whispers.add(task)
        task.add_done_callback(self._whispers.discard)

    async def _tell(self, arguments: dict[str, Any]) -> None:
        try:
            await call(self._env, "chat.postEphemeral", arguments)
        except NotDeliveredError as error:
            log.warning("notify.answer_failed", user=arguments["user"], reason=str(error))

    async def settled(self) -> None:
        """Wait until nobody is being told anything."""
        await asyncio.gather(*self._whispers)

    async def close(self) -> None:
        """Leave off what is still being told."""
        for task in self._whispers:
            task.cancel()
        await asyncio.gather(*self._whispers, return_exceptions=True)

    # PagerDuty

    async def _pagerduty(self, request: web.Request) -> web.Response:
        body = await request.read()
        marks = request.headers.get("X-PagerDuty-Signature", "").split(",")
        if not is_of_pagerduty(body, marks, secret=self._secret("pagerduty", "webhook_secret")):
            return _refuse(request, "the signature does not hold")
        try:
            event = msgspec.json.decode(body, type=_Webhook).event
        except msgspec.DecodeError as error:
            return _refuse(request, f"the body is no webhook: {error}", 400)
        if event.event_type == "incident.acknowledged" and event.data.incident_key:
            await self._acknowledge(event, event.data.incident_key)
        return web.Response()

    async def _acknowledge(self, event: _Event, dedup_key: str) -> None:
        now_ms = self._env.now_ms()
        agent = event.agent or _Agent()
        by = _named("pagerduty", agent.id or "", agent.summary or "somebody")

        async def work(conn: asyncpg.Connection) -> str | None:
            query = "select incident from deliveries where receipt is not null and receipt->>'dedup_key' = $1 limit 1"
            incident = await conn.fetchval(query, dedup_key)
            if incident is None or not await _is_first(conn, f"pagerduty:{event.id}", now_ms):
                return None
            return await incidents.operate(conn, incident, Operated("acknowledge", by), now_ms)

        status = await self._database.run(work)
        log.info("notify.acknowledged", key=dedup_key, by=by, incident_is=status or "unknown, or acknowledged before")

    def _secret(self, channel: Literal["slack", "pagerduty"], name: str) -> str:
        try:
            return self._env.secret(getattr(self._env.settings, channel), name)
        except NotDeliveredError as error:
            log.warning("notify.secret_missing", channel=channel, reason=str(error))
            return ""


def is_of_slack(body: bytes, at: str, mark: str, *, secret: str, now_ms: int) -> bool:
    """Whether a request was signed by Slack, less than five minutes ago: `v0=` and HMAC-SHA256 of `v0:TIME:BODY`."""
    if not (secret and at.isascii() and at.isdecimal() and mark.isascii()):
        return False
    try:
        return SignatureVerifier(secret, _At(now_ms)).is_valid(body, at, mark)
    except UnicodeDecodeError:  # it signs text
        return False


def is_of_pagerduty(body: bytes, marks: Sequence[str], *, secret: str) -> bool:
    """Whether one of the signatures holds: `v1=` and HMAC-SHA256 of the body (two while a secret is changed)."""
    if not secret:
        return False
    wanted = f"v1={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}".encode()
    return any(hmac.compare_digest(wanted, mark.strip().encode()) for mark in marks)


async def _is_first(conn: asyncpg.Connection, event: str, now_ms: int) -> bool:
    """Note a request; whether it had not been seen before."""
    await conn.execute("delete from hook_events where at_ms < $1", now_ms - KEPT_MS)
    query = "insert into hook_events (id, at_ms) values ($1, $2) on conflict do nothing returning 1"
    return await conn.fetchval(query, event, now_ms) is not None


def _named(service: str, number: str, name: str) -> str:
    """A person of another service as the audit has them: `slack:U0123 (ada)`."""
    shown = "".join(sign for sign in name if sign.isprintable())[:_NAME_CHARACTERS]
    return f"{service}:{number} ({shown})" if number else f"{service}:{shown}"


def _refuse(request: web.Request, reason: str, status: int = 403) -> web.Response:
    log.warning("notify.refused", path=request.path, remote=request.remote, reason=reason)
    return web.Response(status=status, text=reason)
