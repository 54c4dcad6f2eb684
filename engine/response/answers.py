"""What an incident does with the answers to what it asked: evidence, a person's decision, a command's outcome.

An answer that nobody waits for any more is noted at most. A person's yes that comes to nothing says why
(`command.not_sent`): whoever gave it must not believe that something was done.

The next module in the flow is `response.run`, which goes on with the steps.
"""

from __future__ import annotations

from msgspec.structs import replace

from engine.core.messages import Command, Outcome
from engine.response import run, submit
from engine.response.commands import describe
from engine.response.model import (
    NO_OUTCOME,
    ActionTaken,
    Awaiting,
    Decided,
    Evidence,
    Gathered,
    RequestApproval,
    Send,
)
from engine.response.steps import Act, Step, Verify
from engine.response.steps import Investigate as InvestigateStep
from engine.response.turn import Turn
from engine.response.words import count

_STOPPED = {"refused": "the executor refused the command", "expired": "the command came too late"}


def on_gathered(turn: Turn, event: Gathered) -> None:
    """An investigation was answered."""
    state = turn.state
    expected = state.awaiting.kind == "evidence" and (state.attempt, state.step) == (event.attempt, event.step)
    if expected and state.status == "open":
        _take_evidence(turn, event.evidence)


def no_evidence(turn: Turn) -> None:
    """No answer came in time, also none that says why."""
    _take_evidence(turn, Evidence(False, turn.now_ms, error="no answer came in time"))


def _take_evidence(turn: Turn, found: Evidence) -> None:
    state, step = turn.state, step_of(turn)
    if step is None:
        turn.escalate("runbook_changed", f"the runbook has no step {state.step!r} any more")
        return
    turn.set(evidence={**state.evidence, step.name: found}, awaiting=Awaiting())
    turn.note("evidence.gathered" if found.ok else "evidence.failed", _found(step.name, found), step=step.name)
    body = step.body
    if isinstance(body, Verify):
        if found.ok:
            run.expect(turn, step, body)
        else:
            run.verify_failed(turn, step, body, "no_evidence", found.error)
    elif found.ok:
        run.go(turn, step.following)
    else:
        on_failure = body.on_failure if isinstance(body, InvestigateStep) else None
        run.go(turn, on_failure, "investigation_failed", f"{step.name}: {found.error}")


def on_decided(turn: Turn, event: Decided) -> None:
    """A person has decided about a command."""
    asked = turn.state.awaiting.asked
    if not isinstance(asked, RequestApproval) or asked.command.id != event.command or turn.state.status != "open":
        return
    command, step = asked.command, step_of(turn)
    what = describe(command)
    turn.set(awaiting=Awaiting())
    if not event.approved:
        turn.note("command.denied", f"{what}: denied by {event.by}", command=command.id, by=event.by)
        turn.report("decided", f"{what}: denied by {event.by}", command.id)
        turn.escalate("approval_denied", f"{what} was denied by {event.by}")
        return
    turn.set(storm=0)  # from here on it is an incident like any other
    turn.note("command.approved", f"{what}: approved by {event.by}", command=command.id, by=event.by)
    turn.report("decided", f"{what}: approved by {event.by}", command.id)
    if turn.now_ms >= command.expires_ms:
        why = "the approval came in time, but was taken up only after the command's time was over"
        _not_sent(turn, command, event.by, why)
        turn.escalate("approval_expired", f"{what} was approved by {event.by} and not sent: {why}")
    elif step is None or not isinstance(step.body, Act):
        why = f"the runbook has no action {turn.state.step!r} any more"
        _not_sent(turn, command, event.by, why)
        turn.escalate("runbook_changed", why)
    elif turn.state.alert.standing != "firing" and not run.completes(turn, step.body):
        _not_sent(turn, command, event.by, f"{turn.name_of(turn.state.trigger)} has ended meanwhile")
        run.trigger_ended(turn)
    else:
        _send_approved(turn, step.body, command, event.by)


