"""Incidents in PostgreSQL: reading and writing them, always inside the caller's transaction."""

from __future__ import annotations

import asyncpg
import msgspec

from engine.core.messages import Command, Outcome, SignedCommand, encode
from engine.edge import approvals, audit, claims
from engine.edge.incident_series import read_series
from engine.response.commands import describe
from engine.response.guardrails import DAY_MS, Past, repair_of
from engine.response.model import (
    Decision,
    Evidence,
    IncidentState,
    Investigate,
    Merged,
    Note,
    Notice,
    Operated,
    RequestApproval,
    Send,
    WithdrawApproval,
)
from engine.response.record import CommandRow, EvidenceRow, IncidentRecord
from engine.response.storm import Firing, subject_of
from engine.response.words import cleaned

_RESPONDERS = 0x5E47_1E57  # any constant of ours: turns of all responders happen one after the other
_decode_state = msgspec.json.Decoder(IncidentState).decode


async def serialise(conn: asyncpg.Connection) -> None:
    """Wait for the other responders' turns: the guardrails have to see what they have just sent."""
    await conn.execute("select pg_advisory_xact_lock($1)", _RESPONDERS)


async def next_id(conn: asyncpg.Connection) -> int:
    """The number of a new incident."""
    return int(await conn.fetchval("select nextval(pg_get_serial_sequence('incidents', 'id'))"))


async def is_new(conn: asyncpg.Connection, event: str, incident: int, at_ms: int) -> bool:
    """Note an event; whether it had not been seen before."""
    added = await conn.fetchval(
        "insert into incident_events (event, incident, at_ms) values ($1, $2, $3) on conflict do nothing returning 1",
        event,
        incident,
        at_ms,
    )
    return added is not None


async def was_seen(conn: asyncpg.Connection, event: str) -> bool:
    """Whether an event was noted before."""
    return await conn.fetchval("select 1 from incident_events where event = $1", event) is not None


async def load(conn: asyncpg.Connection, incident: int, *, lock: bool = False) -> IncidentState | None:
    """An incident's state."""
    query = "select state::text from incidents where id = $1"
    text = await conn.fetchval(f"{query} for update" if lock else query, incident)
    return _decode_state(text) if text is not None else None


async def latest(conn: asyncpg.Connection, group_key: str) -> IncidentState | None:
    """The open incident of a group, else its last one, locked."""
    query = (
        "select state::text from incidents where group_key = $1 order by (status = 'open') desc, id desc limit 1 "
        "for update"
    )
    text = await conn.fetchval(query, group_key)
    return _decode_state(text) if text is not None else None


async def group_of(conn: asyncpg.Connection, incident: int) -> str:
    """The group of an incident that is kept already."""
    return str(await conn.fetchval("select group_key from incidents where id = $1", incident))


async def open_hosts(conn: asyncpg.Connection, fingerprint: str, runbooks: list[str]) -> list[IncidentState]:
    """Open incidents that an alert has joined, or of runbooks that may explain it; locked, the oldest first."""
    rows = await conn.fetch(
        "select state::text from incidents where status = 'open' and ($1 = any(joined) or runbook = any($2)) "
        "order by id for update",
        fingerprint,
        runbooks,
    )
    return [_decode_state(row["state"]) for row in rows]


async def open_others(conn: asyncpg.Connection, incident: int) -> list[IncidentState]:
    """The other open incidents, locked, the oldest first."""
    query = "select state::text from incidents where status = 'open' and id <> $1 order by id for update"
    return [_decode_state(row["state"]) for row in await conn.fetch(query, incident)]


async def of_service(conn: asyncpg.Connection, state: IncidentState, since_ms: int) -> list[IncidentState]:
    """Incidents that may be about the same service (label `service`, else `job`), open or ended since then."""
    labels = state.alert.labels
    rows = await conn.fetch(
        "select state::text from incidents, lateral (select state->'alerts'->(state->>'trigger')->'labels' as l) t "
        "where id <> $1 and (status = 'open' or resolved_ms >= $2) and coalesce(l->>'service', l->>'job') = $3 "
        "order by id desc limit 50",
        state.id,
        since_ms,
        labels.get("service") or labels.get("job", ""),
    )
    return [_decode_state(row["state"]) for row in rows]


