"""What is stored of one incident, as the report, the console and the CLI read it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from engine.response.audit import AuditRow
from engine.response.model import Evidence, IncidentState
from engine.response.series import MetricSeries


class EvidenceRow(Struct, frozen=True):
    """What one investigation asked and found."""

    attempt: int
    step: str
    gathered_ms: int
    query: Any
    result: Evidence


class CommandRow(Struct, frozen=True):
    """A command of an incident and what became of it; `finished_ms` 0: not yet."""

    command: str
    attempt: int
    step: str
    action: str
    target: str
    issued_ms: int
    sent_ms: int | None
    status: str
    reason: str
    finished_ms: int


class IncidentRecord(Struct, frozen=True):
    """All that is stored of one incident; `timeline` is its part of the audit."""

    state: IncidentState
    title: str
    timeline: list[AuditRow]
    evidence: list[EvidenceRow]
    commands: list[CommandRow]
    series: MetricSeries | None = None


class TimelineEntry(Struct, frozen=True):
    """One line of a timeline; `at_ms` is when it happened."""

    at_ms: int
    kind: str
    actor: str
    text: str
    data: dict[str, Any]


def timeline(record: IncidentRecord) -> list[TimelineEntry]:
    """The timeline in the order in which things happened."""
    entries = [_entry(row) for row in record.timeline]
    return sorted(entries, key=lambda entry: entry.at_ms)


def _entry(row: AuditRow) -> TimelineEntry:
    data: dict[str, Any] = msgspec.json.decode(row.data)
    at_ms = data.pop("happened_ms", row.at_ms)
    text = data.pop("text", None)
    if text is None:
        told = ", ".join(f"{key} {data[key]}" for key in ("decision", "status", "reason") if data.get(key))
        text = f"{row.kind.replace('.', ' ').replace('_', ' ')}" + (f" ({told})" if told else "")
    return TimelineEntry(at_ms, row.kind, row.actor, text, data)
