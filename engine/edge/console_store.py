"""`Store` on PostgreSQL: what the responder and executor wrote, as people are shown it."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import msgspec

from engine.console.model import Approval, Decision, DecisionRefusedError, Incident, IncidentDetail, Pause
from engine.console.views import IncidentLine, command_views, evidence_view, incident_view, timeline_views
from engine.edge import approvals, audit, control, incidents
from engine.edge.database import Database
from engine.response.report import render

_REFUSALS: dict[approvals.DecideReason, str] = {
    "unknown": "no such command waits for approval",
    "nameless": "a decision needs a name",
    "expired": "the approval has expired; nothing will be done",
    "already_decided": "it was decided already",
    "changed_command": "the command is not the one that was shown; look at it again",
}

_LINES = (
    "select id, title, status, waits, priority, severity, opened_ms, updated_ms, resolved_ms, "
    "state->'alerts'->(state->>'trigger') as alert from incidents"
)


class PostgresStore:
    """The store over an open database."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms

    async def incidents(self, *, open_only: bool, limit: int) -> list[Incident]:
        """Incidents, newest first."""
        async with self._database.connection() as conn:
            rows = await conn.fetch(
                f"{_LINES} where ($1 = false or status = 'open') order by id desc limit $2", open_only, limit
            )
        return [incident_view(_line(row)) for row in rows]

    async def incident(self, number: int) -> IncidentDetail | None:
        """One incident whole, None if there is no such number."""
        async with self._database.connection() as conn:
            row = await conn.fetchrow(f"{_LINES} where id = $1", number)
            record = await incidents.record(conn, number)
            waiting = await approvals.waiting(conn, self._now_ms())
        if row is None or record is None:
            return None
        return IncidentDetail(
            incident=incident_view(_line(row)),
            timeline=timeline_views(record),
            evidence=[evidence_view(item.step, item.query, item.result) for item in record.evidence],
            commands=command_views(record.state.actions),
            approvals=[_approval(found) for found in waiting if found.incident == number],
        )

    async def report(self, number: int) -> str | None:
        """The incident report in Markdown, None if there is no such number."""
        async with self._database.connection() as conn:
            record = await incidents.record(conn, number)
        return render(record) if record is not None else None

    async def approvals(self) -> list[Approval]:
        """Commands that wait for a person, oldest first."""
        async with self._database.connection() as conn:
            return [_approval(found) for found in await approvals.waiting(conn, self._now_ms())]

    async def decide(self, command: str, decision: Decision, now_ms: int) -> None:
        """Take a decision; raises `DecisionRefusedError`."""
        verdict: approvals.Decision = "approved" if decision.approve else "denied"

        async def work(conn: asyncpg.Connection) -> approvals.Decided:
            decided = await approvals.decide(
                conn, command, verdict, by=decision.by, now_ms=now_ms, seen_sha256=decision.body_sha256
            )
            if decided.accepted and decided.approval and decision.reason:
                await audit.append(
                    conn,
                    at_ms=now_ms,
                    actor=decision.by,
                    kind="approval.reason",
                    incident=decided.approval.incident,
                    command=command,
                    data={"text": decision.reason},
                )
            return decided

        decided = await self._database.run(work)
        if not decided.accepted:
            raise DecisionRefusedError(_REFUSALS[decided.reason])

    async def pause(self) -> Pause:
        """Whether everything is paused, and by whom."""
        async with self._database.connection() as conn:
            state = await control.pause_state(conn)
        return Pause(state.paused, state.by, state.since_ms)

    async def set_pause(self, *, paused: bool, by: str, now_ms: int) -> None:
        """Pause or resume everything."""

        async def work(conn: asyncpg.Connection) -> None:
            await control.set_paused(conn, paused, by, now_ms)

        await self._database.run(work)


def _line(row: asyncpg.Record) -> IncidentLine:
    return msgspec.convert(dict(row), IncidentLine)


def _approval(found: approvals.Approval) -> Approval:
    command = found.decoded()
    return Approval(
        command=found.command,
        incident=found.incident,
        action=command.action,
        target=command.target.key(),
        params=command.params,
        body_sha256=found.body_sha256,
        requested_ms=found.requested_ms,
        expires_ms=found.expires_ms,
    )