async def store(conn: asyncpg.Connection, group_key: str, decision: Decision, now_ms: int) -> None:
    """Write an incident's new state (an upsert)."""
    state = decision.state
    asked = state.awaiting.asked
    titles = [e.text for e in decision.effects if isinstance(e, Note) and e.kind == "incident.opened"]
    await conn.execute(
        "insert into incidents (id, runbook, group_key, status, priority, severity, title, opened_ms, updated_ms, "
        "resolved_ms, waits, asked, wake_ms, joined, subject, fired_ms, storm, acknowledged, state) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text::json) "
        "on conflict (id) do update set status = excluded.status, priority = excluded.priority, "
        "severity = excluded.severity, updated_ms = excluded.updated_ms, resolved_ms = excluded.resolved_ms, "
        "waits = excluded.waits, asked = excluded.asked, wake_ms = excluded.wake_ms, joined = excluded.joined, "
        "fired_ms = excluded.fired_ms, storm = excluded.storm, acknowledged = excluded.acknowledged, "
        "state = excluded.state",
        state.id,
        state.runbook,
        group_key,
        state.status,
        state.priority,
        state.severity,
        titles[0] if titles else state.runbook,
        state.opened_ms,
        now_ms,
        state.resolved_ms,
        state.awaiting.kind,
        asked.command.id if isinstance(asked, Send | RequestApproval) else None,
        state.wake_ms,
        [mark for mark, alert in state.joined.items() if alert.standing != "handed_over"],
        subject_of(state.runbook, state.group),
        state.fired_ms,
        state.storm,
        bool(state.acknowledged_by),
        msgspec.json.encode(state).decode(),
    )


async def write_question(conn: asyncpg.Connection, effect: RequestApproval | WithdrawApproval, now_ms: int) -> None:
    """Ask a person about a command, or take the question back."""
    if isinstance(effect, RequestApproval):
        body = encode(effect.command).decode()
        await approvals.request(
            conn, body, now_ms=now_ms, expires_ms=effect.expires_ms, by="responder", people=effect.people
        )
        return
    found = await approvals.find(conn, effect.command, lock=True)
    if found is None:
        return
    if found.state == "waiting" and now_ms < found.expires_ms:
        await approvals.decide(conn, effect.command, "denied", by=f"responder ({effect.reason})", now_ms=now_ms)
    elif found.state == "approved":
        # Whoever agreed has to hear that it came to nothing.
        text = f"{describe(found.decoded())}: approved by {found.deciders}, and not sent: {effect.reason}"
        data: dict[str, object] = {"by": found.deciders, "reason": effect.reason}
        await write_note(conn, found.incident, Note("command.not_sent", text, now_ms, data, effect.command), now_ms)


async def write_command(conn: asyncpg.Connection, command: Command, attempt: int, signed: SignedCommand) -> None:
    """Put a command into the outbox, once."""
    await conn.execute(
        "insert into commands (command, incident, attempt, runbook, step, action, target, issued_ms, expires_ms, "
        "signed, repair) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing",
        command.id,
        command.incident,
        attempt,
        command.runbook,
        command.step,
        command.action,
        command.target.key(),
        command.issued_ms,
        command.expires_ms,
        encode(signed).decode(),
        repair_of(command),
    )


async def outcome_of(conn: asyncpg.Connection, command: str) -> tuple[int, Outcome] | None:
    """The incident of a command that was sent, and the outcome that its executor wrote down; None without one.

    The topic `outcomes` is not signed, so a message on it is believed only as far as the database says the same.
    """
    incident = await conn.fetchval("select incident from commands where command = $1", command)
    claim = await claims.find(conn, command) if incident is not None else None
    if claim is None or claim.outcome is None:
        return None
    return incident, cleaned(claim.outcome)


async def write_outcome(conn: asyncpg.Connection, outcome: Outcome) -> None:
    """Note what became of a command; the first word counts."""
    await conn.execute(
        "update commands set status = $2, reason = $3, finished_ms = greatest($4::bigint, 1) "
        "where command = $1 and finished_ms = 0",
        outcome.command,
        outcome.status,
        outcome.reason,
        outcome.finished_ms,
    )


async def undone_operations(conn: asyncpg.Connection) -> list[tuple[int, int, Operated | Merged]]:
    """What people asked for and what is not applied yet, oldest first: (number, incident, event)."""
    rows = await conn.fetch(
        "select seq, incident, kind, by_name, text, into_incident from operator_events where done_ms is null "
        "order by seq limit 100"
    )
    return [(row["seq"], row["incident"], _operation(row)) for row in rows]


