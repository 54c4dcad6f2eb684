"""The incident as a state machine: `respond(state, event, context) -> Decision(state, effects)`.

Pure: the time is in the context, and everything that is to be done is an effect. The promises of design's Safety that
are about *order* are kept here: an alert that clears before anything was done ends the run (no repair of a healthy
service), data that vanishes is never a repair, an ineffective repair is followed by people and not by another try,
and an event that comes twice, late or out of turn changes nothing but the timeline.
"""

from __future__ import annotations

from msgspec.structs import replace

from engine.core.messages import Outcome, Transition
from engine.response import run
from engine.response.conditions import RenderError
from engine.response.model import (
    ActionTaken,
    Alerted,
    AlertSeen,
    AlertStanding,
    Awaiting,
    Context,
    Decided,
    Decision,
    Event,
    Evidence,
    Gathered,
    IncidentState,
    Note,
    Operated,
    Reported,
    RequestApproval,
    Send,
    TimerDue,
    scope_of,
)
from engine.response.steps import Act, Investigate, Runbook, Step, Verify, group_key
from engine.response.turn import Turn, priority_of, worst

_BEFORE_ACTING = ("evidence", "wait", "clear")


def open_incident(incident: int, transition: Transition, context: Context) -> Decision:
    """A firing alert that belongs to no open incident opens one. `context.runbook` is the one that matches it."""
    runbook = context.runbook
    if runbook is None or transition.state != "firing":
        raise ValueError("an incident is opened by a firing alert and its runbook")
    alert = _seen(transition, "firing", transition.at_ms)
    state = IncidentState(
        id=incident,
        runbook=runbook.name,
        group=group_key(runbook, transition.labels),
        status="open",
        priority="P2",
        severity=alert.severity,
        opened_ms=context.now_ms,
        trigger=alert.fingerprint,
        alerts={alert.fingerprint: alert},
    )
    turn = Turn(replace(state, priority=priority_of(runbook, alert.severity, scope_of(state))), context)
    _note_alert(turn, transition, "alert.firing", f"{transition.alertname} fires, value {transition.value}")
    turn.note("incident.opened", _summary(runbook, turn.state), runbook=runbook.name, priority=turn.state.priority)
    run.go(turn, runbook.steps[0].name)
    return turn.decision()


def respond(state: IncidentState, event: Event, context: Context) -> Decision:
    """What an event does to an incident. An event that was seen before, or that comes too late, changes nothing."""
    turn = Turn(state, context)
    if isinstance(event, Alerted):
        _on_alert(turn, event.transition)
    elif isinstance(event, Gathered):
        _on_gathered(turn, event)
    elif isinstance(event, Decided):
        _on_decided(turn, event)
    elif isinstance(event, Reported):
        _on_outcome(turn, event.outcome)
    elif isinstance(event, TimerDue):
        _on_timer(turn)
    else:
        _on_operated(turn, event)
    return turn.decision()


# alerts


def _on_alert(turn: Turn, transition: Transition) -> None:
    known = turn.state.alerts.get(transition.fingerprint)
    if known and (transition.id == known.transition or transition.at_ms < known.at_ms):
        return
    if transition.state == "firing":
        _on_firing(turn, transition, known)
    elif transition.state == "resolved" and known is not None and known.standing == "firing":
        _on_ended(turn, transition, known)


def _on_firing(turn: Turn, transition: Transition, known: AlertSeen | None) -> None:
    again = known is not None and known.standing == "firing"
    fired_ms = known.fired_ms if known is not None and again else transition.at_ms
    seen = _seen(transition, "firing", fired_ms)
    turn.set(alerts={**turn.state.alerts, seen.fingerprint: seen})
    if turn.state.status == "closed" or again:
        return
    _note_alert(turn, transition, "alert.firing", f"{transition.alertname} fires, value {transition.value}")
    if turn.state.status == "resolved":
        _start_again(turn, seen.fingerprint, "incident.reopened", "fires again: the incident is opened again")
        return
    _raise_priority(turn)
    if turn.state.awaiting.kind != "settle":
        return
    if turn.state.escalated_reason:
        turn.set(awaiting=Awaiting("people"))
    elif turn.has_acted():
        turn.escalate("fired_again", "fires again right after it was repaired")
    else:
        _start_again(turn, seen.fingerprint, "incident.restarted", "fires again: the runbook starts again")


def _start_again(turn: Turn, trigger: str, kind: str, text: str) -> None:
    state = turn.state
    turn.set(
        status="open",
        attempt=state.attempt + 1,
        trigger=trigger,
        trail=[],
        evidence={},
        cause="",
        ineffective=False,
        escalated_reason="",
        escalation_level=0,
        escalation_due_ms=None,
        acknowledged_by="",
        acknowledged_ms=None,
        resolved_ms=None,
        resolution="",
    )
    turn.note(kind, text, attempt=turn.state.attempt)
    _raise_priority(turn)
    runbook = turn.context.runbook
    run.go(turn, runbook.steps[0].name if runbook else None, "runbook_gone", "the runbook is no longer loaded")


