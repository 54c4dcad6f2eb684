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

import asyncpg
import msgspec
import structlog

from engine.core.messages import Outcome, SignedCommand, Transition
from engine.edge import accounts, incidents, silences
from engine.edge.database import Database
from engine.edge.incident_turns import IncidentTurns, ResponderConfig
from engine.edge.investigate import Investigator
from engine.response.model import (
    Decision,
    Event,
    Gathered,
    Investigate,
    Merged,
    Operated,
    Send,
    TimerDue,
)
from engine.response.steps import Runbook
from engine.response.words import cleaned

log = structlog.get_logger(__name__)

SendCommand = Callable[[str, SignedCommand], Awaitable[None]]

_ASK_AGAIN_MS = 15_000
_DAY_MS = 86_400_000
_decode_signed = msgspec.json.Decoder(SignedCommand).decode


class Responder:
    """Runs the incidents. `send(key, command)` puts a command on its topic; use as an async context manager."""

    def __init__(
        self, config: ResponderConfig, database: Database, investigator: Investigator, send: SendCommand
    ) -> None:
        self._clock = config.clock
        self._policy, self._account_to = config.policy, config.account_to
        self._accounted_day = -1
        self._database = database
        self._investigator = investigator
        self._send = send
        self._asking: dict[tuple[int, int, str], asyncio.Task[None]] = {}
        self._flushing = asyncio.Lock()
        self._is_fresh = True
        self._silences_seen = -1
        self.counts: Counter[str] = Counter()
        self._turns = IncidentTurns(config, self.counts)

    def reload(self, runbooks: Sequence[Runbook]) -> None:
        """Go on with other runbooks; an incident that is open follows its runbook's new text from its next step on."""
        self._turns.reload(runbooks)

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

        async def work(conn: asyncpg.Connection) -> list[Decision]:
            return await self._turns.alert(conn, transition)

        await self._after(await self._database.run(work))

    async def on_outcome(self, outcome: Outcome) -> None:
        """A command may have an outcome. The message only rings: what is believed stands in the database."""

        async def work(conn: asyncpg.Connection) -> list[Decision]:
            return await self._turns.outcome(conn, outcome)

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
            answers = [await self._turns.decided(conn, row["command"]) for row in decided]
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
        await self._account(now_ms)

    async def _account(self, now_ms: int) -> None:
        """Once a day: write what the days that are over came to."""
        day = now_ms // _DAY_MS
        if day != self._accounted_day:
            await accounts.write_missing(self._database, now_ms, self._policy, self._account_to)
            self._accounted_day = day

    async def _operate(self) -> None:
        """Apply what people acknowledged, closed and noted, in their order and each once."""
        async with self._database.connection() as conn:
            undone = await incidents.undone_operations(conn)
        failed: set[int] = set()
        for seq, incident, event in undone:
            if incident not in failed and not await self._try(incident, self._apply(seq, incident, event)):
                failed.add(incident)

    async def _apply(self, seq: int, incident: int, event: Operated | Merged) -> None:
        async def work(conn: asyncpg.Connection) -> list[Decision]:
            return await self._turns.person(conn, seq, incident, event)

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
        async def work(conn: asyncpg.Connection) -> list[Decision]:
            return await self._turns.event(conn, incident, event, mark)

        await self._after(await self._database.run(work))

    # after the commit

    async def _after(self, decisions: list[Decision]) -> None:
        effects = [effect for decision in decisions for effect in decision.effects]
        for effect in effects:
            self.counts[type(effect).__name__] += 1
            if isinstance(effect, Investigate):
                self._ask(effect)
        if any(isinstance(effect, Send) for effect in effects):
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
            evidence = await self._investigator.find(asked, self._clock())
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
                now_ms = self._clock()
                await conn.execute("update commands set sent_ms = $2 where command = $1", row["command"], now_ms)
                sent += 1
        return sent