def _operation(row: asyncpg.Record) -> Operated | Merged:
    if row["kind"] == "merge":
        return Merged(row["into_incident"], row["by_name"])
    return Operated(row["kind"], row["by_name"], row["text"])


async def mark_operated(conn: asyncpg.Connection, seq: int, now_ms: int) -> bool:
    """Note that something a person asked for is being applied; False when it was applied before."""
    query = "update operator_events set done_ms = $2 where seq = $1 and done_ms is null returning seq"
    return await conn.fetchval(query, seq, now_ms) is not None


async def operate(conn: asyncpg.Connection, incident: int, event: Operated, now_ms: int) -> str | None:
    """Hand what a person says to the responder, if the incident is open; its status, None when there is none such."""
    status: str | None = await conn.fetchval("select status from incidents where id = $1 for share", incident)
    if status == "open":
        await conn.execute(
            "insert into operator_events (incident, kind, by_name, text, at_ms) values ($1, $2, $3, $4, $5)",
            incident,
            event.kind,
            event.by,
            event.text,
            now_ms,
        )
    return status


async def write_notice(conn: asyncpg.Connection, notice: Notice, now_ms: int) -> None:
    """Put a notification into its outbox, once."""
    await conn.execute(
        "insert into notices (id, incident, kind, told, priority, text, command, at_ms) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        notice.id,
        notice.incident,
        notice.kind,
        list(notice.to),
        notice.priority,
        notice.text,
        notice.command or None,
        now_ms,
    )


async def write_evidence(conn: asyncpg.Connection, asked: Investigate, found: Evidence) -> None:
    """Keep what an investigation asked and found."""
    await conn.execute(
        "insert into evidence (incident, attempt, step, gathered_ms, query, result) "
        "values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        asked.incident,
        asked.attempt,
        asked.step,
        found.at_ms,
        msgspec.to_builtins(asked.query),
        msgspec.to_builtins(found),
    )


async def write_note(conn: asyncpg.Connection, incident: int, note: Note, now_ms: int) -> None:
    """Append a row to the audit; `happened_ms` is when it happened, `at_ms` of the row when it was noted."""
    data = {"text": note.text, "happened_ms": note.at_ms, **note.data}
    await audit.append(
        conn, at_ms=now_ms, actor=note.actor, kind=note.kind, incident=incident, command=note.command, data=data
    )


async def history(conn: asyncpg.Connection, now_ms: int) -> tuple[Past, ...]:
    """The commands of the last day."""
    rows = await conn.fetch(
        "select command, incident, attempt, runbook, step, action, target, issued_ms, status, finished_ms, repair "
        "from commands where issued_ms > $1 order by seq desc limit 5000",
        now_ms - DAY_MS,
    )
    return tuple(Past(**dict(row)) for row in rows)


async def firings(conn: asyncpg.Connection, now_ms: int) -> tuple[Firing, ...]:
    """The incidents whose alerts began to fire within the last day, but for those that were closed or merged."""
    rows = await conn.fetch(
        "select id as incident, subject, fired_ms, storm, acknowledged from incidents "
        "where fired_ms > $1 and status <> 'closed' order by fired_ms desc limit 5000",
        now_ms - DAY_MS,
    )
    return tuple(Firing(**dict(row)) for row in rows)


async def record(conn: asyncpg.Connection, incident: int) -> IncidentRecord | None:
    """All that is stored of an incident."""
    state = await load(conn, incident)
    if state is None:
        return None
    found = await conn.fetch(
        "select attempt, step, gathered_ms, query, result from evidence where incident = $1 order by seq",
        incident,
    )
    sent = await conn.fetch(
        "select command, attempt, step, action, target, issued_ms, sent_ms, status, reason, finished_ms "
        "from commands where incident = $1 order by seq",
        incident,
    )
    return IncidentRecord(
        state=state,
        title=str(await conn.fetchval("select title from incidents where id = $1", incident)),
        timeline=await audit.rows(conn, incident=incident),
        evidence=[EvidenceRow(**{**dict(r), "result": msgspec.convert(r["result"], Evidence)}) for r in found],
        commands=[CommandRow(**dict(row)) for row in sent],
        series=await read_series(conn, incident),
    )
