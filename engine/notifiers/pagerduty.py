"""PagerDuty, by its Events API v2: an incident is one alert there, from the first call to its end.

```
 escalate, held, opened (receivers that follow) ──> trigger      ┐
 acknowledged ─────────────────────────────────────> acknowledge  ├ one dedup_key for each incident
 resolved ─────────────────────────────────────────> resolve      ┘
 notify ───────────────────────────────────────────> trigger        a second key, severity info
```

A trigger that is sent twice, or after the first one, adds to the alert that there is. An incident that is opened again
triggers under the same key, which opens a new one at PagerDuty. What only tells (`notify`) is an alert beside it, so
that it never decides how urgently somebody is called. Of an incident that is over nobody is called any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from engine.edge.settings_notify import PagerDutyReceiver
from engine.notifiers import Environment, Message, NotDeliveredError, Notifier, Sent
from engine.notifiers._http import post, tls
from engine.response.model import NoticeKind

SUMMARY_CHARACTERS = 1024
_ACTIONS: dict[NoticeKind, str] = {"acknowledged": "acknowledge", "resolved": "resolve"}
_SEVERITIES = ("critical", "error", "warning", "info")
_BY_PRIORITY = dict(zip(("P0", "P1", "P2", "P3"), _SEVERITIES, strict=True))


async def deliver(
    env: Environment, receiver: PagerDutyReceiver, message: Message, thread: Sequence[Sent]
) -> dict[str, Any]:
    """Send the event. The receipt has the `dedup_key`, by which a webhook of PagerDuty names the incident."""
    action = _ACTIONS.get(message.kind, "trigger")
    if action == "trigger":
        if message.incident.status != "open":
            return {"skipped": "the incident is over"}
        events = [trigger(message)]
    else:
        events = [{"event_action": action, "dedup_key": key} for key in _triggered(thread) or [message.key]]
    common, key = env.settings.pagerduty, env.secret(receiver, "routing_key")
    async with httpx.AsyncClient(verify=tls(common.ca_file), timeout=env.settings.timeout_s) as client:
        answers = [
            await post(env, client, f"{common.url.rstrip('/')}/v2/enqueue", event | {"routing_key": key})
            for event in events
        ]
    try:
        return {"dedup_key": str(answers[0].json()["dedup_key"]), "event_action": action}
    except (ValueError, KeyError, TypeError) as error:
        raise NotDeliveredError(f"the answer is not one of the Events API: {answers[0].text[:200]}") from error


def _triggered(thread: Sequence[Sent]) -> list[str]:
    """The keys of the alerts that were triggered for the incident."""
    receipts = [sent.receipt for sent in thread]
    return list(dict.fromkeys(one["dedup_key"] for one in receipts if one.get("event_action") == "trigger"))


def trigger(message: Message) -> dict[str, Any]:
    """The event that triggers an alert, without its routing key."""
    incident = message.incident
    text = incident.title if message.kind == "opened" else f"{incident.title}: {message.text}"
    details: dict[str, Any] = {"text": message.text, "incident": incident.id, "runbook": incident.runbook}
    if message.held is not None:
        details["to be decided"] = message.held.what
    payload: dict[str, Any] = {
        "summary": f"[{incident.priority}] {text}"[:SUMMARY_CHARACTERS],
        "source": _label(incident.labels, "instance", "pod", "service", "job") or "sentinel",
        "severity": _severity(message),
        "timestamp": datetime.fromtimestamp(message.at_ms / 1000, UTC).isoformat(),
        "custom_details": details | {"labels": incident.labels},
    }
    grouped = {
        "component": _label(incident.labels, "service", "job"),
        "group": _label(incident.labels, "namespace"),
        "class": _label(incident.labels, "alertname"),
    }
    payload |= {name: found for name, found in grouped.items() if found}
    key = f"{message.key}-notify" if message.kind == "notify" else message.key
    named: dict[str, Any] = {"event_action": "trigger", "dedup_key": key, "payload": payload}
    named |= {"client": "Aureus Sentinel"}
    if incident.url:
        named |= {"client_url": incident.url, "links": [{"href": incident.url, "text": f"Incident {incident.id}"}]}
    return named


def _severity(message: Message) -> str:
    if message.kind == "notify":
        return "info"
    severity = message.incident.severity
    return severity if severity in _SEVERITIES else _BY_PRIORITY[message.incident.priority]


def _label(labels: dict[str, str], *names: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


NOTIFIER = Notifier(
    name="pagerduty",
    receiver=PagerDutyReceiver,
    kinds=frozenset({"opened", "notify", "escalate", "held", "acknowledged", "resolved"}),
    deliver=deliver,
)
