"""What an incident report says, in the order of the seed's template: plain text, taken only from what is stored.

`response.report` writes it as Markdown, `response.report_html` as a page. Nothing is typed twice and nothing is made
up: what was not measured says so, and owners and dates of action items are left for people.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from engine.core import duration
from engine.response.commands import describe
from engine.response.model import alert_names
from engine.response.record import WAITS_FOR, CommandRow, EvidenceRow, IncidentRecord, TimelineEntry, timeline

_ROWS_MAX = 20
_ERROR_RATE = "error_rate"
# Said by another row of the same moment, or of no interest afterwards.
_HIDDEN = {"verify.waits", "step.waits", "approval.requested", "approval.approved", "approval.denied"}
_OUTCOMES = (
    "verify.succeeded",
    "verify.failed",
    "command.refused",
    "command.observed",
    "command.denied",
    "command.not_sent",
    "notice.held",
)
_RESOLUTIONS = {
    "verified": "Repaired and verified: the alert cleared after the rule's window and stayed so.",
    "cleared": "The alert cleared by itself; nothing was done.",
    "cleared_after_escalation": "The alert cleared after people had been told.",
    "closed": "Closed by a person.",
}


class Line(Struct, frozen=True):
    """A line of the timeline; `actor` is "" for the responder itself."""

    at_ms: int
    text: str
    actor: str


class Candidate(Struct, frozen=True):
    """A root cause that was found, on which condition, and the investigations that the condition looks at."""

    text: str
    condition: str
    evidence: tuple[str, ...]


class Found(Struct, frozen=True):
    """What one investigation found: a table, or `body`, or why not (`note`)."""

    step: str
    at_ms: int
    columns: list[str]
    rows: list[list[str]]
    more: int
    note: str
    body: str


class Parts(Struct, frozen=True):
    """A report before it is written down."""

    title: str
    state: str
    summary: list[str]
    timeline: list[Line]
    impact: list[tuple[str, str]]
    cause: str
    candidates: list[Candidate]
    log_lines: list[str]
    evidence: list[Found]
    resolution: list[str]
    action_items: list[str]
    lessons: list[str]


def parts_of(record: IncidentRecord) -> Parts:
    """What the report of an incident says, also of one that is still open. Times are UTC."""
    state, entries = record.state, timeline(record)
    return Parts(
        title=f"Incident Report - {day_of(state.opened_ms)} {state.alert.alertname}",
        state=" · ".join(
            (f"Incident {state.id}", state.priority, state.severity or "no severity", state.status, "times in UTC")
        ),
        summary=list(_summary(record)),
        timeline=[Line(entry.at_ms, entry.text, entry.by) for entry in entries if entry.kind not in _HIDDEN],
        impact=list(_impact(record, entries)),
        cause=state.cause,
        candidates=_candidates(record, entries),
        log_lines=[line for entry in entries if entry.kind == "alert.firing" for line in entry.data.get("lines", [])][
            :_ROWS_MAX
        ],
        evidence=[_found(row) for row in record.evidence],
        resolution=list(_resolution(record, entries)),
        action_items=_action_items(entries),
        lessons=list(_lessons(record, entries)),
    )


def _summary(record: IncidentRecord) -> Iterator[str]:
    state = record.state
    yield record.title
    if summary := state.alert.annotations.get("summary"):
        yield summary
    if state.cause:
        yield f"Found: {state.cause}"
    if state.status == "open":
        yield f"The incident is open and waits for: {WAITS_FOR[state.awaiting.kind]}"
    else:
        yield _ended(record)


def _ended(record: IncidentRecord) -> str:
    state = record.state
    if state.merged_into is not None:
        return f"Merged into incident {state.merged_into}, whose report goes on."
    return _RESOLUTIONS.get(state.resolution, state.resolution)


def _impact(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> Iterator[tuple[str, str]]:
    state = record.state
    alerts = {**state.alerts, **state.joined}
    names = alert_names(alerts)
    services = sorted({alert.labels["service"] for alert in alerts.values() if alert.labels.get("service")})
    began_ms = min(alert.fired_ms for alert in state.alerts.values())
    lasted = duration.format_ms(_whole_s(state.resolved_ms - began_ms)) if state.resolved_ms else "not over yet"
    values = [f"{entry.data['value']} at {clock_of(entry.at_ms)}" for entry in entries if entry.kind == "alert.firing"]
    yield "Affected services", ", ".join(services) or "not said by the alert"
    yield "Duration", lasted
    yield "Alerts", ", ".join(sorted(names[mark] for mark in state.alerts))
    if state.joined:
        yield "Explained by it", ", ".join(sorted(f"{names[m]} ({a.standing})" for m, a in state.joined.items()))
    related = sorted({n for e in entries if e.kind == "incident.related" for n in e.data.get("incidents", [])})
    if related:
        yield "Related incidents", ", ".join(str(number) for number in related)
    yield "Value when firing", ", ".join(values) or "not known"
    if record.series is not None and record.series.points:
        worst_ms, worst = record.series.worst()
        limit = f", threshold {record.series.threshold:g}" if record.series.threshold is not None else ""
        yield "Farthest value", f"{worst:.4g} at {clock_of(worst_ms)}{limit}"
    yield "Error rate", _error_rate(record)
    yield "Users affected", "not measured"


def _error_rate(record: IncidentRecord) -> str:
    """What investigations named `error_rate` found, the highest value of each."""
    told = []
    for row in record.evidence:
        values = [item["value"] for item in row.result.rows if isinstance(item.get("value"), int | float)]
        if row.step == _ERROR_RATE and values:
            told.append(f"{max(values):.2%} at {clock_of(row.gathered_ms)}")  # type: ignore[type-var]  # only numbers
    return ", ".join(told) or "not measured"


def _candidates(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> list[Candidate]:
    steps = {row.step for row in record.evidence}
    found = [
        Candidate(text, condition, tuple(name for name in sorted(steps) if re.search(rf"\b{name}\b", condition)))
        for entry in entries
        if entry.kind == "step.decided" and (text := str(entry.data.get("because", "")))
        for condition in [str(entry.data.get("condition", ""))]
    ]
    return list(dict.fromkeys(found))


def _found(row: EvidenceRow) -> Found:
    found = row.result
    note, body, columns, cells = "", "", [], []
    rows = [_flat(item) for item in found.rows[:_ROWS_MAX]]
    if not found.ok:
        note = f"Could not be found out: {found.error}"
    elif found.status is not None:
        note, body = f"HTTP {found.status}", str(found.body)[:2000]
    elif not rows:
        note = "No rows."
    else:
        columns = list(dict.fromkeys(name for item in rows for name in item))
        cells = [[_cell(item.get(name, "")) for name in columns] for item in rows]
    return Found(row.step, row.gathered_ms, columns, cells, len(found.rows) - len(rows), note, body)


def _flat(item: dict[str, object]) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in item.items():
        if isinstance(value, dict):
            out.update({str(name): part for name, part in value.items()})
        else:
            out[key] = value
    return out


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:200]


def _resolution(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> Iterator[str]:
    state = record.state
    sent = {action.command.id: describe(action.command) for action in state.actions}
    if not record.commands:
        yield "No command was sent."
    for row in record.commands:
        yield _command(row, sent.get(row.command, ""))
    yield from (entry.text for entry in entries if entry.kind in _OUTCOMES)
    yield "Not resolved yet." if state.status == "open" else _ended(record)


def _command(row: CommandRow, what: str) -> str:
    took = f" after {duration.format_ms(max(1, row.finished_ms - row.issued_ms))}" if row.finished_ms else ""
    why = f" ({row.reason})" if row.reason else ""
    return f"{what or f'{row.action} on {row.target}'} (step {row.step}): {row.status}{why}{took}"


def _action_items(entries: Sequence[TimelineEntry]) -> list[str]:
    items: list[Any] = []
    for entry in entries:
        if entry.kind == "incident.resolved":
            items += entry.data.get("follow_up", [])
    return list(dict.fromkeys(str(item) for item in items))


def _lessons(record: IncidentRecord, entries: Sequence[TimelineEntry]) -> Iterator[str]:
    state = record.state
    fired_ms = min(alert.fired_ms for alert in state.alerts.values())
    sent = [row for row in record.commands if row.sent_ms is not None]
    if sent:
        first_ms = min(row.issued_ms for row in sent)
        yield f"From the alert to the first command: {duration.format_ms(max(1, first_ms - fired_ms))}."
    if state.acknowledged_ms is not None:
        waited_ms = max(1, state.acknowledged_ms - state.opened_ms)
        yield f"Acknowledged by {state.acknowledged_by} after {duration.format_ms(_whole_s(waited_ms))}."
    if state.attempt > 1:
        yield f"It came back: the runbook ran {state.attempt} times."
    for kind, text in (
        ("verify.failed", "A repair did not help"),
        ("command.refused", "A guardrail refused a command"),
        ("evidence.failed", "Evidence could not be gathered"),
        ("alert.inconclusive", "Data vanished while the incident was open"),
    ):
        yield from (f"{text}: {entry.text.rstrip('.')}." for entry in entries if entry.kind == kind)
    yield from (f"{entry.text} ({entry.actor})" for entry in entries if entry.kind == "incident.note")


def _whole_s(span_ms: int) -> int:
    return max(1000, span_ms // 1000 * 1000)


def day_of(t_ms: int) -> str:
    """The day of a time, in UTC."""
    return _moment(t_ms).strftime("%Y-%m-%d")


def clock_of(t_ms: int) -> str:
    """The time of day, in UTC."""
    return _moment(t_ms).strftime("%H:%M:%S")


def _moment(t_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(t_ms / 1000, tz=dt.UTC)
