"""The executor: carries out signed commands at most once (design: Safety 1 to 4, 6, 9).

    decode -> signature -> live -> known id? -> expired? -> allow-lists -> parameters -> paused? -> approved?
           -> claim (id, target, lease, fencing token) -> plan -> run -> own check -> outcome

The claim is committed before anything is done. Whoever finds a claim without outcome whose lease is over knows that an
executor died somewhere after it: the outcome is *inconclusive*, with what the action's own check says now, and
nothing is run again.

Work goes on only while the lease was confirmed lately (`engine.edge.lease`): an executor that is cut off from the
database stops before another one may take its target.

A message that is no command at all raises `MalformedCommandError` and belongs with the dead letters. One that cannot
be believed (bad signature, replay) has no outcome, because its command id may be somebody
else's; it is audited and counts for nothing. Every other refusal is the command's outcome, for good.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from engine.actions import Action, Check, Environment, Plan, RefusedError, Result
from engine.core.messages import (
    Command,
    Outcome,
    OutcomeStatus,
    SignedCommand,
    decode_command,
    decode_signed_command,
)
from engine.edge import approvals, audit, beginning, claims, control
from engine.edge.beginning import Forbidden
from engine.edge.claims import Claim
from engine.edge.clock import Clock
from engine.edge.database import Database
from engine.edge.lease import Lease, LeaseLostError
from engine.response.blast_radius import BlastRadius
from engine.response.guardrails import target_namespaces
from engine.response.signing import PublicKeys, SignatureRefusedError, body_sha256, verify

Mode = Literal["observe", "approve", "auto"]
log = structlog.get_logger(__name__)
_POLL_S = 0.25


def _one(command: Command) -> int:
    return 1


class ExecutorSettings(Struct, frozen=True):
    """What an executor may do.

    `mode(command, whether its action is destructive)` says how far to go alone, `people(command)` how many must agree
    where one must.
    """

    name: str
    allow_actions: frozenset[str]
    mode: Callable[[Command, bool], Mode]
    namespaces: frozenset[str] = frozenset()
    lease_ms: int = 60_000
    blast_radius: BlastRadius = BlastRadius()
    people: Callable[[Command], int] = _one


class MalformedCommandError(ValueError):
    """A message that is no signed command; nothing can be done about it, now or later."""


class _Refused(Struct, frozen=True):
    """The message counts for nothing."""

    reason: str
    message: str


_Admission = Outcome | Lease | Claim | _Refused | None  # None: wait, another executor has its id or its target


class Executor:
    """Carries out commands. Several may run at once, in one process or in many, on one database."""

    def __init__(
        self,
        db: Database,
        settings: ExecutorSettings,
        public_keys: PublicKeys,
        actions: Mapping[str, Action],
        environment: Environment,
        clock: Clock,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._settings = settings
        self._keys = public_keys
        self._actions = actions
        self._env = replace(environment, paused=self._is_paused)
        self._clock = clock
        self._monotonic_s = monotonic_s
        self.name = f"{settings.name}-{uuid.uuid4().hex[:8]}"

    async def execute(self, raw: bytes) -> Outcome | None:
        """Carry out a message of the topic `commands`; its outcome, which is the same however often it comes.

        None: the message is not to be believed; the audit says why. Waits while its target or its id is held by
        another executor. Raises `MalformedCommandError` for a message that is no command.
        """
        try:
            signed = decode_signed_command(raw)
            command = verify(signed, self._keys)
        except SignatureRefusedError as error:
            if error.reason == "malformed":
                raise MalformedCommandError(error.message) from error
            await self._refuse_message(raw, _Refused(error.reason, error.message))
            return None
        except (msgspec.DecodeError, ValueError) as error:
            raise MalformedCommandError(f"not a signed command: {error}") from error
        if command.mark != "live":
            await self._refuse_message(raw, _Refused("replay", "commands of a replay are never carried out"))
            return None
        return await self._settle(command, signed, raw)

    async def recover(self) -> list[Outcome]:
        """Conclude what dead executors left, and return every outcome that may not have reached its topic.

        To be called at the start and from time to time; publish what it returns, then `mark_published`.
        """
        for claim in await self._db.run(claims.under_way):
            if claim.lapsed:
                await self._conclude(claim)
        return await self._db.run(claims.unpublished)

    async def mark_published(self, outcome: Outcome) -> None:
        """The outcome reached its topic."""
        await self._db.run(lambda conn: claims.mark_published(conn, outcome.command))

    # Whether to act -------------------------------------------------------------------------------------------------

    async def _settle(self, command: Command, signed: SignedCommand, raw: bytes) -> Outcome | None:
        while True:
            admitted = await self._db.run(lambda conn: self._admit(conn, command, signed))
            if isinstance(admitted, Outcome):
                return admitted
            if isinstance(admitted, _Refused):
                await self._refuse_message(raw, admitted)
                return None
            if isinstance(admitted, Lease):
                outcome = await self._carry_out(command, admitted)
                if outcome is not None:
                    return outcome
            elif isinstance(admitted, Claim):
                await self._conclude(admitted)
            else:
                await self._clock.sleep(_POLL_S)

    async def _admit(self, conn: asyncpg.Connection, command: Command, signed: SignedCommand) -> _Admission:
        """Claim the command, or say what stands against it. One transaction."""
        now_ms = self._clock.now_ms()
        known = await claims.find(conn, command.id)
        if known is not None:
            return _look_at_known(known, command)
        refusal = self._static_refusal(command, now_ms) or await self._standing_refusal(conn, command, signed, now_ms)
        if refusal is not None:
            return await self._record_refusal(conn, command, signed.body, refusal, now_ms)
        holder = await claims.on_target(conn, command.target.key())
        if holder is not None:
            return holder if holder.lapsed else None
        asked_s, lease_ms = self._monotonic_s(), self._settings.lease_ms
        token = await claims.take(conn, command, signed.body, self.name, now_ms, lease_ms)
        if token is None:
            return None
        await self._audit(conn, "command.claimed", command, {"token": token, "lease_ms": lease_ms})
        return Lease(token, lease_ms, asked_s, self._monotonic_s)

    def _static_refusal(self, command: Command, now_ms: int) -> tuple[str, str] | None:
        """(reason, message) against a command that no switch or person can lift."""
        action = self._actions.get(command.action)
        if now_ms >= command.expires_ms:
            return "expired", f"expired {now_ms - command.expires_ms} ms ago"
        if action is None:
            return "unknown_action", f"there is no action {command.action!r}"
        if command.action not in self._settings.allow_actions:
            return "action_not_allowed", f"{command.action} is not in executor.allow_actions"
        if command.target.kind != action.target_kind:
            return "wrong_target_kind", f"{command.action} acts on {action.target_kind}, not {command.target.kind}"
        if not self._env.allows(command.target):
            return "target_not_allowed", f"{command.target.key()} is not on the executor's allow-list"
        for namespace in target_namespaces(command):
            if namespace not in self._settings.namespaces:
                return "namespace_not_allowed", f"{namespace!r} is not in executor.namespaces"
        try:
            action.decode_params(command.params)
        except msgspec.ValidationError as error:
            return "bad_params", str(error)
        return None

    async def _standing_refusal(
        self, conn: asyncpg.Connection, command: Command, signed: SignedCommand, now_ms: int
    ) -> tuple[str, str] | None:
        """What the pause switch, the mode and the approvals say now."""
        if await control.is_paused(conn):
            return "paused", "everything is paused"
        mode = self._settings.mode(command, self._actions[command.action].destructive)
        if mode == "observe":
            return "observe_mode", "the mode of this command is observe"
        state = await approvals.approved_for(conn, signed, command.id, now_ms, self._settings.people(command))
        # Who was asked must have agreed, also where the mode alone would not have asked.
        enough = ("approved",) if mode == "approve" else ("approved", "approval_missing")
        return None if state in enough else (state, f"mode {mode}, and the approval is: {state}")

    # Acting ---------------------------------------------------------------------------------------------------------

    async def _carry_out(self, command: Command, lease: Lease) -> Outcome | None:
        """Plan, run and check while the lease is held; None when it was lost."""

        async def renew_once(conn: asyncpg.Connection) -> float | None:
            asked_s = self._monotonic_s()
            return asked_s if await claims.renew(conn, command.id, lease.token, lease.length_ms) else None

        why = "taken over"
        try:
            outcome = await lease.guard(self._work(command, lease), lambda: self._db.run(renew_once), self._clock.sleep)
            if await self._db.run(lambda conn: self._finish(conn, command, lease.token, outcome)):
                return outcome
        except LeaseLostError as error:
            why = str(error)
        data = {"token": lease.token, "reason": why}
        await self._db.run(lambda conn: self._audit(conn, "command.fenced", command, data))
        return None

    async def _work(self, command: Command, lease: Lease) -> Outcome:
        started_ms = self._clock.now_ms()
        action = self._actions[command.action]
        params, env = action.decode_params(command.params), self._env_of(command)
        try:
            plan = await action.plan(env, command.target, params)
            undo = action.undo(params, plan) if action.undo is not None else None
        except RefusedError as error:
            return self._outcome(command, "refused", error.reason, self._refused(error), started_ms)
        except Exception as error:  # whatever an action meets, the command gets an outcome
            return self._outcome(command, "failed", "plan_failed", {"error": self._words(error)}, started_ms)
        forbidden = await self._db.run(lambda conn: self._begin(conn, command, lease.token, plan))
        planned: dict[str, Any] = {"plan": msgspec.to_builtins(plan)}
        if forbidden is not None:
            said = planned | {"message": forbidden.message}
            return self._outcome(command, "refused", forbidden.reason, said, started_ms)
        if not plan.changes:
            return self._outcome(command, "succeeded", "nothing_to_do", planned, started_ms)
        lease.check()
        try:
            result = await action.run(env, command.target, params, plan)
        except RefusedError as error:
            return self._outcome(command, "refused", error.reason, planned | self._refused(error), started_ms)
        except Exception as error:  # as above; it may have happened or not
            result = Result("unknown", "run_error", {"error": self._words(error)})
        detail = {**result.detail, **planned} | ({"undo": msgspec.to_builtins(undo)} if undo else {})
        if result.status == "failed":
            return self._outcome(command, "failed", result.reason, detail, started_ms)
        check = await self._check(command, plan)
        status, reason = _judge(result, check)
        return self._outcome(command, status, reason, {**detail, "check": msgspec.to_builtins(check)}, started_ms)

    async def _begin(self, conn: asyncpg.Connection, command: Command, token: int, plan: Plan) -> Forbidden | None:
        """Keep the plan right before acting; what forbids to act on it now."""
        forbidden = await beginning.begin(conn, command, token, plan, self._settings.blast_radius, self._clock.now_ms())
        await self._audit(conn, "command.planned", command, msgspec.to_builtins(plan))
        return forbidden

    async def _finish(self, conn: asyncpg.Connection, command: Command, token: int, outcome: Outcome) -> bool:
        held = await claims.finish(conn, token, outcome)
        if held:
            data = {"reason": outcome.reason, "detail": outcome.detail, "token": token}
            await self._audit(conn, f"command.{outcome.status}", command, data)
            return True
        # The commit before may have been ours, its answer lost with the connection.
        claim = await claims.find(conn, command.id)
        return claim is not None and claim.token == token and claim.outcome == outcome

    async def _conclude(self, claim: Claim) -> None:
        """Write the outcome of a command whose executor is gone: look, do not touch."""
        lease_ms = self._settings.lease_ms
        token = await self._db.run(lambda conn: claims.take_over(conn, claim, self.name, lease_ms))
        if token is None:
            return
        command = decode_command(claim.body)
        plan = msgspec.convert(claim.plan, Plan) if claim.plan is not None else None
        check = await self._check(command, plan)
        detail: dict[str, Any] = {"lost_executor": claim.executor, "plan": claim.plan}
        detail["check"] = msgspec.to_builtins(check)
        outcome = self._outcome(command, "inconclusive", "executor_lost", detail, claim.claimed_ms)
        await self._db.run(lambda conn: self._finish(conn, command, token, outcome))

    async def _check(self, command: Command, plan: Plan | None) -> Check:
        action = self._actions.get(command.action)
        if action is None or not self._env.allows(command.target):
            return Check("unknown", "the action or its target is no longer configured")
        try:
            params = action.decode_params(command.params)
            return await action.verify(self._env_of(command), command.target, params, plan)
        except Exception as error:  # a check that breaks tells nothing, and that is an answer
            return Check("unknown", f"the check failed: {self._words(error)}")

    # Recording ------------------------------------------------------------------------------------------------------

    def _outcome(
        self, command: Command, status: OutcomeStatus, reason: str, detail: dict[str, Any], started_ms: int
    ) -> Outcome:
        return Outcome(
            command=command.id,
            incident=command.incident,
            status=status,
            reason=reason,
            detail=detail,
            executor=self.name,
            started_ms=started_ms,
            finished_ms=self._clock.now_ms(),
            action=command.action,
        )

    async def _record_refusal(
        self, conn: asyncpg.Connection, command: Command, body: str, refusal: tuple[str, str], now_ms: int
    ) -> _Admission:
        reason, message = refusal
        status: OutcomeStatus = "expired" if reason == "expired" else "refused"
        outcome = self._outcome(command, status, reason, {"message": message}, now_ms)
        if not await claims.record_refused(conn, command, body, outcome):
            return None
        await self._audit(conn, f"command.{status}", command, {"reason": reason, "message": message})
        return outcome

    async def _refuse_message(self, raw: bytes, refused: _Refused) -> None:
        body = raw.decode(errors="replace")
        data: dict[str, object] = {"reason": refused.reason, "message": refused.message[:500]}
        data |= {"sha256": body_sha256(body), "bytes": len(raw)}
        log.warning("executor.message_refused", **data)

        async def record(conn: asyncpg.Connection) -> None:
            at_ms = self._clock.now_ms()
            await audit.append(
                conn, at_ms=at_ms, actor=self.name, kind="message.refused", incident=None, command=None, data=data
            )

        await self._db.run(record)

    async def _audit(self, conn: asyncpg.Connection, kind: str, command: Command, data: dict[str, Any]) -> None:
        await audit.append(
            conn,
            at_ms=self._clock.now_ms(),
            actor=self.name,
            kind=kind,
            incident=command.incident,
            command=command.id,
            data={"action": command.action, "target": command.target.key(), **data},
        )

    def _env_of(self, command: Command) -> Environment:
        return replace(self._env, command=command.id)

    def _refused(self, error: RefusedError) -> dict[str, Any]:
        return {"message": self._env.redact(error.message)}

    async def _is_paused(self) -> bool:
        return await self._db.run(control.is_paused)

    def _words(self, error: Exception) -> str:
        return self._env.redact(f"{type(error).__name__}: {error}")


def _look_at_known(known: Claim, command: Command) -> _Admission:
    """What to do with a command whose id was seen before. Never run it."""
    before = decode_command(known.body)
    if (before.action, before.target, before.params) != (command.action, command.target, command.params):
        return _Refused("changed_command", f"command id {command.id} was used for another command")
    if known.outcome is not None:
        return known.outcome
    return known if known.lapsed else None


def _judge(result: Result, check: Check) -> tuple[OutcomeStatus, str]:
    """The outcome of a run that did not plainly fail."""
    if check.state == "yes":
        return "succeeded", "verified"
    if check.state == "no":
        return "failed", "check_failed"
    if result.status == "unknown":
        return "inconclusive", result.reason
    return ("inconclusive", "check_unknown") if check.declared else ("succeeded", "done_unchecked")
