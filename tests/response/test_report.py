"""The incident report: the seed's template, filled from rows and from nothing else."""

from __future__ import annotations

import msgspec

from engine.core.messages import Command, Target
from engine.response.audit import AuditRow
from engine.response.model import ActionTaken, AlertSeen, Evidence, IncidentState
from engine.response.record import CommandRow, EvidenceRow, IncidentRecord, timeline
from engine.response.report import render
from tests.response.conftest import SPIKE

START_MS = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC


def row(seq: int, at_ms: int, kind: str, text: str | None, actor: str = "responder", **data: object) -> AuditRow:
    given = data if text is None else {"text": text, "happened_ms": START_MS + at_ms, **data}
    return AuditRow(seq, START_MS + at_ms, actor, kind, 7, None, msgspec.json.encode(given).decode(), "", "")


SEEN = AlertSeen(
    fingerprint="f",
    alertname="PolicyViolationSpike",
    rule="g/r",
    labels=SPIKE,
    annotations={"summary": "12 policy violations"},
    value="12",
    standing="cleared",
    fired_ms=START_MS,
    at_ms=START_MS + 60_000,
    window_ms=60_000,
    transition="t",
)
STATE = IncidentState(
    id=7,
    runbook="PolicyViolationSpike",
    group={},
    status="resolved",
    priority="P2",
    severity="warning",
    opened_ms=START_MS,
    trigger="f",
    alerts={"f": SEEN},
    cause="mallory broke policies 11 times, of 12 in all",
    resolved_ms=START_MS + 75_000,
    resolution="verified",
)
ROWS = [
    row(
        1, 0, "alert.firing", "PolicyViolationSpike fires, value 12", value="12", lines=['{"event":"policy_violation"}']
    ),
    row(2, 10, "command.sent", "http.request on http:openclaw (mode auto)"),
    row(3, 40, "claim.taken", None, actor="executor-1", status="claimed"),
    row(4, 50, "verify.waits", "stopped: judges later"),
    row(5, 70_000, "verify.succeeded", "stopped: the alert is cleared and stays so"),
    row(6, 75_000, "incident.resolved", "all alerts are cleared", follow_up=["Review the limits"]),
]
RECORD = IncidentRecord(
    state=STATE,
    title="Policies are being broken",
    timeline=ROWS,
    evidence=[EvidenceRow(1, "suspects", START_MS + 5, {}, Evidence(True, START_MS, [{"source_user": "mallory"}]))],
    commands=[
        CommandRow(
            "c",
            1,
            "block",
            "http.request",
            "http:openclaw",
            START_MS + 10,
            START_MS + 11,
            "succeeded",
            "",
            START_MS + 60,
        )
    ],
)


def test_a_resolved_incident_fills_the_template() -> None:
    assert (
        render(RECORD)
        == """\
# Incident Report - 2026-01-01 PolicyViolationSpike

Incident 7 · P2 · warning · resolved · times in UTC

## Summary

Policies are being broken. 12 policy violations. Found: mallory broke policies 11 times, of 12 in all. \
Repaired and verified: the alert cleared after the rule's window and stayed so.

## Timeline

- 00:00:00 - PolicyViolationSpike fires, value 12
- 00:00:00 - http.request on http:openclaw (mode auto)
- 00:00:00 - claim taken
- 00:01:10 - stopped: the alert is cleared and stays so
- 00:01:15 - all alerts are cleared

## Impact

- Affected services: aureus-os
- Duration: 1m15s
- Alerts: PolicyViolationSpike
- Value when firing: 12 at 00:00:00
- Error rate: not measured
- Users affected: not measured

## Root Cause

mallory broke policies 11 times, of 12 in all.

Log lines that counted towards the alert:

    {"event":"policy_violation"}

### Evidence: suspects (00:00:00)

| source_user |
| --- |
| mallory |

## Resolution

- http.request on http:openclaw (step block): succeeded after 50ms
- stopped: the alert is cleared and stays so
- Repaired and verified: the alert cleared after the rule's window and stayed so.

## Action Items

- [ ] Review the limits (Owner: , Due: )

## Lessons Learned

- From the alert to the first command: 10ms.
"""
    )


def test_an_open_incident_says_what_it_waits_for() -> None:
    state = msgspec.structs.replace(STATE, status="open", resolved_ms=None, resolution="", cause="")
    text = render(msgspec.structs.replace(RECORD, state=state, commands=[], evidence=[]))
    for line in ("The incident is open", "- Duration: not over yet", "Not determined", "- No command was sent."):
        assert line in text


def test_nothing_an_event_says_becomes_markup() -> None:
    evil = "x |\n# Heading <script> [link](http://evil) `code`"
    evidence = [EvidenceRow(1, "suspects", START_MS, {}, Evidence(True, START_MS, [{"user": evil}]))]
    state = msgspec.structs.replace(STATE, cause=evil)
    text = render(msgspec.structs.replace(RECORD, state=state, evidence=evidence))
    assert "\n# Heading" not in text
    assert "\\<script>" in text
    assert "\\[link](" in text


def test_the_timeline_is_in_the_order_in_which_things_happened() -> None:
    late = row(7, 90_000, "alert.firing", "came late")
    moved = msgspec.structs.replace(late, data=late.data.replace(str(START_MS + 90_000), str(START_MS - 1)))
    assert timeline(msgspec.structs.replace(RECORD, timeline=[*ROWS, moved]))[0].text == "came late"


def test_the_resolution_says_what_exactly_a_command_did_and_which_alert_was_which() -> None:
    params: dict[str, object] = {"method": "POST", "path": "/api/admin/blocklist", "json": {"user_id": "mallory"}}
    target = Target("http", "openclaw")
    command = Command("c", 7, "g/r", "book", "block", "http.request", target, params, "warning", 0, 1)
    other = msgspec.structs.replace(SEEN, fingerprint="g", labels={**SPIKE, "signal": "metrics"})
    action = ActionTaken(command, 1, START_MS)
    state = msgspec.structs.replace(STATE, actions=[action], alerts={"f": SEEN, "g": other})
    said = row(7, 80_000, "command.not_sent", "restart: approved by ada, and not sent: alert cleared")
    text = render(msgspec.structs.replace(RECORD, state=state, timeline=[*ROWS, said]))
    assert (
        '- POST /api/admin/blocklist {"user_id":"mallory"} on openclaw (http.request) (step block): succeeded' in text
    )
    assert "- restart: approved by ada, and not sent: alert cleared" in text.split("## Resolution")[1]
    assert 'PolicyViolationSpike{signal="logs"}, PolicyViolationSpike{signal="metrics"}' in text
