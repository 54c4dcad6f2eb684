"""One turn of an incident in the caller's transaction: read, `respond`, write, and what that does to other incidents.

Turns of all responders happen one after the other (`incidents.serialise`). What a turn asks of the world comes back as
its decisions; the caller acts on them after the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.core import labels as labelsets
from engine.core.messages import Outcome, Transition, encode
from engine.edge import approvals, control, incidents, silences
from engine.response import grouping
from engine.response.guardrails import Policy
from engine.response.hours import Hours
from engine.response.incident import open_incident, respond
from engine.response.model import (
    Absorbed,
    Alerted,
    Context,
    Decided,
    Decision,
    Event,
    Explained,
    Gathered,
    IncidentState,
    Investigate,
    LetGo,
    Merged,
    Note,
    Notice,
    Operated,
    Reported,
    RequestApproval,
    Send,
    TimerDue,
    WithdrawApproval,
)
from engine.response.signing import sign_body
from engine.response.silences import Mutes, Window
from engine.response.steps import Actions, Runbook, group_key, route

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ResponderConfig:
    """What the responder decides with. `clock` gives the wall clock in ms, `account_to` is told of each day.

    `hours` are those of the receivers that cannot be told at any time.
    """

    runbooks: Sequence[Runbook]
    actions: Actions
    policy: Policy
    key: Ed25519PrivateKey
    clock: Callable[[], int]
    maintenance: tuple[Window, ...] = ()
    account_to: str = ""
    hours: Mapping[str, Hours] = field(default_factory=dict)


class IncidentTurns:
    """Takes what comes to the incidents. Every method works in the caller's transaction and may be done again."""

    def __init__(self, config: ResponderConfig, counts: Counter[str]) -> None:
        self._config = config
        self._counts = counts
        self._runbooks = {runbook.name: runbook for runbook in config.runbooks}

    def reload(self, runbooks: Sequence[Runbook]) -> None:
        """Go on with other runbooks."""
        self._config = replace(self._config, runbooks=runbooks)
        self._runbooks = {runbook.name: runbook for runbook in runbooks}

    # what comes

    async def alert(self, conn: asyncpg.Connection, transition: Transition) -> list[Decision]:
        """An alert fires or has ended: it joins the incident that explains it, else is its runbook's."""
        await incidents.serialise(conn)
        if await incidents.was_seen(conn, f"alert:{transition.id}"):
            self._counts["duplicate"] += 1
            return []
        kept = await self._alert(conn, transition)
        if kept:
            await incidents.is_new(conn, f"alert:{transition.id}", kept[0].state.id, self._config.clock())
        return kept

    async def outcome(self, conn: asyncpg.Connection, outcome: Outcome) -> list[Decision]:
        """A command may have an outcome; what is believed stands in the database."""
        await incidents.serialise(conn)
        found = await incidents.outcome_of(conn, outcome.command)
        if found is None:
            self._counts["outcome_ignored"] += 1
            log.warning("responder.outcome_ignored", command=outcome.command, incident=outcome.incident)
            return []
        incident, written = found
        await incidents.write_outcome(conn, written)
        return await self.event(conn, incident, Reported(written), f"outcome:{written.command}")

    async def event(self, conn: asyncpg.Connection, incident: int, event: Event, mark: str | None) -> list[Decision]:
        """Something happened to one incident; `mark` names it where it may come twice."""
        await incidents.serialise(conn)
        state = await incidents.load(conn, incident, lock=True)
        if state is None:
            self._counts["unknown_incident"] += 1
            return []
        context = await self._context(conn, self._runbooks.get(state.runbook))
        if mark is not None and not await incidents.is_new(conn, mark, incident, context.now_ms):
            self._counts["duplicate"] += 1
            return []
        asked = state.awaiting.asked
        if isinstance(event, TimerDue) and isinstance(asked, RequestApproval):
            event = await self.decided(conn, asked.command.id) or event  # just before the time was over is in time
        decision = respond(state, event, context)
        if decision.state == state and not decision.effects:
            return [decision]
        if isinstance(event, Gathered) and isinstance(asked, Investigate):
            await incidents.write_evidence(conn, asked, event.evidence)
        return await self._keep(conn, decision, context)

    async def person(
        self, conn: asyncpg.Connection, seq: int, incident: int, event: Operated | Merged
    ) -> list[Decision]:
        """Apply what a person asked for, once."""
        await incidents.serialise(conn)
        if not await incidents.mark_operated(conn, seq, self._config.clock()):
            return []
        state = await incidents.load(conn, incident, lock=True)
        if isinstance(event, Merged):
            into = await incidents.load(conn, event.into, lock=True)
            if state is None or into is None or not state.status == into.status == "open":
                return await self._refuse(conn, incident, "incident.not_merged", event.by, "one of them is not open")
            return await self._merge(conn, state, into, event.by, await self._context(conn, None))
        if event.kind == "reopen" and state is not None:
            other = await incidents.latest(conn, await incidents.group_of(conn, incident))
            if other is not None and other.status == "open":
                why = f"incident {other.id} of the same group is open"
                return await self._refuse(conn, incident, "incident.not_reopened", event.by, why)
        return await self.event(conn, incident, event, None)

    async def decided(self, conn: asyncpg.Connection, command: str) -> Decided | None:
        """What was decided about a command; None while that is open."""
        found = await approvals.find(conn, command)
        if found is None or found.state == "waiting":
            return None
        return Decided(found.command, found.state == "approved", found.deciders)

    # how an alert finds its incident

    async def _alert(self, conn: asyncpg.Connection, transition: Transition) -> list[Decision]:
        runbook = route(list(self._config.runbooks), transition.labels)
        key = _group_key(runbook, transition) if runbook else ""
        state = await incidents.latest(conn, key) if runbook else None
        context = await self._context(conn, runbook)
        host = await self._host(conn, transition, state)
        if host is not None:
            return await self._keep(conn, respond(host, Explained(transition), self._for(host, context)), context)
        if runbook is None:
            self._counts["no_runbook"] += 1
            log.info("responder.no_runbook", alertname=transition.alertname, labels=transition.labels)
            return []
        if state is not None and self._takes(state, transition, context):
            return await self._keep(conn, respond(state, Alerted(transition), context), context)
        if transition.state != "firing":
            self._counts["resolved_without_incident"] += 1
            return []
        decision = open_incident(await incidents.next_id(conn), transition, context)
        return await self._keep(conn, await self._with_related(conn, decision, context), context, key)

    async def _host(
        self, conn: asyncpg.Connection, transition: Transition, own: IncidentState | None
    ) -> IncidentState | None:
        """The open incident that an alert has joined or that explains it, unless it is one's own already."""
        fingerprint = transition.fingerprint
        if own is not None and own.status == "open" and fingerprint in own.alerts:
            return None
        explaining = [runbook.name for runbook in self._config.runbooks if runbook.explains]
        found = await incidents.open_hosts(conn, fingerprint, explaining)
        joined = [state for state in found if fingerprint in state.joined]
        if joined or transition.state != "firing":
            return joined[0] if joined else None
        fitting = (s for s in found if grouping.explains(self._runbooks.get(s.runbook), s, transition.labels))
        return next(fitting, None)

    def _takes(self, state: IncidentState, transition: Transition, context: Context) -> bool:
        """Whether the last incident of a group is the one that a transition belongs to."""
        if state.status == "open" or transition.state != "firing":
            return True
        reopen_ms = context.runbook.limits.reopen_ms if context.runbook else 0
        ended_ms = state.resolved_ms or 0
        return state.status == "resolved" and context.now_ms - ended_ms <= reopen_ms

    # what one incident does to others

    async def _keep(
        self, conn: asyncpg.Connection, decision: Decision, context: Context, key: str = ""
    ) -> list[Decision]:
        """Write a decision, and do what follows from it for other incidents."""
        state = decision.state
        await self._write(conn, key or await incidents.group_of(conn, state.id), decision, context.now_ms)
        kept = [decision]
        for effect in decision.effects:
            if isinstance(effect, LetGo):
                kept += await self._alert(conn, effect.transition)
        if any(isinstance(effect, Note) and effect.kind == "alert.firing" for effect in decision.effects):
            kept += await self._take_over(conn, state, context)
        return kept

    async def _take_over(self, conn: asyncpg.Connection, state: IncidentState, context: Context) -> list[Decision]:
        runbook = self._runbooks.get(state.runbook)
        kept: list[Decision] = []
        if runbook is None or not runbook.explains:
            return kept
        for other in await incidents.open_others(conn, state.id):
            if grouping.takes_over(runbook, state, other):
                kept += await self._merge(conn, other, kept[-1].state if kept else state, "", context)
        return kept

    async def _merge(
        self, conn: asyncpg.Connection, other: IncidentState, into: IncidentState, by: str, context: Context
    ) -> list[Decision]:
        if other.id == into.id:
            return []
        over = respond(other, Merged(into.id, by), self._for(other, context))
        taken = respond(into, Absorbed(other, by), self._for(into, context))
        return [*await self._keep(conn, over, context), *await self._keep(conn, taken, context)]

    async def _with_related(self, conn: asyncpg.Connection, decision: Decision, context: Context) -> Decision:
        """A decision that opens an incident, with the line that names related ones; they get one that names it."""
        state, now_ms = decision.state, context.now_ms
        found = grouping.related(state, await incidents.of_service(conn, state, now_ms - grouping.RELATED_MS), now_ms)
        for other in found:
            if other.status == "open":
                await incidents.write_note(conn, other.id, grouping.related_note(other, [state], now_ms), now_ms)
        notes = [grouping.related_note(state, found, now_ms)] if found else []
        return Decision(state, [*decision.effects, *notes])

    async def _refuse(self, conn: asyncpg.Connection, incident: int, kind: str, by: str, why: str) -> list[Decision]:
        """Note that what a person asked for could not be done any more."""
        now_ms = self._config.clock()
        note = Note(kind, f"asked for by {by}, and not done: {why}", now_ms, {"by": by, "reason": why})
        await incidents.write_note(conn, incident, note, now_ms)
        return []

    # reading and writing

    def _for(self, state: IncidentState, context: Context) -> Context:
        return replace(context, runbook=self._runbooks.get(state.runbook))

    async def _context(self, conn: asyncpg.Connection, runbook: Runbook | None) -> Context:
        now_ms = self._config.clock()
        return Context(
            now_ms=now_ms,
            runbook=runbook,
            actions=self._config.actions,
            policy=self._config.policy,
            history=await incidents.history(conn, now_ms),
            firings=await incidents.firings(conn, now_ms),
            paused=await control.is_paused(conn),
            mutes=Mutes(await silences.not_over(conn, now_ms), self._config.maintenance),
            hours=self._config.hours,
        )

    async def _write(self, conn: asyncpg.Connection, key: str, decision: Decision, now_ms: int) -> None:
        state = decision.state
        await incidents.store(conn, key, decision, now_ms)
        for effect in decision.effects:
            if isinstance(effect, Send):
                await self._to_outbox(conn, state, effect)
            elif isinstance(effect, Notice):
                await incidents.write_notice(conn, effect, now_ms)
        # What writes to the audit comes last: its head stays locked until the commit.
        for effect in decision.effects:
            if isinstance(effect, Note):
                await incidents.write_note(conn, state.id, effect, now_ms)
            elif isinstance(effect, RequestApproval | WithdrawApproval):
                await incidents.write_question(conn, effect, now_ms)

    async def _to_outbox(self, conn: asyncpg.Connection, state: IncidentState, effect: Send) -> None:
        approved = await approvals.find(conn, effect.command.id)
        # What a person approved is sent as the very text they approved.
        body = approved.body if approved is not None else encode(effect.command).decode()
        signed = msgspec.structs.replace(sign_body(body, self._config.key), received_ms=state.alert.received_ms)
        await incidents.write_command(conn, effect.command, state.attempt, signed)


def _group_key(runbook: Runbook, transition: Transition) -> str:
    group = group_key(runbook, transition.labels)
    return f"{runbook.name} {labelsets.encode(group).decode()}"