def _raise_priority(turn: Turn) -> None:
    runbook, state = turn.context.runbook, turn.state
    severity = worst([state.severity, *(a.severity for a in state.alerts.values() if a.standing == "firing")])
    turn.set(severity=severity)
    priority = priority_of(runbook, severity, scope_of(turn.state)) if runbook else state.priority
    if priority < state.priority:
        turn.set(priority=priority)
        turn.note("incident.priority", f"priority raised from {state.priority} to {priority}", severity=severity)


def _on_ended(turn: Turn, transition: Transition, known: AlertSeen) -> None:
    standing: AlertStanding = "cleared" if transition.cause == "cleared" else "no_data"
    if transition.cause == "rule_removed":
        standing = "rule_removed"
    seen = _seen(transition, standing, known.fired_ms)
    turn.set(alerts={**turn.state.alerts, seen.fingerprint: seen})
    if turn.state.status != "open":
        return
    if standing == "cleared":
        _note_alert(turn, transition, "alert.cleared", f"{transition.alertname} is cleared")
    else:
        text = f"{transition.alertname} ended without being cleared ({standing}): inconclusive, not repaired"
        _note_alert(turn, transition, "alert.inconclusive", text)
    if not turn.any_firing():
        _on_none_firing(turn)


def _on_none_firing(turn: Turn) -> None:
    kind = turn.state.awaiting.kind
    free = kind in ("approval", "people", "clear") or (kind in _BEFORE_ACTING and not turn.has_acted())
    if not free:
        return  # the verification judges
    lost = turn.unknown()
    if not lost:
        acted = turn.has_acted() or kind == "people"
        turn.settle("all alerts are cleared" if acted else "cleared before acting")
    elif kind != "people":
        turn.escalate("no_data", f"not acting on vanished data: {lost}")


# answers


def _on_gathered(turn: Turn, event: Gathered) -> None:
    state = turn.state
    asked = state.awaiting.asked
    expected = state.awaiting.kind == "evidence" and (state.attempt, state.step) == (event.attempt, event.step)
    step = _step(turn)
    if not expected or asked is None or state.status != "open":
        return
    if step is None:
        turn.escalate("runbook_changed", f"the runbook has no step {state.step!r} any more")
        return
    found = event.evidence
    turn.set(evidence={**state.evidence, event.step: found}, awaiting=Awaiting())
    turn.note("evidence.gathered" if found.ok else "evidence.failed", _found(event.step, found), step=event.step)
    body = step.body
    if isinstance(body, Verify):
        if found.ok:
            run.expect(turn, step, body)
        else:
            run.verify_failed(turn, step, body, "no_evidence", found.error)
    elif found.ok:
        run.go(turn, step.following)
    elif isinstance(body, Investigate):
        run.go(turn, body.on_failure, "investigation_failed", f"{event.step}: {found.error}")


def _on_decided(turn: Turn, event: Decided) -> None:
    asked = turn.state.awaiting.asked
    if not isinstance(asked, RequestApproval) or asked.command.id != event.command or turn.state.status != "open":
        return
    command, step = asked.command, _step(turn)
    what = f"{command.action} on {command.target.key()}"
    turn.set(awaiting=Awaiting())
    if not event.approved:
        turn.note("command.denied", f"{what}: denied by {event.by}", command=command.id, by=event.by)
        turn.escalate("approval_denied", f"{what} was denied by {event.by}")
        return
    if turn.now_ms >= command.expires_ms:
        _approval_expired(turn, asked)
        return
    turn.note("command.approved", f"{what}: approved by {event.by}", command=command.id, by=event.by)
    if step is None or not isinstance(step.body, Act):
        turn.escalate("runbook_changed", f"the runbook has no action {turn.state.step!r} any more")
        return
    said = run.verdict(turn, step.body, command, approved=True)
    if said.decision == "send":
        run.send(turn, command, f"approved by {event.by}")
        return
    turn.note("command.refused", f"{what}: {said.reason}: {said.detail}", command=command.id, reason=said.reason)
    turn.escalate(said.reason, f"{what} was approved, and refused: {said.detail}")


def _approval_expired(turn: Turn, asked: RequestApproval) -> None:
    command = asked.command
    what = f"{command.action} on {command.target.key()}"
    turn.note("command.unapproved", f"{what}: nobody decided in time", command=command.id)
    turn.escalate("approval_expired", f"nobody decided about {what} in time")


def _on_outcome(turn: Turn, outcome: Outcome) -> None:
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
    finished_ms = max(1, outcome.finished_ms)
    turn.update_action(replace(taken, status=outcome.status, reason=outcome.reason, finished_ms=finished_ms))
    what = f"{taken.command.action} on {taken.command.target.key()}"
    text = f"{what}: {outcome.status}" + (f" ({outcome.reason})" if outcome.reason else "")
    data = {"status": outcome.status, "reason": outcome.reason, "detail": outcome.detail, "by": outcome.executor}
    turn.note("command.outcome", text, command=taken.command.id, **data)


