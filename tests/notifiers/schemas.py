"""What PagerDuty, Slack and Alertmanager document about the bodies they take: each function lists what is wrong.

Sources: PagerDuty's "Events API v2" (send an alert event), Slack's Block Kit reference and `chat.postMessage`,
Alertmanager's OpenAPI of `/api/v2/alerts`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

SEVERITIES = ("critical", "error", "warning", "info")
EVENT_BYTES = 512 * 1024
_EVENT = {"routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"}
_PAYLOAD = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}


def pagerduty_event(event: Any) -> list[str]:
    """What is wrong with an event for `POST /v2/enqueue`."""
    if not isinstance(event, dict):
        return ["the event is not an object"]
    found = [f"unknown field {name}" for name in event if name not in _EVENT]
    if len(json.dumps(event)) > EVENT_BYTES:
        found.append("the event is larger than 512 KB")
    if not _is_text(event.get("routing_key")) or len(event["routing_key"]) != 32:
        found.append("routing_key is not 32 characters")
    action, key = event.get("event_action"), event.get("dedup_key")
    if key is not None and (not _is_text(key) or len(key) > 255):
        found.append("dedup_key is not 1 to 255 characters")
    if action in ("acknowledge", "resolve"):
        return found if key is not None else [*found, f"{action} needs a dedup_key"]
    if action != "trigger":
        return [*found, f"event_action {action!r} is not trigger, acknowledge or resolve"]
    found += _links(event.get("links", []))
    found += [f"{name} is not text" for name in ("client", "client_url") if not _is_text(event.get(name, "-"))]
    return [*found, *_payload(event.get("payload"))]


def _payload(payload: Any) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield "trigger needs a payload"
        return
    yield from (f"unknown field payload.{name}" for name in payload if name not in _PAYLOAD)
    if not _is_text(payload.get("summary"), 1024):
        yield "payload.summary is not 1 to 1024 characters"
    if not _is_text(payload.get("source")):
        yield "payload.source is missing"
    if payload.get("severity") not in SEVERITIES:
        yield f"payload.severity {payload.get('severity')!r} is none of {', '.join(SEVERITIES)}"
    if "timestamp" in payload and not _is_time(payload["timestamp"]):
        yield "payload.timestamp is not ISO 8601"
    yield from (
        f"payload.{name} is not text"
        for name in ("component", "group", "class")
        if not _is_text(payload.get(name, "-"))
    )
    if not isinstance(payload.get("custom_details", {}), dict):
        yield "payload.custom_details is not an object"


def _links(links: Any) -> Iterator[str]:
    if not isinstance(links, list):
        yield "links is not a list"
        return
    for link in links:
        if not str(link.get("href", "")).startswith(("http://", "https://")):
            yield f"a link without href: {link}"


def slack_message(message: Mapping[str, Any]) -> list[str]:
    """What is wrong with the arguments of `chat.postMessage`, `chat.update` or `chat.postEphemeral`."""
    found = []
    if not _is_text(message.get("text"), 40_000):
        found.append("text is missing: it is what notifications and screen readers show")
    blocks = message.get("blocks", [])
    if not isinstance(blocks, list) or len(blocks) > 50:
        return [*found, "blocks is not a list of at most 50"]
    for i, block in enumerate(blocks):
        found += [f"blocks[{i}]: {problem}" for problem in _block(block)]
    metadata = message.get("metadata")
    if metadata is not None and not (
        _is_text(metadata.get("event_type")) and isinstance(metadata.get("event_payload"), dict)
    ):
        found.append("metadata needs event_type and event_payload")
    return found


def _block(block: Mapping[str, Any]) -> Iterator[str]:
    kind = block.get("type")
    if not _is_text(block.get("block_id", "-"), 255):
        yield "block_id is longer than 255"
    if kind == "section":
        yield from _section(block)
    elif kind == "header":
        yield from _text(block.get("text"), 150, plain=True)
    elif kind == "context":
        if not 1 <= len(block.get("elements", [])) <= 10:
            yield "a context has 1 to 10 elements"
        for one in block.get("elements", []):
            yield from _text(one, 3000)
    elif kind == "actions":
        yield from _actions(block.get("elements", []))
    elif kind != "divider":
        yield f"unknown type of block {kind!r}"


def _section(block: Mapping[str, Any]) -> Iterator[str]:
    if "text" not in block and "fields" not in block:
        yield "a section needs text or fields"
    if "text" in block:
        yield from _text(block["text"], 3000)
    if len(block.get("fields", [])) > 10:
        yield "more than 10 fields"
    for one in block.get("fields", []):
        yield from _text(one, 2000)


def _actions(elements: list[Mapping[str, Any]]) -> Iterator[str]:
    if not 1 <= len(elements) <= 25:
        yield "actions have 1 to 25 elements"
    names = [one.get("action_id") for one in elements]
    if len(set(names)) != len(names):
        yield "two elements with one action_id"
    for one in elements:
        if one.get("type") != "button":
            yield f"an element that is no button: {one.get('type')}"
        yield from _text(one.get("text"), 75, plain=True)
        if not _is_text(one.get("action_id", "-"), 255):
            yield "action_id is longer than 255"
        if not _is_text(one.get("value", "-"), 2000):
            yield "value is longer than 2000"
        if one.get("style", "primary") not in ("primary", "danger"):
            yield f"style {one.get('style')!r}"
        if "confirm" in one:
            yield from _confirm(one["confirm"])


def _confirm(confirm: Mapping[str, Any]) -> Iterator[str]:
    yield from _text(confirm.get("title"), 100, plain=True)
    yield from _text(confirm.get("text"), 300)
    yield from _text(confirm.get("confirm"), 30, plain=True)
    yield from _text(confirm.get("deny"), 30, plain=True)


def _text(text: Any, most: int, *, plain: bool = False) -> Iterator[str]:
    kinds = ("plain_text",) if plain else ("plain_text", "mrkdwn")
    if not isinstance(text, dict) or text.get("type") not in kinds or not _is_text(text.get("text"), most):
        yield f"not a {' or '.join(kinds)} of 1 to {most} characters: {str(text)[:80]}"


def alertmanager_alerts(alerts: Any) -> list[str]:
    """What is wrong with the body of `POST /api/v2/alerts`."""
    if not isinstance(alerts, list):
        return ["the body is not a list of alerts"]
    found = []
    for alert in alerts:
        labels = alert.get("labels", {})
        if not labels or not all(isinstance(value, str) for value in labels.values()):
            found.append("labels is not a mapping of texts")
        if not all(isinstance(value, str) for value in alert.get("annotations", {}).values()):
            found.append("annotations is not a mapping of texts")
        found += [
            f"{name} is no time" for name in ("startsAt", "endsAt") if name in alert and not _is_time(alert[name])
        ]
    return found


def _is_text(value: Any, most: int | None = None) -> bool:
    return isinstance(value, str) and bool(value) and (most is None or len(value) <= most)


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
