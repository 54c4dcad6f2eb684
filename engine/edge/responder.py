"""The responder: takes alerts, outcomes, decisions and time to the incidents, and what they ask for to the world.

Every turn is one PostgreSQL transaction: lock, drop what was seen before, `respond`, write the new state, the audit,
and the outbox. Only after its commit is anything asked or sent, and what a crash cuts off there is found again in the
database by `on_tick`: an unanswered question is asked again, an unsent command is sent again (its id makes that
harmless).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import asyncpg
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.core import labels as labelsets
from engine.core.messages import Outcome, SignedCommand, Transition, encode
from engine.edge import approvals, control, incidents, silences
from engine.edge.database import Database
from engine.edge.investigate import Investigator
from engine.response.guardrails import Policy
from engine.response.incident import open_incident, respond
from engine.response.model import (
    Alerted,
    Context,
    Decided,
    Decision,
    Event,
    Gathered,
    IncidentState,
    Investigate,
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
from engine.response.words import cleaned

log = structlog.get_logger(__name__)

SendCommand = Callable[[str, SignedCommand], Awaitable[None]]

_ASK_AGAIN_MS = 15_000
_decode_signed = msgspec.json.Decoder(SignedCommand).decode


@dataclass(frozen=True)
class ResponderConfig:
    """What the responder decides with. `clock` gives the wall clock in ms."""

    runbooks: Sequence[Runbook]
    actions: Actions
    policy: Policy
    key: Ed25519PrivateKey
    clock: Callable[[], int]
    maintenance: tuple[Window, ...] = ()


class Responder:
    """Runs the incidents. `send(key, command)` puts a command on its topic; use as an async context manager."""

    def __init__(
        self, config: ResponderConfig, database: Database, investigator: Investigator, send: SendCommand
    ) -> None:
        self._config = config
        self._database = database
        self._investigator = investigator
        self._send = send
        self._runbooks = {runbook.name: runbook for runbook in config.runbooks}
        self._asking: dict[tuple[int, int, str], asyncio.Task[None]] = {}
        self._flushing = asyncio.Lock()
        self._is_fresh = True
        self._silences_seen = -1
        self.counts: Counter[str] = Counter()

    def reload(self, runbooks: Sequence[Runbook]) -> None:
        """Go on with other runbooks; an incident that is open follows its runbook's new text from its next step on."""
        self._config = replace(self._config, runbooks=runbooks)
        self._runbooks = {runbook.name: runbook for runbook in runbooks}

    async def __aenter__(self) -> Responder:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # what comes in

    async def on_transition(self, transition: Transition) -> None:
        """An alert changed. Pending and inactive alerts, and alerts no runbook matches, are only counted."""
        transition = cleaned(transition)
        if transition.state not in ("firing", "resolved"):
            self.counts["transition_ignored"] += 1
            return
        runbook = route(list(self._config.runbooks), transition.labels)
        if runbook is None:
            self.counts["no_runbook"] += 1
            log.info("responder.no_runbook", alertname=transition.alertname, labels=transition.labels)
            return

        async def work(conn: asyncpg.Connection) -> Decision | None:
            return await self._alert_turn(conn, transition, runbook)

        await self._after(await self._database.run(work))

    async def on_outcome(self, outcome: Outcome) -> None:
        """A command may have an outcome. The message only rings: what is believed stands in the database."""

        async def work(conn: asyncpg.Connection) -> Decision | None:
            await incidents.serialise(conn)
            found = await incidents.outcome_of(conn, outcome.command)
            if found is None:
                self.counts["outcome_ignored"] += 1
                log.warning("responder.outcome_ignored", command=outcome.command, incident=outcome.incident)
                return None
            incident, written = found
            await incidents.write_outcome(conn, written)
            return await self._turn(conn, incident, Reported(written), f"outcome:{written.command}")

        await self._after(await self._database.run(work))

    async def on_tick(self, now_ms: int) -> None:
        """Time has passed: people's words, decided approvals, due timers, unanswered questions, unsent commands."""
        await self._operate()
        async with self._database.connection() as conn:
            decided = await conn.fetch(
                "select a.command, a.incident from approvals a join incidents i "
                "on i.id = a.incident and i.asked = a.command and i.waits = 'approval' and i.status = 'open' "
                "where a.state <> 'waiting'"
            )
            answers = [await self._decided(conn, row["command"]) for row in decided]
            # Those that are held may go on as soon as a silence changes.
            known, self._silences_seen = self._silences_seen, await silences.version(conn)
            due = await conn.fetch(
                "select id, waits from incidents where status = 'open' and (wake_ms <= $1 or (waits = 'muted' and $2))",
                now_ms,
                known != self._silences_seen,
            )
        events: list[tuple[int, Event, str | None]] = [
            (row["incident"], answer, row["command"])
            for row, answer in zip(decided, answers, strict=True)
            if answer is not None
        ]
        # A question that is being asked has its own time limit, and after a start it is asked again first.
        asking = {incident for incident, _, _ in self._asking}
        events += [
            (row["id"], TimerDue(), None)
            for row in due
            if row["waits"] != "evidence" or not (self._is_fresh or row["id"] in asking)
        ]
        for incident, event, command in events:
            mark = f"decided:{command}" if command else None
            await self._try(incident, self._on(incident, event, mark))
        await self._ask_again(now_ms)
        await self.flush_outbox()

    async def _operate(self) -> None:
        """Apply what people acknowledged, closed and noted, in their order and each once."""
        async with self._database.connection() as conn:
            undone = await incidents.undone_operations(conn)
        failed: set[int] = set()
        for seq, incident, event in undone:
            if incident not in failed and not await self._try(incident, self._apply(seq, incident, event)):
                failed.add(incident)

    async def _apply(self, seq: int, incident: int, event: Operated) -> None:
        async def work(conn: asyncpg.Connection) -> Decision | None:
            await incidents.serialise(conn)
            if not await incidents.mark_operated(conn, seq, self._config.clock()):
                return None
            return await self._turn(conn, incident, event, None)

        await self._after(await self._database.run(work))

    async def _try(self, incident: int, turn: Awaitable[None]) -> bool:
        """Take a turn; whether it went well. One incident that cannot go on must not hold up the others."""
        try:
            await turn
        except Exception:  # whatever it is, the next tick tries again
            self.counts["turn_failed"] += 1
            log.exception("responder.turn_failed", incident=incident)
            return False
        return True

    async def _on(self, incident: int, event: Event, mark: str | None) -> None:
        async def work(conn: asyncpg.Connection) -> Decision | None:
            return await self._turn(conn, incident, event, mark)

        await self._after(await self._database.run(work))

    # one turn

    async def _alert_turn(self, conn: asyncpg.Connection, transition: Transition, runbook: Runbook) -> Decision | None:
        await incidents.serialise(conn)
        if await incidents.was_seen(conn, f"alert:{transition.id}"):
            self.counts["duplicate"] += 1
            return None
        key = _group_key(runbook, transition)
        state = await incidents.latest(conn, key)
        context = await self._context(conn, runbook)
        if state is None or not self._takes(state, transition, context):
            if transition.state != "firing":
                self.counts["resolved_without_incident"] += 1
                return None
            number = await incidents.next_id(conn)
            decision = open_incident(number, transition, context)
        else:
            decision = respond(state, Alerted(transition), context)
        await self._write(conn, key, decision, context.now_ms)
        await incidents.is_new(conn, f"alert:{transition.id}", decision.state.id, context.now_ms)
        return decision

    def _takes(self, state: IncidentState, transition: Transition, context: Context) -> bool:
        """Whether the last incident of a group is the one that a transition belongs to."""
        if state.status == "open" or transition.state != "firing":
            return True
        reopen_ms = context.runbook.limits.reopen_ms if context.runbook else 0
        ended_ms = state.resolved_ms or 0
        return state.status == "resolved" and context.now_ms - ended_ms <= reopen_ms

    async def _turn(self, conn: asyncpg.Connection, incident: int, event: Event, mark: str | None) -> Decision | None:
        await incidents.serialise(conn)
        state = await incidents.load(conn, incident, lock=True)
        if state is None:
            self.counts["unknown_incident"] += 1
            return None
        runbook = self._runbooks.get(state.runbook)
        context = await self._context(conn, runbook)
        if mark is not None and not await incidents.is_new(conn, mark, incident, context.now_ms):
            self.counts["duplicate"] += 1
            return None
        asked = state.awaiting.asked
        if isinstance(event, TimerDue) and isinstance(asked, RequestApproval):
            event = await self._decided(conn, asked.command.id) or event  # just before the time was over is in time
        decision = respond(state, event, context)
        if decision.state == state and not decision.effects:
            return decision
        if isinstance(event, Gathered) and isinstance(asked, Investigate):
            await incidents.write_evidence(conn, asked, event.evidence)
        key = str(await conn.fetchval("select group_key from incidents where id = $1", incident))
        await self._write(conn, key, decision, context.now_ms)
        return decision

    async def _decided(self, conn: asyncpg.Connection, command: str) -> Decided | None:
        """What was decided about a command; None while that is open."""
        found = await approvals.find(conn, command)
        if found is None or found.state == "waiting":
            return None
        return Decided(found.command, found.state == "approved", found.deciders)

    async def _context(self, conn: asyncpg.Connection, runbook: Runbook | None) -> Context:
        now_ms = self._config.clock()
        return Context(
            now_ms=now_ms,
            runbook=runbook,
            actions=self._config.actions,
            policy=self._config.policy,
            history=await incidents.history(conn, now_ms),
            paused=await control.is_paused(conn),
            mutes=Mutes(await silences.not_over(conn, now_ms), self._config.maintenance),
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

    # after the commit

    async def _after(self, decision: Decision | None) -> None:
        if decision is None:
            return
        for effect in decision.effects:
            self.counts[type(effect).__name__] += 1
            if isinstance(effect, Investigate):
                self._ask(effect)
        if any(isinstance(effect, Send) for effect in decision.effects):
            await self.flush_outbox()

    def _ask(self, asked: Investigate) -> None:
        key = (asked.incident, asked.attempt, asked.step)
        if key in self._asking:
            return
        task = asyncio.create_task(self._investigate(asked), name=f"investigate {key}")
        self._asking[key] = task
        task.add_done_callback(lambda _: self._asking.pop(key, None))

    async def _investigate(self, asked: Investigate) -> None:
        try:
            evidence = await self._investigator.find(asked, self._config.clock())
            event = Gathered(asked.attempt, asked.step, evidence)
            await self._on(asked.incident, event, f"gathered:{asked.incident}:{asked.attempt}:{asked.step}")
        except Exception:  # a task has nobody to raise to; the tick asks again
            log.exception("responder.investigation_failed", incident=asked.incident, step=asked.step)

    async def settled(self) -> None:
        """Wait until no question is open in this process."""
        while self._asking:
            await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask_again(self, now_ms: int) -> None:
        """Ask what nobody has answered: at once after a start, later only what another responder must have lost."""
        before_ms = now_ms if self._is_fresh else now_ms - _ASK_AGAIN_MS
        self._is_fresh = False
        async with self._database.connection() as conn:
            rows = await conn.fetch(
                "select id from incidents where status = 'open' and waits = 'evidence' and updated_ms <= $1", before_ms
            )
            states = [await incidents.load(conn, row["id"]) for row in rows]
        for state in states:
            asked = state.awaiting.asked if state is not None else None
            if isinstance(asked, Investigate):
                self._ask(asked)

    async def flush_outbox(self) -> int:
        """Send what was decided and not sent yet, oldest first; how many. What cannot be sent now stays."""
        sent = 0
        async with self._flushing, self._database.transaction() as conn:
            rows = await conn.fetch(
                "select command, target, signed from commands where sent_ms is null "
                "order by seq for update skip locked limit 100"
            )
            for row in rows:
                try:
                    await self._send(row["target"], _decode_signed(row["signed"]))
                except Exception as error:  # whatever the broker's client raises: the next tick tries again
                    log.warning("responder.send_failed", command=row["command"], reason=str(error))
                    break
                now_ms = self._config.clock()
                await conn.execute("update commands set sent_ms = $2 where command = $1", row["command"], now_ms)
                sent += 1
        return sent


def _group_key(runbook: Runbook, transition: Transition) -> str:
    group = group_key(runbook, transition.labels)
    return f"{runbook.name} {labelsets.encode(group).decode()}"
