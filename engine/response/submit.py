"""Submitting a command to the guardrails, and what comes of it: sent, asked for, observed, held or refused."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from engine.core.messages import Command
from engine.response.commands import describe
from engine.response.guardrails import Request, Verdict, check
from engine.response.model import ActionTaken, Awaiting, RequestApproval, Send
from engine.response.steps import Act
from engine.response.storm import Firing, Storm, storm_of, subject_of, words
from engine.response.turn import Turn
from engine.response.words import clock, span


def verdict(turn: Turn, act: Act, command: Command, *, approved: bool) -> Verdict:
    """What the guardrails say about a command of this incident."""
    declared = turn.context.actions.get(act.action)
    # A repair that did not help may not be followed by another one without a person.
    strict = act.question is not None or turn.state.ineffective
    storm = _storm(turn)
    request = Request(
        command=command,
        attempt=turn.state.attempt,
        destructive=declared.destructive if declared else True,
        cooldown_ms=turn.limits.cooldown_ms,
        budget_per_hour=turn.limits.budget_per_hour,
        mode="approve" if strict and act.mode == "auto" else act.mode,
        why="ineffective" if turn.state.ineffective else "runbook_mode",
        approved=approved,
        mute=turn.mute_of(turn.state.alert),
        storm=words(storm, turn.context.policy.storm_window_ms) if storm else "",
    )
    return check(request, turn.context.policy, turn.context.history, turn.context.paused, turn.now_ms)


def _storm(turn: Turn) -> Storm | None:
    """The storm that the incident is in."""
    state, policy = turn.state, turn.context.policy
    own = Firing(state.id, subject_of(state.runbook, state.group), state.fired_ms)
    return storm_of(turn.context.firings, own, turn.now_ms, policy.storm_window_ms, policy.storm_targets)


def submit(turn: Turn, act: Act, command: Command, question: str) -> None:
    """Send a command, or what the guardrails say instead: ask for it, only say so, or hand over to people."""
    said = verdict(turn, act, command, approved=False)
    calm_ms = turn.state.fired_ms + turn.context.policy.storm_settle_ms
    if said.decision == "refuse":
        refused(turn, command, said, f"{describe(command)} was refused")
    elif said.decision == "observe":
        _observe(turn, command, said)
    elif turn.now_ms < calm_ms:
        turn.note("command.settles", f"waits until {clock(calm_ms)}, in case more fails", command=command.id)
        turn.set(awaiting=Awaiting("calm", calm_ms), trail=turn.state.trail[:-1])  # the step is entered again
    elif said.decision == "approve":
        expires_ms = turn.now_ms + max(act.expires_ms, turn.context.policy.approval_expiry_ms)
        _ask(turn, replace(command, expires_ms=expires_ms), said, question)
    else:
        send(turn, command, said.reason, said.detail)


def _ask(turn: Turn, command: Command, said: Verdict, question: str) -> None:
    """Put a command before people. In a storm they are told of that, once, and not of each question."""
    what, people = describe(command), turn.context.policy.people(command.priority)
    found = f"{turn.state.cause.rstrip('. ')}. " if turn.state.cause else ""
    asked = RequestApproval(command, question or f"{found}{what}?", command.expires_ms, people)
    data = {"action": command.action, "target": command.target.key(), "params": command.params, "reason": said.reason}
    who = "a person" if people == 1 else f"{people} people"
    text = f"waits for {who}: {what} ({said.detail})" + (f": {question}" if question else "")
    turn.note("command.held", text, command=command.id, expires_ms=command.expires_ms, question=asked.question, **data)
    storm = _storm(turn) if said.reason == "storm" else None
    if storm is not None:
        turn.set(storm=storm.number)
        within = span(command.expires_ms - turn.now_ms)
        told = f"{said.detail}; nothing is done alone, each command waits {within} for a person"
        turn.tell("storm", told, turn.first_level)
    else:
        until = clock(command.expires_ms)
        told = f"to be decided until {until}: " + (f"{question} [{what}]" if question else asked.question)
        turn.inform(f"held-{command.id}", "approval", told, held=command.id)
    turn.effects.append(asked)
    turn.set(awaiting=Awaiting("approval", command.expires_ms, asked))


def _observe(turn: Turn, command: Command, said: Verdict) -> None:
    """Say what would be done. What it would have led to is not known, so the run ends here; nobody is woken for it.

    The note holds what the day's account needs to judge the command as if it had been sent.
    """
    what, limits = describe(command), turn.limits
    kept = {"cooldown_ms": limits.cooldown_ms, "budget_per_hour": limits.budget_per_hour, "reason": said.reason}
    storm = _storm(turn)
    if storm is not None:
        kept["storm"] = words(storm, turn.context.policy.storm_window_ms)
    data = {"body": msgspec.to_builtins(command), "attempt": turn.state.attempt, **kept}
    turn.note("command.observed", f"would do {what} ({said.detail})", command=command.id, **data)
    turn.inform(f"observed-{command.id}", "observe", f"observing only; would have done {what}")
    turn.set(awaiting=Awaiting("clear"))


def refused(turn: Turn, command: Command, said: Verdict, text: str) -> None:
    """A guardrail said no: people take over, unless it was a silence or maintenance, which is waited for."""
    what = describe(command)
    data = {"action": command.action, "target": command.target.key(), "params": command.params, "reason": said.reason}
    turn.note("command.refused", f"not sent: {what}: {said.reason}: {said.detail}", command=command.id, **data)
    mute = turn.muted
    if mute is not None and said.reason == mute.reason:
        turn.hold(mute)
    else:
        turn.escalate(said.reason, f"{text}: {said.detail}")


def send(turn: Turn, command: Command, reason: str, why: str) -> None:
    """Send a command that the guardrails let through, for `reason`; `why` says it in words."""
    text = f"sent: {describe(command)} ({why})"
    data = {"action": command.action, "target": command.target.key(), "params": command.params, "reason": reason}
    turn.note("command.sent", text, command=command.id, **data)
    asked = Send(command)
    turn.effects.append(asked)
    due_ms = command.expires_ms + turn.context.policy.outcome_grace_ms
    taken = ActionTaken(command, turn.state.attempt, turn.now_ms)
    turn.set(awaiting=Awaiting("outcome", due_ms, asked), actions=[*turn.state.actions, taken])
