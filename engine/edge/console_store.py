"""`Store` on PostgreSQL: what the responder and executor wrote, as people are shown it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import asyncpg
import msgspec

from engine.console.model import (
    Approval,
    Decision,
    DecisionRefusedError,
    Incident,
    IncidentDetail,
    NoticeView,
    OperatorKind,
    OperatorRefusedError,
    Pause,
    Said,
    UndeliveredView,
    UnderWay,
)
from engine.console.views import (
    IncidentLine,
    command_views,
    evidence_view,
    incident_view,
    joined_views,
    timeline_views,
    waits_for,
)
from engine.core.messages import decode_command
from engine.edge import accounts, approvals, audit, claims, control, deliveries, incident_stats, incidents, silences
from engine.edge.database import Database
from engine.response.account import DayAccount
from engine.response.guardrails import Policy
from engine.response.model import IncidentState
from engine.response.report import render
from engine.response.report_html import render_html
from engine.response.silences import Silence
from engine.response.stats import Lifetime

_REFUSALS: dict[approvals.DecideReason, str] = {
    "unknown": "no such command waits for approval",
    "nameless": "a decision needs a name",
    "expired": "the approval has expired; nothing will be done",
    "already_decided": "it was decided already",
    "changed_command": "the command is not the one that was shown; look at it again",
    "same_person": "you have agreed already; a second person must agree too",
}

_LINES = (
    "select id, title, status, waits, priority, severity, opened_ms, updated_ms, resolved_ms, "
    "state->'alerts'->(state->>'trigger') as alert from incidents"
)


class PostgresStore:
    """The store over an open database."""

    def __init__(self, database: Database, now_ms: Callable[[], int], policy: Policy | None = None) -> None:
        self._database = database
        self._policy = policy or Policy()
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
            waiting = await _waiting(conn, self._now_ms())
            told = await conn.fetch(
                "select n.at_ms, n.kind, n.priority, n.told, n.text, (select coalesce(json_agg(json_build_object("
                "'receiver', d.receiver, 'state', d.state, 'attempts', d.attempts, 'done_ms', d.done_ms, "
                "'last_error', d.last_error, 'held_until_ms', d.held_until_ms) order by d.seq), '[]') "
                "from deliveries d where d.notice = n.id) "
                "as deliveries from notices n where n.incident = $1 order by n.seq",
                number,
            )
        if row is None or record is None:
            return None
        state = record.state
        waits, until_ms = waits_for(state)
        return IncidentDetail(
            incident=incident_view(_line(row)),
            timeline=timeline_views(record),
            evidence=[evidence_view(item.step, item.query, item.result) for item in record.evidence],
            commands=command_views(state.actions),
            approvals=[found for found in waiting if found.incident == number],
            notices=[msgspec.convert(dict(notice), NoticeView) for notice in told],
            acknowledged_by=state.acknowledged_by,
            acknowledged_ms=state.acknowledged_ms,
            waits_for=waits,
            waits_until_ms=until_ms,
            joined=joined_views(state),
            merged_into=state.merged_into,
        )

    async def report(self, number: int) -> str | None:
        """The incident report in Markdown, None if there is no such number."""
        async with self._database.connection() as conn:
            record = await incidents.record(conn, number)
        return render(record) if record is not None else None

    async def report_page(self, number: int) -> str | None:
        """The incident report as a page by itself, None if there is no such number."""
        async with self._database.connection() as conn:
            record = await incidents.record(conn, number)
        return render_html(record, self._now_ms()) if record is not None else None

    async def account(self, day: dt.date) -> DayAccount:
        """What a day in UTC came to, so far."""
        async with self._database.connection() as conn:
            return await accounts.read(conn, day, self._policy)

    async def lifetimes(self, from_ms: int, to_ms: int) -> list[Lifetime]:
        """Incidents opened in a span of time, with their times."""
        async with self._database.connection() as conn:
            return await incident_stats.lifetimes(conn, from_ms, to_ms)

    async def approvals(self) -> list[Approval]:
        """Commands that wait for a person, oldest first."""
        async with self._database.connection() as conn:
            return await _waiting(conn, self._now_ms())

    async def approval(self, command: str) -> Approval | None:
        """What was asked about a command, also if it is decided already."""
        async with self._database.connection() as conn:
            found = await approvals.find(conn, command)
            return (await _with_questions(conn, [found]))[0] if found is not None else None

    async def decide(self, command: str, decision: Decision, now_ms: int) -> Approval:
        """Take a decision; what it was about, as it stands then. Raises `DecisionRefusedError`."""
        verdict: approvals.Decision = "approved" if decision.approve else "denied"

        async def work(conn: asyncpg.Connection) -> approvals.Decided:
            decided = await approvals.decide(
                conn, command, verdict, by=decision.by, now_ms=now_ms, seen_sha256=decision.body_sha256
            )
            if decided.accepted and not decided.repeated and decided.approval and decision.reason:
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
        if not decided.accepted or decided.approval is None:
            raise DecisionRefusedError(_REFUSALS[decided.reason])
        return _approval(decided.approval)

    async def operator(self, number: int, kind: OperatorKind, said: Said, now_ms: int) -> None:
        """Hand what a person says about an incident to the responder; raises `OperatorRefusedError`."""

        async def work(conn: asyncpg.Connection) -> str:
            refusal = await _refusal(conn, number, kind, said)
            if not refusal:
                await conn.execute(
                    "insert into operator_events (incident, kind, by_name, text, at_ms, into_incident) "
                    "values ($1, $2, $3, $4, $5, $6)",
                    number,
                    kind,
                    said.by,
                    said.text,
                    now_ms,
                    said.into,
                )
            return refusal

        refusal = await self._database.run(work)
        if refusal:
            raise OperatorRefusedError(refusal)

    async def undelivered(self) -> list[UndeliveredView]:
        """The receivers that cannot be told of something, for now or at all."""

        async def work(conn: asyncpg.Connection) -> list[deliveries.Trouble]:
            return await deliveries.troubles(conn)

        return [UndeliveredView(**msgspec.structs.asdict(one)) for one in await self._database.run(work)]

    async def under_way(self) -> list[UnderWay]:
        """Commands that executors are carrying out now, oldest first."""
        async with self._database.connection() as conn:
            taken = await claims.under_way(conn)
        return [
            UnderWay(
                command=claim.command,
                incident=claim.incident,
                action=decode_command(claim.body).action,
                target=claim.target,
                executor=claim.executor,
                since_ms=claim.claimed_ms,
                lapsed=claim.lapsed,
            )
            for claim in taken
        ]

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

    async def silences(self, limit: int) -> list[Silence]:
        """Silences, also those that are over, the last to end first."""
        async with self._database.connection() as conn:
            return await silences.newest(conn, limit)

    async def silence(self, silence_id: str) -> Silence | None:
        """One silence."""
        async with self._database.connection() as conn:
            return await silences.find(conn, silence_id)

    async def add_silence(self, silence: Silence, now_ms: int) -> Silence:
        """Keep a new silence, which gets its id; raises `ValueError` when it cannot be one."""
        named = msgspec.structs.replace(silence, id=silences.new_id())

        async def work(conn: asyncpg.Connection) -> Silence:
            return await silences.add(conn, named, now_ms)

        return await self._database.run(work)

    async def expire_silence(self, silence_id: str, by: str, now_ms: int) -> Silence | None:
        """End a silence now; None when none of this id holds or will."""

        async def work(conn: asyncpg.Connection) -> Silence | None:
            return await silences.expire(conn, silence_id, by, now_ms)

        return await self._database.run(work)


async def _refusal(conn: asyncpg.Connection, number: int, kind: OperatorKind, said: Said) -> str:
    """Why what a person says about an incident does not count, "" if it does."""
    state = await incidents.load(conn, number)
    if state is None:
        return f"there is no incident {number}; `sentinel incidents` lists them"
    if kind == "reopen":
        return await _not_reopened(conn, state)
    if state.status != "open":
        return f"incident {number} is {state.status} already"
    if kind == "acknowledge" and state.acknowledged_by:
        return f"incident {number} was acknowledged by {state.acknowledged_by}, who looks after it; add a note for them"
    if kind == "merge":
        into = await incidents.load(conn, said.into or 0)
        if into is None or into.id == number or into.status != "open":
            return f"incident {number} can be merged into another one that is open; {said.into} is none"
    return ""


async def _not_reopened(conn: asyncpg.Connection, state: IncidentState) -> str:
    if state.status == "open":
        return f"incident {state.id} is open"
    if state.merged_into is not None:
        return f"incident {state.id} was merged into incident {state.merged_into}; open that one"
    other = await incidents.latest(conn, await incidents.group_of(conn, state.id))
    if other is not None and other.status == "open":
        return f"incident {other.id} of the same group is open; add a note there"
    return ""


def _line(row: asyncpg.Record) -> IncidentLine:
    return msgspec.convert(dict(row), IncidentLine)


async def _waiting(conn: asyncpg.Connection, now_ms: int) -> list[Approval]:
    return await _with_questions(conn, await approvals.waiting(conn, now_ms))


async def _with_questions(conn: asyncpg.Connection, found: list[approvals.Approval]) -> list[Approval]:
    """Approvals with the question that their incident asks."""
    rows = await conn.fetch(
        "select asked, state->'awaiting'->'asked'->>'question' as question from incidents where asked = any($1)",
        [approval.command for approval in found],
    )
    questions = {row["asked"]: row["question"] or "" for row in rows}
    return [_approval(approval, questions.get(approval.command, "")) for approval in found]


def _approval(found: approvals.Approval, question: str = "") -> Approval:
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
        question=question,
        people=found.people,
        yes_by=found.yes_by,
        state=found.state,
    )
