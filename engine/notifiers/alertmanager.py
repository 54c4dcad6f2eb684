"""Alertmanager: an incident as an alert `SentinelIncident`, which fires from the first notice to the incident's end.

An Alertmanager keeps alerts in memory and lets go of those that nobody repeats, so the alert is sent again every
`REPEAT_MS` while the incident is open, each time with an end that is four times that away; its labels identify it.
(The alerts themselves go to Alertmanagers by the role `sinks`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from engine.edge.settings_notify import AlertmanagerReceiver
from engine.edge.sink_http import endpoint_client
from engine.notifiers import Environment, Message, NotDeliveredError, Notifier, Sent
from engine.notifiers._http import post

REPEAT_MS = 60_000
ALERTNAME = "SentinelIncident"


async def deliver(
    env: Environment, receiver: AlertmanagerReceiver, message: Message, thread: Sequence[Sent]
) -> dict[str, Any]:
    """Post the alert. The receipt has its `ends_at`."""
    del thread  # the labels hold it together
    body = alert(message, env.now_ms())
    try:
        client = endpoint_client(receiver)
    except OSError as error:
        raise NotDeliveredError(f"TLS files cannot be used: {error}") from error
    async with client:
        await post(env, client, f"{receiver.url.rstrip('/')}/api/v2/alerts", [body])
    return {"ends_at": body["endsAt"]}


def alert(message: Message, now_ms: int) -> dict[str, Any]:
    """The alert as the API takes it. What tells incidents apart stands in labels, what changes in annotations."""
    incident = message.incident
    kept = {name: value for name, value in incident.labels.items() if value and name not in ("alertname", "severity")}
    labels = kept | {
        "alertname": ALERTNAME,
        "incident": str(incident.id),
        "runbook": incident.runbook,
        "alert": incident.labels.get("alertname", ""),
    }
    ends_ms = now_ms + 4 * REPEAT_MS if incident.status == "open" else now_ms
    if message.kind == "resolved":
        ends_ms = message.at_ms
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {
            "summary": incident.title,
            "description": message.text,
            "priority": incident.priority,
            "severity": incident.severity,
        },
        "startsAt": _time(incident.opened_ms),
        "endsAt": _time(ends_ms),
        "generatorURL": incident.url,
    }


def _time(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat(timespec="milliseconds")


NOTIFIER = Notifier(
    name="alertmanager",
    receiver=AlertmanagerReceiver,
    kinds=frozenset({"opened", "notify", "escalate", "held", "resolved"}),
    deliver=deliver,
    repeat_ms=REPEAT_MS,
)
