"""The account of a day: what was done, what would have been done, and what came of it, so that trust can grow.

In observe mode nothing is sent, so cooldowns and budgets never see a command, and nobody is asked in a storm. The
account asks the guardrails again about every observed command in its order, as if those before it had been sent: that
is how often they would have refused. Everything comes from stored rows.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from engine.core.messages import Command
from engine.response.audit import AuditRow
from engine.response.commands import describe
from engine.response.guardrails import HOUR_MS, Past, Policy, Request, check, repair_of
from engine.response.record import OWN_ACTORS, in_words
from engine.response.words import count, line_of

# What a person did to an incident, or said about it.
_BY_PEOPLE = ("incident.note", "incident.closed", "incident.acknowledged", "incident.reopened", "incident.merged")
_APPROVALS = ("approval.approved", "approval.denied")


class IncidentOfDay(Struct, frozen=True):
    """An incident that was opened or went on that day, as it stands now."""

    id: int
    runbook: str
    title: str
    status: str
    resolution: str
    acted: bool


class Would(Struct, frozen=True):
    """A command that was only observed. `refused` is the guardrail that would have stopped it, "" if none."""

    at_ms: int
    incident: int
    text: str
    refused: str = ""
    detail: str = ""


class RunbookDay(Struct, frozen=True):
    """What a day came to for one runbook."""

    runbook: str
    incidents: list[IncidentOfDay]
    would: list[Would]
    refused: dict[str, int]
    done: dict[str, int]
    people: list[str]

    @property
    def by_itself(self) -> int:
        """How many incidents ended though nothing was done and nobody closed them."""
        return sum(one.resolution.startswith("cleared") and not one.acted for one in self.incidents)

    @property
    def ends(self) -> dict[str, int]:
        """How the incidents ended; those that are open as `open`."""
        return dict(Counter(one.resolution or one.status for one in self.incidents))


class DayAccount(Struct, frozen=True):
    """What a day came to; times in UTC."""

    day: dt.date
    runbooks: list[RunbookDay]


def day_bounds_ms(day: dt.date) -> tuple[int, int]:
    """The first millisecond of a day in UTC, and of the next."""
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    return int(start.timestamp() * 1000), int((start + dt.timedelta(days=1)).timestamp() * 1000)


def account(day: dt.date, incidents: Sequence[IncidentOfDay], rows: Iterable[AuditRow], policy: Policy) -> DayAccount:
    """The account of a day from its incidents and the audit's rows of that day, in their order."""
    runbook_of = {incident.id: incident.runbook for incident in incidents}
    by_runbook: dict[str, list[AuditRow]] = {incident.runbook: [] for incident in incidents}
    for row in rows:
        if row.incident in runbook_of:
            by_runbook[runbook_of[row.incident]].append(row)
    would = _would(sorted((row for found in by_runbook.values() for row in found), key=lambda row: row.seq), policy)
    days = [
        RunbookDay(
            runbook=name,
            incidents=[incident for incident in incidents if incident.runbook == name],
            would=[one for one in would if runbook_of[one.incident] == name],
            refused=dict(Counter(str(_data(row).get("reason", "")) for row in own if row.kind == "command.refused")),
            done=dict(Counter(str(_data(row).get("status", "")) for row in own if row.kind == "command.outcome")),
            people=[_person(row) for row in own if _is_by_a_person(row)],
        )
        for name, own in sorted(by_runbook.items())
    ]
    return DayAccount(day, days)


def _would(rows: Sequence[AuditRow], policy: Policy) -> list[Would]:
    """Every observed command with what the guardrails would have said, had those before it been sent."""
    out: list[Would] = []
    past: list[Past] = []
    for row in rows:
        if row.kind != "command.observed":
            continue
        data = _data(row)
        command, attempt = msgspec.convert(data["body"], Command), int(data["attempt"])
        request = Request(
            command,
            attempt,
            destructive=False,
            cooldown_ms=int(data["cooldown_ms"]),
            budget_per_hour=int(data["budget_per_hour"]),
            approved=True,
        )
        recent = [one for one in past if one.issued_ms > row.at_ms - 24 * HOUR_MS]
        said = check(request, policy, recent, False, command.issued_ms)
        refused = said.decision == "refuse"
        storm = ("storm", str(data["storm"])) if data.get("storm") else ("", "")
        told = (said.reason, said.detail) if refused else storm
        out.append(Would(row.at_ms, command.incident, describe(command), *told))
        if not any(told):
            past.append(_as_sent(command, attempt))
    return out


def _as_sent(command: Command, attempt: int) -> Past:
    return Past(
        command=command.id,
        incident=command.incident,
        attempt=attempt,
        runbook=command.runbook,
        step=command.step,
        action=command.action,
        target=command.target.key(),
        issued_ms=command.issued_ms,
        repair=repair_of(command),
    )


def _is_by_a_person(row: AuditRow) -> bool:
    return row.kind in (*_BY_PEOPLE, *_APPROVALS) and not row.actor.startswith(OWN_ACTORS)


def _person(row: AuditRow) -> str:
    data = _data(row)
    text = data.get("text") or in_words(row.kind, data)
    return f"{_clock(row.at_ms)} {row.actor}, incident {row.incident}: {text}"


def _data(row: AuditRow) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(row.data)
    return found


def _clock(t_ms: int) -> str:
    return dt.datetime.fromtimestamp(t_ms / 1000, tz=dt.UTC).strftime("%H:%M:%S")


def summary_of(found: DayAccount) -> str:
    """The day in a sentence."""
    total = sum(len(one.incidents) for one in found.runbooks)
    would = [command for one in found.runbooks for command in one.would]
    stopped = sum(bool(one.refused) for one in would)
    done = sum(sum(one.done.values()) for one in found.runbooks)
    return (
        f"{count(total, 'incident')}; {count(len(would), 'command')} would have been given, of which a guardrail would "
        f"have stopped {stopped}; {count(done, 'command')} had an outcome."
    )


# in Markdown


def render_account(found: DayAccount) -> str:
    """The account in Markdown."""
    parts = [f"# Account of {found.day.isoformat()}", f"{summary_of(found)} Times are UTC."]
    for one in found.runbooks:
        parts += [f"## {line_of(one.runbook)}", _runbook(one)]
    return "\n\n".join(parts) + "\n"


def _runbook(one: RunbookDay) -> str:
    lines = [
        f"- Incidents: {len(one.incidents)} ({_counted(one.ends)}): {', '.join(f'#{i.id}' for i in one.incidents)}",
        f"- Cleared by themselves, with nothing done: {one.by_itself} of {len(one.incidents)}",
        f"- Would have been done: {len(one.would) or 'nothing'}",
        *(f"  - {_clock(w.at_ms)} #{w.incident}: {line_of(w.text)}{_stopped(w)}" for w in one.would),
    ]
    if one.refused:
        lines.append(f"- Refused by guardrails: {_counted(one.refused)}")
    if one.done:
        lines.append(f"- Was done: {_counted(one.done)}")
    lines.append("- What people did:" if one.people else "- What people did: nothing that was noted")
    lines += [f"  - {line_of(said)}" for said in one.people]
    return "\n".join(lines)


def _stopped(would: Would) -> str:
    return f" (a guardrail would have refused it: {would.refused}: {line_of(would.detail)})" if would.refused else ""


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"