def _go_on(turn: Turn, outcome: Outcome) -> None:
    step, runbook = _step(turn), turn.context.runbook
    if step is None or runbook is None:
        turn.escalate("runbook_changed", f"the runbook has no step {turn.state.step!r} any more")
    elif outcome.status == "succeeded":
        run.go(turn, step.following)
    elif outcome.status == "inconclusive":
        text = f"nobody knows whether the command took effect: {outcome.reason}"
        run.go(turn, runbook.later_verify(step.name), "command_inconclusive", text)
    else:
        on_failure = step.body.on_failure if isinstance(step.body, Act) else None
        if outcome.status == "failed":
            turn.set(ineffective=True)  # something was tried: the next try is a person's
        run.go(turn, on_failure, f"command_{outcome.status}", f"the command was {outcome.status}: {outcome.reason}")


# time and people


def _on_timer(turn: Turn) -> None:
    state = turn.state
    if state.status != "open":
        return
    if state.escalation_due_ms is not None and state.escalation_due_ms <= turn.now_ms:
        turn.raise_level()
    due_ms = state.awaiting.due_ms
    if due_ms is None or due_ms > turn.now_ms:
        return
    kind, asked, step = state.awaiting.kind, state.awaiting.asked, _step(turn)
    turn.set(awaiting=Awaiting())
    if kind == "settle":
        _on_settled(turn)
    elif step is None:
        turn.escalate("runbook_changed", f"the runbook has no step {state.step!r} any more")
    elif kind == "wait":
        run.go(turn, step.following)
    elif kind == "verify" and isinstance(step.body, Verify):
        run.judge(turn, step, step.body)
    elif isinstance(asked, RequestApproval):
        _approval_expired(turn, asked)
    elif isinstance(asked, Send):
        turn.note("command.unanswered", "no outcome came in time", command=asked.command.id)
        _go_on(turn, _no_outcome(turn, asked))
    else:
        turn.escalate("runbook_changed", f"the step {state.step!r} is another one now")


def _no_outcome(turn: Turn, asked: Send) -> Outcome:
    command, now_ms = asked.command, turn.now_ms
    return Outcome(
        command.id, command.incident, "inconclusive", "no outcome came", {}, "", now_ms, now_ms, command.action
    )


def _on_settled(turn: Turn) -> None:
    state = turn.state
    if state.escalated_reason:
        turn.resolve("cleared_after_escalation", "cleared, and stays so, after it was escalated")
    elif turn.has_acted():
        turn.resolve("cleared", "cleared, and stays so")
    else:
        turn.resolve("cleared", "cleared by itself before anything was done")


def _on_operated(turn: Turn, event: Operated) -> None:
    data: dict[str, object] = {"by": event.by}
    if event.kind == "note":
        turn.effects.append(Note("incident.note", event.text, turn.now_ms, data, actor=event.by))
    elif turn.state.status != "open":
        return
    elif event.kind == "acknowledge":
        if not turn.state.acknowledged_by:
            turn.set(acknowledged_by=event.by, acknowledged_ms=turn.now_ms, escalation_due_ms=None)
            turn.effects.append(
                Note("incident.acknowledged", f"acknowledged by {event.by}", turn.now_ms, data, actor=event.by)
            )
    else:
        turn.withdraw(f"closed by {event.by}")
        turn.set(status="closed", resolved_ms=turn.now_ms, resolution="closed", awaiting=Awaiting())
        turn.set(escalation_due_ms=None)
        text = f"closed by {event.by}" + (f": {event.text}" if event.text else "")
        turn.effects.append(Note("incident.closed", text, turn.now_ms, data, actor=event.by))


# small parts


def _step(turn: Turn) -> Step | None:
    return turn.context.runbook.step(turn.state.step) if turn.context.runbook else None


def _seen(transition: Transition, standing: AlertStanding, fired_ms: int) -> AlertSeen:
    return AlertSeen(
        fingerprint=transition.fingerprint,
        alertname=transition.alertname,
        rule=transition.rule,
        labels=transition.labels,
        annotations=transition.annotations,
        value=transition.value,
        standing=standing,
        fired_ms=fired_ms,
        at_ms=transition.at_ms,
        window_ms=transition.window_ms,
        transition=transition.id,
        received_ms=transition.received_ms,
    )


def _note_alert(turn: Turn, transition: Transition, kind: str, text: str) -> None:
    data: dict[str, object] = {
        "transition": transition.id,
        "labels": transition.labels,
        "value": transition.value,
        "cause": transition.cause,
        "lines": [line.line for line in transition.evidence],
    }
    turn.effects.append(Note(kind, text, transition.at_ms, data))


def _summary(runbook: Runbook, state: IncidentState) -> str:
    try:
        return runbook.summary.render(scope_of(state))
    except RenderError:
        return f"{state.alert.alertname}: {runbook.name}"  # an incident is opened whatever its title


def _found(step: str, found: Evidence) -> str:
    if not found.ok:
        return f"{step}: could not be found out: {found.error}"
    if found.status is not None:
        return f"{step}: HTTP {found.status}"
    return f"{step}: {len(found.rows)} rows" + (" (cut off)" if found.truncated else "")
