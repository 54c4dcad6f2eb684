"""What is stored of one incident, as the report, the console and the CLI read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from engine.response.audit import AuditRow
from engine.response.model import Evidence, IncidentState, Waiting
from engine.response.series import MetricSeries

OWN_ACTORS = ("responder", "executor")
"""How the names of the program's own parts begin, in the audit."""

WAITS_FOR: dict[Waiting, str] = {
    "nothing": "",
    "evidence": "the answer of an investigation",
    "approval": "a person's decision about a command",
    "outcome": "the outcome of a command",
    "wait": "a pause of the runbook to end",
    "verify": "signs that the repair worked",
    "settle": "the alert's window and stabilisation to pass",
    "clear": "the alert to clear",
    "people": "people: nothing more is done by itself",
    "muted": "a silence or maintenance to end",
    "calm": "the time in which a storm would show",
}
"""What an open incident waits for, as people are told it."""

_DECIDED = {
    "approval.approved": "approved",
    "approval.denied": "denied",
    "approval.first_of_two": "approved; another person must agree, too",
}


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

    @property
    def by(self) -> str:
        """Who did it, to be named beside the text; "" for the program's own parts, and where the text names them."""
        return "" if self.actor.startswith(OWN_ACTORS) or f"by {self.actor}" in self.text else self.actor


def timeline(record: IncidentRecord) -> list[TimelineEntry]:
    """The timeline in the order in which things happened."""
    entries = [_entry(row) for row in record.timeline]
    return sorted(entries, key=lambda entry: entry.at_ms)


def _entry(row: AuditRow) -> TimelineEntry:
    data: dict[str, Any] = msgspec.json.decode(row.data)
    at_ms = data.pop("happened_ms", row.at_ms)
    text = data.pop("text", None)
    if text is None:
        text = in_words(row.kind, data)
    return TimelineEntry(at_ms, row.kind, row.actor, text, data)


def in_words(kind: str, data: Mapping[str, Any]) -> str:
    """What a row of the audit that has no text of its own tells: "approved", "command succeeded: verified"."""
    if kind in _DECIDED:
        return _DECIDED[kind]
    reason = str(data.get("reason", "")).replace("_", " ")
    if kind == "approval.refused":
        return f"{data.get('decision', 'decided')}, which did not count: {reason}"
    return kind.replace(".", " ").replace("_", " ") + (f": {reason}" if reason else "")
