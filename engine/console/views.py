"""From an incident as the responder keeps it to what people are shown. Plain functions over plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from engine.console.model import CommandView, Incident, JoinedAlert, TimelineEntry
from engine.console.model import Evidence as EvidenceView
from engine.response.model import ActionTaken, AlertSeen, Evidence, IncidentState, Waiting, alert_names
from engine.response.record import WAITS_FOR, IncidentRecord, timeline

# What an open incident is doing, by what it waits for.
_DOING: dict[Waiting, str] = {
    "nothing": "open",
    "evidence": "investigating",
    "approval": "awaiting approval",
    "outcome": "acting",
    "wait": "stabilising",
    "verify": "verifying",
    "settle": "settling",
    "clear": "verifying",
    "people": "escalated",
    "muted": "muted",
    "calm": "settling",
}
_CELL_MAX = 300
_ROWS_MAX = 100


class IncidentLine(Struct, frozen=True):
    """The columns of an incident that a list needs; `alert` is the one that opened it."""

    id: int
    title: str
    status: str
    waits: Waiting
    priority: str
    severity: str
    opened_ms: int
    updated_ms: int
    resolved_ms: int | None
    alert: AlertSeen


def incident_view(line: IncidentLine) -> Incident:
    """An incident in a list."""
    open_now = line.status == "open"
    return Incident(
        id=line.id,
        title=line.title,
        state=_DOING[line.waits] if open_now else line.status,
        priority=line.priority,
        severity=line.severity,
        rule=line.alert.rule,
        labels=line.alert.labels,
        opened_ms=line.opened_ms,
        closed_ms=0 if open_now else line.resolved_ms or line.updated_ms,
    )


def waits_for(state: IncidentState) -> tuple[str, int | None]:
    """What an incident waits for, in words, and until when; ("", None) once it is over."""
    if state.status != "open":
        return "", None
    return WAITS_FOR[state.awaiting.kind], state.awaiting.due_ms


def command_views(actions: Iterable[ActionTaken]) -> list[CommandView]:
    """The commands of an incident, oldest first."""
    return [
        CommandView(
            id=taken.command.id,
            step=taken.command.step,
            action=taken.command.action,
            target=taken.command.target.key(),
            params=taken.command.params,
            status=taken.status,
            reason=taken.reason,
            issued_ms=taken.sent_ms,
            finished_ms=taken.finished_ms,
        )
        for taken in actions
    ]


def joined_views(state: IncidentState) -> list[JoinedAlert]:
    """The alerts that joined an incident, the first to fire first."""
    names = alert_names({**state.alerts, **state.joined})
    views = [JoinedAlert(names[mark], a.standing, a.labels, a.fired_ms) for mark, a in state.joined.items()]
    return sorted(views, key=lambda view: (view.fired_ms, view.name))


def evidence_view(name: str, question: Mapping[str, Any], item: Evidence) -> EvidenceView:
    """One answer of an investigation, as a table."""
    rows = [_flat(row) for row in item.rows[:_ROWS_MAX]]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    return EvidenceView(name, item.at_ms, _question(question), columns, cells, _note(item))


def evidence_summary(item: EvidenceView) -> str:
    """What an investigation found, in a few words: the only row, or how many there are."""
    if len(item.rows) == 1:
        found = row_in_words(item.columns, item.rows[0])
    else:
        found = f"{len(item.rows)} rows" if item.rows else ""
    return "; ".join(part for part in (found, item.note) if part)


def row_in_words(columns: Sequence[str], row: Sequence[str]) -> str:
    """A row of evidence in one line: `key_id=k-7, failures=3`."""
    return ", ".join(f"{name}={cell}" for name, cell in zip(columns, row, strict=True))


def _question(asked: Mapping[str, Any]) -> str:
    """What was asked, in one line: `postgres bridge: select ... (ttl)`, `http bridge: /api/admin/keys`."""
    kind = str(asked.get("type", ""))
    where = str(asked.get("database") or asked.get("host") or "")
    what = " ".join(str(asked.get("query") or asked.get("path") or "").split())
    params = asked.get("params")
    shown = f" ({', '.join(_cell(param) for param in params)})" if params else ""
    return f"{f'{kind} {where}'.strip()}: {what}{shown}"


def _flat(row: Mapping[str, Any]) -> dict[str, object]:
    """A row of a PromQL answer ({"labels": {...}, "value": v}) with its labels as columns; other rows as they are."""
    labels = row.get("labels")
    if set(row) == {"labels", "value"} and isinstance(labels, dict):
        return {**labels, "value": row["value"]}
    return dict(row)


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _CELL_MAX else text[: _CELL_MAX - 1] + "…"


def _note(item: Evidence) -> str:
    if not item.ok:
        return f"could not be found out: {item.error}"
    parts = []
    if item.status is not None:
        parts.append(f"HTTP {item.status}: {_cell(item.body)}")
    elif not item.rows:
        parts.append("no rows")
    if item.truncated or len(item.rows) > _ROWS_MAX:
        parts.append("there are more rows than are kept or shown")
    return "; ".join(parts)


def timeline_views(record: IncidentRecord) -> list[TimelineEntry]:
    """What happened, in its order; people are named."""
    return [
        TimelineEntry(
            entry.at_ms,
            entry.kind,
            f"{entry.text} (by {entry.by})" if entry.by else entry.text,
        )
        for entry in timeline(record)
    ]
