"""The incident report in Markdown, after the seed's template, written only from what is stored.

Nothing is typed twice and nothing is made up: what was not measured says so, and owners and dates of action items are
left for people.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from engine.core import duration
from engine.response.commands import describe
from engine.response.model import alert_names
from engine.response.record import CommandRow, EvidenceRow, IncidentRecord, TimelineEntry, timeline
from engine.response.words import count, line_of

_ROWS_MAX = 20
# Said by another row of the same moment, or of no interest afterwards.
_HIDDEN = {"verify.waits", "step.waits", "approval.requested", "approval.approved", "approval.denied"}
_RESOLUTIONS = {
    "verified": "Repaired and verified: the alert cleared after the rule's window and stayed so.",
    "cleared": "The alert cleared by itself; nothing was done.",
    "cleared_after_escalation": "The alert cleared after people had been told.",
    "closed": "Closed by a person.",
}


def render(record: IncidentRecord) -> str:
    """The report of an incident, also of one that is still open. Times are UTC."""
    state = record.state
    entries = timeline(record)
    parts = [
        f"# Incident Report - {_day(state.opened_ms)} {line_of(state.alert.alertname)}",
        f"Incident {state.id} · {state.priority} · {state.severity or 'no severity'} · {state.status} · times in UTC",
        "## Summary",
        _summary(record),
        "## Timeline",
        _timeline(entries),
        "## Impact",
        _impact(record, entries),
        "## Root Cause",
        _root_cause(record),
        "## Resolution",
        _resolution(record, entries),
        "## Action Items",
        _action_items(entries),
        "## Lessons Learned",
        _lessons(record, entries),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(record: IncidentRecord) -> str:
    state = record.state
    lines = [line_of(record.title) + "."]
    summary = state.alert.annotations.get("summary")
    if summary:
        lines.append(line_of(summary) + ".")
    if state.cause:
        lines.append(f"Found: {line_of(state.cause)}.")
    if state.status == "open":
        lines.append(f"The incident is open and waits for: {state.awaiting.kind}.")
    else:
        lines.append(_RESOLUTIONS.get(state.resolution, state.resolution))
    return " ".join(lines)


def _timeline(entries: Sequence[TimelineEntry]) -> str:
    shown = [entry for entry in entries if entry.kind not in _HIDDEN]
    return "\n".join(
        f"- {_clock(entry.at_ms)} - {line_of(entry.text)}"
        + (f" ({line_of(entry.actor)})" if entry.actor != "responder" else "")
        for entry in shown
    )


def _impact(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> str:
    state = record.state
    services = sorted(
        {alert.labels[key] for alert in state.alerts.values() for key in ("service",) if key in alert.labels}
    )
    began_ms = min(alert.fired_ms for alert in state.alerts.values())
    ended_ms = state.resolved_ms
    lasted = f"{duration.format_ms(_whole_s(ended_ms - began_ms))}" if ended_ms else "not over yet"
    values = [f"{entry.data['value']} at {_clock(entry.at_ms)}" for entry in entries if entry.kind == "alert.firing"]
    return "\n".join(
        [
            f"- Affected services: {', '.join(services) or 'not said by the alert'}",
            f"- Duration: {lasted}",
            f"- Alerts: {', '.join(sorted(line_of(name) for name in alert_names(state.alerts).values()))}",
            f"- Value when firing: {', '.join(values) or 'not known'}",
            "- Users affected: not measured",
        ]
    )


def _root_cause(record: IncidentRecord) -> str:
    cause = record.state.cause
    parts = [line_of(cause) + "." if cause else "Not determined automatically."]
    lines = _alert_lines(record)
    if lines:
        parts.append("Log lines that counted towards the alert:\n\n" + _quote(lines))
    parts += [f"### Evidence: {line_of(r.step)} ({_clock(r.gathered_ms)})\n\n{_evidence(r)}" for r in record.evidence]
    return "\n\n".join(parts)


def _alert_lines(record: IncidentRecord) -> list[str]:
    found: list[str] = []
    for entry in timeline(record):
        if entry.kind == "alert.firing":
            found += entry.data.get("lines", [])
    return found[:_ROWS_MAX]


def _evidence(row: EvidenceRow) -> str:
    found = row.result
    if not found.ok:
        return f"Could not be found out: {line_of(found.error)}"
    if found.status is not None:
        return f"HTTP {found.status}\n\n{_quote([str(found.body)[:2000]])}"
    if not found.rows:
        return "No rows."
    rows = [_flat(item) for item in found.rows[:_ROWS_MAX]]
    names = list(dict.fromkeys(name for item in rows for name in item))
    table = [_table_row(names), _table_row(["---"] * len(names))]
    table += [_table_row([_cell(item.get(name, "")) for name in names]) for item in rows]
    more = len(found.rows) - len(rows)
    return "\n".join(table) + (f"\n\nand {count(more, 'more row')}" if more > 0 else "")


def _flat(item: dict[str, object]) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in item.items():
        if isinstance(value, dict):
            out.update({str(name): part for name, part in value.items()})
        else:
            out[key] = value
    return out


def _resolution(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> str:
    state = record.state
    sent = {action.command.id: describe(action.command) for action in state.actions}
    lines = [f"- {_command(row, sent.get(row.command, ''))}" for row in record.commands] or ["- No command was sent."]
    kinds = (
        "verify.succeeded",
        "verify.failed",
        "command.refused",
        "command.observed",
        "command.denied",
        "command.not_sent",
    )
    lines += [f"- {line_of(entry.text)}" for entry in entries if entry.kind in kinds]
    if state.status == "open":
        lines.append("- Not resolved yet.")
    else:
        lines.append(f"- {_RESOLUTIONS.get(state.resolution, state.resolution)}")
    return "\n".join(lines)


def _command(row: CommandRow, what: str) -> str:
    took = f" after {duration.format_ms(max(1, row.finished_ms - row.issued_ms))}" if row.finished_ms else ""
    why = f" ({line_of(row.reason)})" if row.reason else ""
    return f"{line_of(what or f'{row.action} on {row.target}')} (step {row.step}): {row.status}{why}{took}"


def _action_items(entries: Sequence[TimelineEntry]) -> str:
    items = [text for entry in entries if entry.kind == "incident.resolved" for text in entry.data.get("follow_up", [])]
    items = list(dict.fromkeys(items))
    return "\n".join(f"- [ ] {line_of(item)} (Owner: , Due: )" for item in items) or "- None recorded."


def _lessons(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> str:
    state = record.state
    out = []
    fired_ms = min(alert.fired_ms for alert in state.alerts.values())
    sent = [row for row in record.commands if row.sent_ms is not None]
    if sent:
        first_ms = min(row.issued_ms for row in sent)
        out.append(f"From the alert to the first command: {duration.format_ms(max(1, first_ms - fired_ms))}.")
    if state.acknowledged_ms is not None:
        waited_ms = max(1, state.acknowledged_ms - state.opened_ms)
        out.append(f"Acknowledged by {line_of(state.acknowledged_by)} after {duration.format_ms(_whole_s(waited_ms))}.")
    if state.attempt > 1:
        out.append(f"It came back: the runbook ran {state.attempt} times.")
    for kind, text in (
        ("verify.failed", "A repair did not help"),
        ("command.refused", "A guardrail refused a command"),
        ("evidence.failed", "Evidence could not be gathered"),
        ("alert.inconclusive", "Data vanished while the incident was open"),
    ):
        out += [f"{text}: {line_of(entry.text)}." for entry in entries if entry.kind == kind]
    notes = [f"{line_of(entry.text)} ({line_of(entry.actor)})" for entry in entries if entry.kind == "incident.note"]
    return "\n".join(f"- {line}" for line in [*out, *notes]) or "- None recorded."


def _whole_s(span_ms: int) -> int:
    return max(1000, span_ms // 1000 * 1000)


def _moment(t_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(t_ms / 1000, tz=dt.UTC)


def _day(t_ms: int) -> str:
    return _moment(t_ms).strftime("%Y-%m-%d")


def _clock(t_ms: int) -> str:
    return _moment(t_ms).strftime("%H:%M:%S")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return line_of(str(value))[:200]


def _table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _quote(lines: Iterable[str]) -> str:
    return "\n".join("    " + " ".join(line.split()) for line in lines)
