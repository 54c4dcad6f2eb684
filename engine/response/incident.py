"""The incident as a state machine: `respond(state, event, context) -> Decision(state, effects)`.

Pure: the time is in the context, and everything that is to be done is an effect. The promises of design's Safety that
are about *order* are kept here: an alert that clears before anything was done ends the run (no repair of a healthy
service), data that vanishes is never a repair, an ineffective repair is followed by people and not by another try,
and an event that comes twice, late or out of turn changes nothing but the timeline.
"""

from __future__ import annotations

from msgspec.structs import replace

from engine.core.messages import Transition
from engine.response import answers, grouping, run
from engine.response.conditions import RenderError
from engine.response.model import (
    Absorbed,
    Alerted,
    AlertSeen,
    Awaiting,
    Context,
    Decided,
    Decision,
    Event,
    Explained,
    Gathered,
    IncidentState,
    Merged,
    Note,
    Operated,
    Reported,
    RequestApproval,
    Send,
    TimerDue,
    scope_of,
)
from engine.response.steps import Act, Runbook, Verify, group_key
from engine.response.turn import Turn, priority_of, seen_of

_BEFORE_ACTING = ("evidence", "wait", "clear", "calm")


def open_incident(incident: int, transition: Transition, context: Context) -> Decision:
    """A firing alert that belongs to no open incident opens one. `context.runbook` is the one that matches it."""
    runbook = context.runbook
    if runbook is None or transition.state != "firing":
        raise ValueError("an incident is opened by a firing alert and its runbook")
    alert = seen_of(transition, transition.at_ms)
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
        fired_ms=context.now_ms,
    )
    turn = Turn(replace(state, priority=priority_of(runbook, alert.severity, scope_of(state))), context)
    _note_alert(turn, transition, "alert.firing", f"{transition.alertname} fires, value {transition.value}")
    summary = _summary(runbook, turn.state)
    turn.note("incident.opened", summary, runbook=runbook.name, priority=turn.state.priority)
    turn.report("opened", summary)
    run.go(turn, runbook.steps[0].name)
    return turn.decision()


def respond(state: IncidentState, event: Event, context: Context) -> Decision:
    """What an event does to an incident. An event that was seen before, or that comes too late, changes nothing."""
    turn = Turn(state, context)
    if isinstance(event, Alerted):
        _on_alert(turn, event.transition)
    elif isinstance(event, Gathered):
        answers.on_gathered(turn, event)
    elif isinstance(event, Decided):
        answers.on_decided(turn, event)
    elif isinstance(event, Reported):
        answers.on_outcome(turn, event.outcome)
    elif isinstance(event, TimerDue):
        _on_timer(turn)
    elif isinstance(event, Operated):
        _on_operated(turn, event)
    else:
        _on_other_incident(turn, event)
    if state.status == "open":
        grouping.let_go(turn)
    return turn.decision()


def _on_other_incident(turn: Turn, event: Explained | Merged | Absorbed) -> None:
    if isinstance(event, Explained):
        grouping.on_explained(turn, event.transition)
    elif isinstance(event, Merged):
        grouping.on_merged(turn, event)
    else:
        grouping.on_absorbed(turn, event)


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
    seen = seen_of(transition, fired_ms)
    turn.set(alerts={**turn.state.alerts, seen.fingerprint: seen})
    if turn.state.status == "closed" or again:
        return
    turn.set(fired_ms=turn.now_ms)
    name = turn.name_of(seen.fingerprint)
    _note_alert(turn, transition, "alert.firing", f"{name} fires, value {transition.value}")
    if turn.state.status == "resolved":
        run.start_again(turn, seen.fingerprint, "incident.reopened", "fires again: the incident is opened again")
        return
    run.raise_priority(turn)
    kind = turn.state.awaiting.kind
    if kind == "settle" and not turn.state.escalated_reason:
        if turn.has_acted():
            turn.escalate("fired_again", "fires again right after it was repaired")
        else:
            run.start_again(turn, seen.fingerprint, "incident.restarted", "fires again: the runbook starts again")
    elif kind == "muted":
        _on_mute_over(turn)
    elif kind in ("people", "settle"):
        turn.set(awaiting=Awaiting("people"))
        turn.inform(f"joined-{transition.id}", "alert_joined", f"{name} fires too, and nothing is done about it alone")


def _on_ended(turn: Turn, transition: Transition, known: AlertSeen) -> None:
    seen = seen_of(transition, known.fired_ms)
    turn.set(alerts={**turn.state.alerts, seen.fingerprint: seen})
    if turn.state.status != "open":
        return
    name = turn.name_of(seen.fingerprint)
    if seen.standing == "cleared":
        _note_alert(turn, transition, "alert.cleared", f"{name} is cleared")
    else:
        text = f"{name} ended without being cleared ({seen.standing}): inconclusive, not repaired"
        _note_alert(turn, transition, "alert.inconclusive", text)
    if not turn.any_firing():
        _on_none_firing(turn)


