"""PagerDuty, by its Events API v2: an incident is one alert there, from the first call to its end.

```
 notify, escalate, held, opened (receivers that follow) ──> trigger      ┐
 acknowledged ─────────────────────────────────────────────> acknowledge  ├ one dedup_key for each incident
 resolved ─────────────────────────────────────────────────> resolve      ┘
```

A trigger that is sent twice, or after the first one, adds to the alert that there is. An incident that is opened again
triggers under the same key, which opens a new one at PagerDuty.
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
    del thread  # the dedup key holds it together
    body = event(message) | {"routing_key": env.secret(receiver, "routing_key")}
    common = env.settings.pagerduty
    async with httpx.AsyncClient(verify=tls(common.ca_file), timeout=env.settings.timeout_s) as client:
        response = await post(env, client, f"{common.url.rstrip('/')}/v2/enqueue", body)
    try:
        said = response.json()
        return {"dedup_key": str(said["dedup_key"]), "event_action": body["event_action"]}
    except (ValueError, KeyError, TypeError) as error:
        raise NotDeliveredError(f"the answer is not one of the Events API: {response.text[:200]}") from error


def event(message: Message) -> dict[str, Any]:
    """The event without its routing key."""
    action = _ACTIONS.get(message.kind, "trigger")
    named: dict[str, Any] = {"event_action": action, "dedup_key": message.key}
    if action != "trigger":
        return named
    incident = message.incident
    text = incident.title if message.kind == "opened" else f"{incident.title}: {message.text}"
    details: dict[str, Any] = {"text": message.text, "incident": incident.id, "runbook": incident.runbook}
    if message.held is not None:
        details["to be decided"] = message.held.what
    payload: dict[str, Any] = {
        "summary": f"[{incident.priority}] {text}"[:SUMMARY_CHARACTERS],
        "source": _label(incident.labels, "instance", "pod", "service", "job") or "sentinel",
        "severity": incident.severity if incident.severity in _SEVERITIES else _BY_PRIORITY[incident.priority],
        "timestamp": datetime.fromtimestamp(message.at_ms / 1000, UTC).isoformat(),
        "custom_details": details | {"labels": incident.labels},
    }
    grouped = {
        "component": _label(incident.labels, "service", "job"),
        "group": _label(incident.labels, "namespace"),
        "class": _label(incident.labels, "alertname"),
    }
    payload |= {name: found for name, found in grouped.items() if found}
    named |= {"payload": payload, "client": "Aureus Sentinel"}
    if incident.url:
        named |= {"client_url": incident.url, "links": [{"href": incident.url, "text": f"Incident {incident.id}"}]}
    return named


def _label(labels: dict[str, str], *names: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


NOTIFIER = Notifier(
    name="pagerduty",
    receiver=PagerDutyReceiver,
    kinds=frozenset({"opened", "notify", "escalate", "held", "acknowledged", "resolved"}),
    deliver=deliver,
)
