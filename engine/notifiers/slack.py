"""Slack: one thread for each incident in the receiver's channel, with buttons under a command that waits for a person.

The first message to a channel begins the thread; what calls people is shown in the channel as well. The buttons carry
the command's id and the hash of exactly what is shown above them; `engine.edge.notify_hooks` takes what they send. Once
somebody has decided, the message loses its buttons.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from engine.edge.settings_notify import SlackReceiver
from engine.notifiers import CALLS, Environment, Held, Message, NotDeliveredError, Notifier, Sent
from engine.notifiers._http import tls
from engine.sinks.retry import retry_after_ms

APPROVE, DENY = "sentinel_approve", "sentinel_deny"
SECTION_CHARACTERS, CONFIRM_CHARACTERS, TEXT_CHARACTERS = 3_000, 300, 4_000
_MESSAGE_GONE = ("message_not_found", "cant_update_message", "thread_not_found")
# Errors of the service or of the moment; every other one means that it will never take this message.
_LATER = frozenset({"ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"})


def client_of(env: Environment) -> AsyncWebClient:
    """The Web API's client. It does not try again by itself: that is the outbox's business."""
    settings = env.settings.slack
    return AsyncWebClient(
        token=env.secret(settings, "token"),
        base_url=settings.url,
        ssl=tls(settings.ca_file),
        timeout=round(env.settings.timeout_s),
        retry_handlers=[],
    )


async def call(env: Environment, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a method of the Web API; `NotDeliveredError` with Slack's own word for what is wrong."""
    try:
        response = await client_of(env).api_call(method, json=arguments)
    except SlackApiError as error:
        answer = error.response
        word = str(answer.get("error", "")) if isinstance(answer.data, dict) else ""
        asked_ms = retry_after_ms(str(answer.headers.get("Retry-After", "")), env.now_ms())
        final = answer.status_code < 429 and word not in _LATER
        said = f"{method}: {word or 'no reason given'} (HTTP {answer.status_code})"
        raise NotDeliveredError(said, final=final, asked_ms=asked_ms) from error
    except (TimeoutError, aiohttp.ClientError, SlackClientError) as error:
        raise NotDeliveredError(f"{method}: {type(error).__name__}: {error}") from error
    data = response.data
    return dict(data) if isinstance(data, dict) else {}


async def deliver(
    env: Environment, receiver: SlackReceiver, message: Message, thread: Sequence[Sent]
) -> dict[str, Any]:
    """Post the message, below the incident's first one. The receipt has its `channel` and `ts`."""
    own = [sent for sent in thread if sent.receipt.get("channel") == receiver.channel and sent.receipt.get("ts")]
    if message.kind == "decided":
        await _take_buttons_away(env, message, own)
    body = content(message, is_first=not own) | {"channel": receiver.channel}
    if own:
        body |= {"thread_ts": own[0].receipt.get("root") or own[0].receipt["ts"]}
        body |= {"reply_broadcast": True} if message.kind in CALLS else {}
    answer = await call(env, "chat.postMessage", body)
    receipt = {"channel": str(answer["channel"]), "ts": str(answer["ts"])}
    return receipt | ({"root": body["thread_ts"]} if own else {})


async def _take_buttons_away(env: Environment, message: Message, own: Sequence[Sent]) -> None:
    for sent in own:
        if message.held is None or (sent.kind, sent.command) != ("held", message.held.command):
            continue
        blocks = [_section(f"{_escaped(message.held.what)}\n*{_escaped(message.text)}*")]
        arguments = {
            "channel": sent.receipt["channel"],
            "ts": sent.receipt["ts"],
            "text": message.text,
            "blocks": blocks,
        }
        try:
            await call(env, "chat.update", arguments)
        except NotDeliveredError as error:
            if not any(word in str(error) for word in _MESSAGE_GONE):
                raise


def content(message: Message, *, is_first: bool) -> dict[str, Any]:
    """Text and blocks of a message; the first of an incident also says what the incident is."""
    incident = message.incident
    head = f"[{incident.priority}] Incident {incident.id}: {incident.title}"
    text = head if message.kind == "opened" else f"{head}: {message.text}"
    blocks = []
    if is_first:
        linked = f"<{incident.url}|Incident {incident.id}>" if incident.url else f"Incident {incident.id}"
        blocks.append(_section(f"*[{incident.priority}] {linked}: {_escaped(incident.title)}*"))
    if message.kind != "opened" or not is_first:
        blocks.append(_section(f"{_MARKS.get(message.kind, '')}{_escaped(message.text)}"))
    if message.held is not None and message.kind == "held":
        blocks += _question(message.held)
    if is_first:
        labels = " ".join(f"{name}={value}" for name, value in sorted(incident.labels.items()))
        told = f"{incident.severity} · runbook {incident.runbook} · {labels}"
        blocks.append({"type": "context", "elements": [_plain(told, SECTION_CHARACTERS)]})
    return {
        "text": _escaped(text)[:TEXT_CHARACTERS],
        "blocks": blocks,
        "unfurl_links": False,
        "metadata": {"event_type": "sentinel_notice", "event_payload": {"notice": message.id, "incident": message.key}},
    }


_MARKS = {
    "escalate": ":rotating_light: ",
    "held": ":raised_hand: ",
    "acknowledged": ":eyes: ",
    "resolved": ":white_check_mark: ",
}


def _question(held: Held) -> list[dict[str, Any]]:
    """The whole command and its buttons. What cannot be shown whole cannot be decided here."""
    if not held.is_open:
        return [_section("This is no longer to be decided.")]
    if len(held.what) > SECTION_CHARACTERS:
        return [_section("The command is too long to be shown here whole: decide about it in the console.")]
    value = json.dumps({"command": held.command, "sha256": held.sha256})
    who = f"{held.people} people must agree, " if held.people > 1 else ""
    until = datetime.fromtimestamp(held.expires_ms / 1000, UTC).strftime("%H:%M:%S UTC")
    return [
        {"type": "section", "text": _plain(held.what, SECTION_CHARACTERS)},
        {
            "type": "actions",
            "elements": [
                _button("Approve", APPROVE, value, "primary") | {"confirm": _confirm(held.what)},
                _button("Deny", DENY, value, "danger"),
            ],
        },
        {"type": "context", "elements": [_plain(f"until {until}, {who}sha256 {held.sha256}", SECTION_CHARACTERS)]},
    ]


def _button(text: str, action: str, value: str, style: str) -> dict[str, Any]:
    return {"type": "button", "text": _plain(text, 75), "action_id": action, "value": value, "style": style}


def _confirm(text: str) -> dict[str, Any]:
    return {
        "title": _plain("Approve this command?", 100),
        "text": _plain(text, CONFIRM_CHARACTERS),
        "confirm": _plain("Approve", 30),
        "deny": _plain("Back", 30),
    }


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:SECTION_CHARACTERS]}}


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": text[:most], "emoji": False}


def _escaped(text: str) -> str:
    """Text from outside as Slack shows it literally: without this a label could mention a whole channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


NOTIFIER = Notifier(
    name="slack",
    receiver=SlackReceiver,
    kinds=frozenset({"opened", "notify", "escalate", "held", "decided", "acknowledged", "resolved"}),
    deliver=deliver,
)