def _on_none_firing(turn: Turn) -> None:
    kind, step = turn.state.awaiting.kind, answers.step_of(turn)
    if kind == "approval" and step is not None and isinstance(step.body, Act) and run.completes(turn, step.body):
        return
    free = kind in ("approval", "people", "clear", "muted") or (kind in _BEFORE_ACTING and not turn.has_acted())
    if not free:
        return  # the verification judges
    lost = turn.unknown()
    if not lost:
        acted = turn.has_acted() or kind == "people"
        turn.settle("all alerts are cleared" if acted else "cleared before acting")
    elif kind != "people":
        turn.escalate("no_data", f"not acting on vanished data: {lost}")


# time and people


def _on_timer(turn: Turn) -> None:
    state = turn.state
    if state.status != "open":
        return
    if state.escalation_due_ms is not None and state.escalation_due_ms <= turn.now_ms:
        turn.raise_level()
    due_ms = state.awaiting.due_ms
    if state.awaiting.kind == "muted":
        _on_mute_over(turn)
        return
    if due_ms is None or due_ms > turn.now_ms:
        return
    kind, asked, step = state.awaiting.kind, state.awaiting.asked, answers.step_of(turn)
    turn.set(awaiting=Awaiting())
    if kind == "settle":
        _on_settled(turn)
    elif step is None:
        turn.escalate("runbook_changed", f"the runbook has no step {state.step!r} any more")
    elif kind in ("wait", "calm"):
        run.go(turn, step.following if kind == "wait" else step.name)
    elif kind == "verify" and isinstance(step.body, Verify):
        run.judge(turn, step, step.body)
    elif isinstance(asked, RequestApproval):
        answers.approval_expired(turn, asked)
    elif isinstance(asked, Send):
        answers.no_answer(turn, asked)
    elif kind == "evidence":
        answers.no_evidence(turn)
    else:
        turn.escalate("runbook_changed", f"the step {state.step!r} is another one now")


def _on_mute_over(turn: Turn) -> None:
    """A silence or maintenance that an incident waits for may have ended, or is another one now."""
    mute = turn.muted
    if mute is not None:
        if mute.until_ms != turn.state.awaiting.due_ms:
            turn.hold(mute)
        return
    fires = turn.unmuted()
    if fires is not None:
        run.start_again(turn, fires, "incident.unmuted", "no longer muted and still firing: the runbook starts again")
    else:
        turn.escalate("no_data", f"no longer muted; not acting on vanished data: {turn.unknown()}")


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
    elif event.kind == "reopen":
        _reopen(turn, event)
    elif event.kind == "undelivered":
        _on_undelivered(turn, event.text)
    elif turn.state.status != "open":
        return
    elif event.kind == "acknowledge":
        if not turn.state.acknowledged_by:
            turn.set(acknowledged_by=event.by, acknowledged_ms=turn.now_ms, escalation_due_ms=None)
            text = f"acknowledged by {event.by}"
            turn.effects.append(Note("incident.acknowledged", text, turn.now_ms, data, actor=event.by))
            turn.report("acknowledged", text)
    else:
        turn.withdraw(f"closed by {event.by}")
        turn.set(status="closed", resolved_ms=turn.now_ms, resolution="closed", awaiting=Awaiting())
        turn.set(escalation_due_ms=None)
        text = f"closed by {event.by}" + (f": {event.text}" if event.text else "")
        turn.effects.append(Note("incident.closed", text, turn.now_ms, data, actor=event.by))
        turn.report("resolved", text)


def _on_undelivered(turn: Turn, text: str) -> None:
    """Somebody who was called could not be reached: waiting for their acknowledgement would be in vain."""
    state = turn.state
    turn.set(escalation_level=max(1, state.escalation_level))  # the first level is who was asked about a command
    if state.status == "open" and not state.acknowledged_by and turn.has_next_level():
        turn.raise_level("undelivered", text)
    else:
        turn.note("incident.undelivered", f"{text}; nobody further is to be told")


def _reopen(turn: Turn, event: Operated) -> None:
    """A person opens it again: it is theirs, and nothing is done by itself until its alert fires anew."""
    state = turn.state
    if state.status == "open" or state.merged_into is not None:
        return
    turn.set(
        status="open",
        attempt=state.attempt + 1,
        trail=[],
        ineffective=state.ineffective or turn.has_acted(),
        acknowledged_by=event.by,
        acknowledged_ms=turn.now_ms,
        resolved_ms=None,
        resolution="",
        awaiting=Awaiting("people"),
    )
    text = f"opened again by {event.by}" + (f": {event.text}" if event.text else "")
    turn.effects.append(Note("incident.reopened", text, turn.now_ms, {"by": event.by}, actor=event.by))
    turn.report("opened", text)


# small parts


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