def _send_approved(turn: Turn, act: Act, command: Command, by: str) -> None:
    said = submit.verdict(turn, act, command, approved=True)
    if said.decision == "send":
        submit.send(turn, command, said.reason, f"approved by {by}")
        return
    submit.refused(turn, command, said, f"{describe(command)} was approved, and refused")


def _not_sent(turn: Turn, command: Command, by: str, why: str) -> None:
    text = f"{describe(command)}: approved by {by}, and not sent: {why}"
    turn.note("command.not_sent", text, command=command.id, by=by, reason=why)


def approval_expired(turn: Turn, asked: RequestApproval) -> None:
    """Nobody has decided about a command."""
    what = describe(asked.command)
    turn.note("command.unapproved", f"{what}: nobody decided in time", command=asked.command.id)
    turn.report("decided", f"{what}: nobody decided in time", asked.command.id)
    turn.escalate("approval_expired", f"nobody decided about {what} in time")


def on_outcome(turn: Turn, outcome: Outcome) -> None:
    """A command has an outcome."""
    state = turn.state
    taken = next((a for a in state.actions if a.command.id == outcome.command), None)
    if taken is None or taken.finished_ms:
        return  # not of this incident, or said before
    _finish_action(turn, taken, outcome)
    asked = state.awaiting.asked
    if not isinstance(asked, Send) or asked.command.id != outcome.command or state.status != "open":
        return  # it was given up on; the timeline has it
    turn.set(awaiting=Awaiting())
    _go_on(turn, outcome)


def _finish_action(turn: Turn, taken: ActionTaken, outcome: Outcome) -> None:
    finished_ms, detail = max(1, outcome.finished_ms), dict(outcome.detail)
    turn.update_action(
        replace(taken, status=outcome.status, reason=outcome.reason, finished_ms=finished_ms, detail=detail)
    )
    text = f"{describe(taken.command)}: {outcome.status}" + (f" ({outcome.reason})" if outcome.reason else "")
    data = {"status": outcome.status, "reason": outcome.reason, "detail": outcome.detail, "by": outcome.executor}
    turn.note("command.outcome", text, command=taken.command.id, **data)


def no_answer(turn: Turn, asked: Send) -> None:
    """No outcome came in time: nobody knows what the command did."""
    command, now_ms = asked.command, turn.now_ms
    turn.note("command.unanswered", "no outcome came in time", command=command.id)
    _go_on(
        turn, Outcome(command.id, command.incident, "inconclusive", NO_OUTCOME, {}, "", now_ms, now_ms, command.action)
    )


def _go_on(turn: Turn, outcome: Outcome) -> None:
    step, runbook = step_of(turn), turn.context.runbook
    if step is None or runbook is None:
        turn.escalate("runbook_changed", f"the runbook has no step {turn.state.step!r} any more")
    elif outcome.status == "succeeded":
        run.go(turn, step.following)
    elif outcome.status == "inconclusive":
        text = f"nobody knows whether the command took effect: {outcome.reason}"
        run.go(turn, runbook.later_verify(step.name), "command_inconclusive", text)
    elif outcome.status == "failed":
        turn.set(ineffective=True)  # something was tried: the next try is a person's
        on_failure = step.body.on_failure if isinstance(step.body, Act) else None
        run.go(turn, on_failure, "command_failed", f"the command has failed: {outcome.reason}")
    else:
        # Nothing was tried, so what is there for "it did not help" is not for this.
        why = f": {outcome.reason}" if outcome.reason != outcome.status else ""
        turn.escalate(f"command_{outcome.status}", f"{_STOPPED[outcome.status]}{why}")


def step_of(turn: Turn) -> Step | None:
    """The step that the incident is at; None when the runbook no longer has it."""
    return turn.context.runbook.step(turn.state.step) if turn.context.runbook else None


def _found(step: str, found: Evidence) -> str:
    if not found.ok:
        return f"{step}: could not be found out: {found.error}"
    if found.status is not None:
        return f"{step}: HTTP {found.status}"
    return f"{step}: {count(len(found.rows), 'row')}" + (" (cut off)" if found.truncated else "")
