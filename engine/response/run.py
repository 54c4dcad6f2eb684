"""Runs the steps of a runbook inside a turn, until one has to wait.

```
 investigate ──evidence──┐
 decide ─────────────────┤
 act ──(approval)─outcome┼──> following step ... ──> end: resolved, or people
 wait, verify ──timer────┤
 notify, escalate ───────┘          anything that does not work out: its named step, else escalate
```
"""

from __future__ import annotations

from msgspec.structs import replace

from engine.response import submit
from engine.response.commands import CommandError, is_empty, make_command
from engine.response.conditions import RenderError, Scope
from engine.response.model import (
    Awaiting,
    HttpGet,
    Investigate,
    KubernetesRead,
    LogqlQuery,
    Notice,
    PostgresQuery,
    PromqlQuery,
    Query,
    RequestApproval,
    scope_of,
)
from engine.response.steps import (
    END,
    Act,
    Decide,
    Escalate,
    KubernetesSource,
    LogqlSource,
    Name,
    Notify,
    PostgresSource,
    PromqlSource,
    Source,
    Step,
    Verify,
    Wait,
)
from engine.response.steps import Investigate as InvestigateStep
from engine.response.turn import Turn, priority_of, worst
from engine.response.words import span

EVIDENCE_GRACE_MS = 30_000  # an answer has to be written down too, and a responder may be starting again


def go(turn: Turn, name: str | None, reason: str = "", text: str = "") -> None:
    """Go on at a step; at None, which is where no step was named for a failure, escalate for `reason`."""
    following = name
    while following is not None and following != END:
        runbook = turn.context.runbook
        step = runbook.step(following) if runbook else None
        if step is None:
            turn.escalate("runbook_changed", f"the runbook has no step {following!r} any more")
            return
        turn.set(step=step.name, trail=[*turn.state.trail, step.name])
        entered = _enter(turn, step)
        if entered is None:
            return
        following = entered
    if following == END:
        finish(turn)
    else:
        turn.escalate(reason, text)


def start_again(turn: Turn, trigger: str, kind: str, text: str) -> None:
    """Run the runbook from its start for the alert `trigger`; what was tried before is not tried alone again."""
    state = turn.state
    acted = turn.has_acted()
    turn.set(
        status="open",
        attempt=state.attempt + 1,
        trigger=trigger,
        trail=[],
        evidence={},
        cause="",
        ineffective=state.ineffective or acted,
        unproven=False,
        escalated_reason="",
        escalated_ms=None,
        escalation_level=0,
        escalation_due_ms=None,
        held=False,
        storm=0,
        acknowledged_by="",
        acknowledged_ms=None,
        resolved_ms=None,
        resolution="",
    )
    turn.note(kind, text, attempt=turn.state.attempt)
    if state.status != "open" or state.held:
        turn.report("opened", text)
    if acted:
        mark = f"{turn.state.attempt}-fired-again"
        turn.inform(mark, "fired_again", "fires again after it was repaired: nothing more is done without a person")
    raise_priority(turn)
    runbook = turn.context.runbook
    go(turn, runbook.steps[0].name if runbook else None, "runbook_gone", "the runbook is no longer loaded")


def raise_priority(turn: Turn) -> None:
    """The severity and the priority of the worst alert that fires; they are never lowered."""
    runbook, state = turn.context.runbook, turn.state
    severity = worst([state.severity, *(a.severity for a in state.alerts.values() if a.standing == "firing")])
    turn.set(severity=severity)
    priority = priority_of(runbook, severity, scope_of(turn.state)) if runbook else state.priority
    if priority >= state.priority:
        return
    turn.set(priority=priority)
    text = f"priority raised from {state.priority} to {priority}"
    turn.note("incident.priority", text, severity=severity)
    turn.follow_priority(text)
    _ask_more_people(turn)


def _ask_more_people(turn: Turn) -> None:
    """A question that is open needs as many to agree as the priority now asks for."""
    asked, people = turn.state.awaiting.asked, turn.context.policy.people(turn.state.priority)
    if isinstance(asked, RequestApproval) and people > asked.people:
        more = replace(asked, people=people)
        turn.effects.append(more)
        turn.set(awaiting=replace(turn.state.awaiting, asked=more))


def trigger_ended(turn: Turn) -> bool:
    """Whether the alert whose labels a command would carry has ended; then another one's run begins, or people's turn.

    Another alert of the group may still fire, but what to do about that one is not known from this one's labels.
    """
    state, trigger = turn.state, turn.state.alert
    if trigger.standing == "firing":
        return False
    other = next((alert for alert in state.alerts.values() if alert.standing == "firing"), None)
    text = f"{turn.name_of(state.trigger)} ended ({trigger.standing})"
    if other is not None and not turn.has_acted():
        text += f" and {turn.name_of(other.fingerprint)} fires: the runbook starts again for that"
        start_again(turn, other.fingerprint, "incident.restarted", text)
    elif trigger.standing == "cleared":
        turn.escalate("trigger_cleared", f"{text}, and another alert still fires; not acting with its labels")
    else:
        turn.escalate("no_data", f"not acting on vanished data: {text}")
    return True


def _trigger_muted(turn: Turn) -> bool:
    """Whether only the alert of this run is muted and another one fires that is not: then the run begins for that."""
    other = turn.unmuted()
    if turn.mute_of(turn.state.alert) is None or other is None or turn.has_acted():
        return False
    text = f"{turn.name_of(turn.state.trigger)} is muted and {turn.name_of(other)} is not: the runbook starts for that"
    start_again(turn, other, "incident.restarted", text)
    return True


def finish(turn: Turn) -> None:
    """The steps are through."""
    if turn.all_cleared() and not turn.state.unproven:
        turn.resolve(_resolution(turn), "all alerts are cleared")
    elif turn.state.held:
        turn.hold(turn.muted)
    elif turn.state.escalated_reason:
        turn.set(awaiting=Awaiting("people"))
    elif turn.state.unproven:
        turn.escalate("ineffective", "the steps are through and no verification has held")
    elif turn.has_acted():
        turn.escalate("still_firing", "the steps are through and the alert is not cleared")
    else:
        turn.set(awaiting=Awaiting("clear"))


def _resolution(turn: Turn) -> str:
    """How an incident whose alerts are all cleared came to its end; without a verification nothing is verified."""
    runbook = turn.context.runbook
    if not turn.has_acted():
        return "cleared"
    judged = runbook and any(isinstance(step.body, Verify) for step in runbook.steps if step.name in turn.state.trail)
    return "verified" if judged else "cleared_after_escalation"


def _enter(turn: Turn, step: Step) -> str | None:
    """Do a step: the next step's name, or None when the turn ends here."""
    body = step.body
    if isinstance(body, InvestigateStep):
        investigate(turn, step, body)
        return None
    if isinstance(body, Act):
        return _act(turn, step, body)
    if isinstance(body, Wait):
        turn.note("step.waits", f"{step.name}: waits {span(body.duration_ms)}")
        turn.set(awaiting=Awaiting("wait", turn.now_ms + body.duration_ms))
        return None
    if isinstance(body, Verify):
        _watch(turn, step, body)
        return None
    try:
        return _say(turn, step, body)
    except RenderError as error:
        turn.escalate("condition_failed", f"{step.name}: {error}")
        return None


def _say(turn: Turn, step: Step, body: Decide | Notify | Escalate) -> str:
    scope = scope_of(turn.state)
    if isinstance(body, Decide):
        return _decide(turn, step, body)
    text = body.text.render(scope)
    if isinstance(body, Notify):
        mark = f"{turn.state.id}-{turn.state.attempt}-{step.name}"
        if not turn.kept_quiet(step.name, text, body.to):
            turn.note("incident.notified", text, step=step.name, to=list(body.to))
            turn.send_notice(Notice(mark, turn.state.id, "notify", body.to, turn.state.priority, text))
    else:
        turn.tell(step.name, text, body.to or turn.first_level)
    return step.following


def _decide(turn: Turn, step: Step, body: Decide) -> str:
    scope = scope_of(turn.state)
    for branch in body.branches:
        if branch.condition is None or branch.condition.holds(scope):
            because = branch.because.render(scope) if branch.because else ""
            if because:
                turn.set(cause=because)
            why = branch.condition.text if branch.condition else "otherwise"
            text = f"{step.name}: {because or why} -> {branch.target}"
            turn.note("step.decided", text, step=step.name, condition=why, then=branch.target, because=because)
            return branch.target
    return step.following


def investigate(turn: Turn, step: Step, body: InvestigateStep) -> None:
    """Ask a step's question; one that cannot be put is evidence that could not be had."""
    state = turn.state
    try:
        query = _query(body.source, scope_of(state))
    except RenderError as error:
        turn.note("evidence.failed", f"{step.name}: could not be asked: {error}", step=step.name)
        if isinstance(step.body, Verify):
            verify_failed(turn, step, step.body, "no_evidence", str(error))
        else:
            go(turn, body.on_failure, "investigation_failed", f"{step.name}: {error}")
        return
    asked = Investigate(state.id, state.attempt, step.name, query, body.timeout_ms, body.max_rows)
    turn.effects.append(asked)
    turn.set(awaiting=Awaiting("evidence", turn.now_ms + body.timeout_ms + EVIDENCE_GRACE_MS, asked))


def _query(source: Source, scope: Scope) -> Query:
    """The question of a source with its values put in. Raises `RenderError`."""
    if isinstance(source, PostgresSource):
        database = _name(source.database, "database", scope)
        return PostgresQuery(database, source.query, [param.value(scope) for param in source.params])
    if isinstance(source, PromqlSource):
        return PromqlQuery(source.query.fill(scope))
    if isinstance(source, LogqlSource):
        return LogqlQuery(source.query.fill(scope), source.is_lines, source.since_ms, source.limit)
    if isinstance(source, KubernetesSource):
        return KubernetesRead(source.read, source.target.render(scope), source.tail)
    return HttpGet(_name(source.host, "host", scope), source.path.fill(scope))


def _name(name: Name, what: str, scope: Scope) -> str:
    """A name of the settings, chosen if need be; who asks it looks it up there. Raises `RenderError`."""
    if isinstance(name, str):
        return name
    value = name.condition.value(scope)
    if not isinstance(value, str) or not value:
        raise RenderError(f"`{name.condition.text}` names no {what}: it gives {value!r}")
    return value


def _watch(turn: Turn, step: Step, body: Verify) -> None:
    state = turn.state
    stabilisation_ms = body.stabilisation_ms if body.stabilisation_ms is not None else turn.limits.stabilisation_ms
    done_ms = max([turn.now_ms, *(a.finished_ms for a in state.actions if a.attempt == state.attempt)])
    window_ms = max(alert.window_ms for alert in state.alerts.values())
    due_ms = done_ms + window_ms + stabilisation_ms
    text = (
        f"{step.name}: judges after the rule's window ({span(window_ms)}) and stabilisation ({span(stabilisation_ms)})"
    )
    turn.note("verify.waits", text, step=step.name, due_ms=due_ms)
    turn.set(awaiting=Awaiting("verify", due_ms))


def judge(turn: Turn, step: Step, body: Verify) -> None:
    """The time of a verification has come: look at the alerts, then at fresh evidence if it is asked for."""
    if not _alerts_are_well(turn, step, body):
        return
    if body.fresh is not None:
        investigate(turn, step, body.fresh)
    else:
        expect(turn, step, body)


def _alerts_are_well(turn: Turn, step: Step, body: Verify) -> bool:
    lost = turn.unknown()
    if lost:
        verify_failed(turn, step, body, "no_data", f"inconclusive, not repaired: {lost}")
    elif not turn.all_cleared():
        verify_failed(turn, step, body, "still_firing", "the alert still fires")
    return not lost and turn.all_cleared()


def expect(turn: Turn, step: Step, body: Verify) -> None:
    """The last part of a verification: the condition on the evidence."""
    if not _alerts_are_well(turn, step, body):
        return  # it fired again while the evidence was gathered
    if body.expect is not None:
        try:
            holds = body.expect.holds(scope_of(turn.state))
        except RenderError as error:
            verify_failed(turn, step, body, "expect_failed", str(error))
            return
        if not holds:
            verify_failed(turn, step, body, "expect_failed", f"`{body.expect.text}` does not hold")
            return
    turn.note("verify.succeeded", f"{step.name}: the alert is cleared and stays so", step=step.name)
    turn.set(unproven=False)
    go(turn, step.following)


def verify_failed(turn: Turn, step: Step, body: Verify, reason: str, text: str) -> None:
    """What was done did not help: from here on nothing happens without a person."""
    turn.note("verify.failed", f"{step.name}: {text}", step=step.name, reason=reason)
    turn.set(ineffective=True, unproven=True)
    go(turn, body.on_failure, f"ineffective_{reason}", f"what was done did not help: {text}")


def completes(turn: Turn, act: Act) -> bool:
    """Whether an action completes what this run has begun, and so is done though the alert may have ended.

    What was isolated has to come back: that the alert ended is what isolating was for.
    """
    return act.even_if_ended and turn.has_acted() and not turn.state.ineffective


def _nothing_fires(turn: Turn) -> bool:
    """Whether there is no alert to act on any more; then the run is over, or people's."""
    if turn.any_firing():
        return trigger_ended(turn)
    # Seldom reached: an alert that ends while the incident waits ends the run at once, see `incident`.
    lost = turn.unknown()
    if lost:
        turn.escalate("no_data", f"not acting on vanished data: {lost}")
    elif turn.state.ineffective:
        turn.escalate("ineffective", "the alert is cleared, but what was done did not help; not acting again")
    else:
        turn.settle("cleared before acting")
    return True


def _act(turn: Turn, step: Step, act: Act) -> str | None:
    if (not completes(turn, act) and _nothing_fires(turn)) or _trigger_muted(turn):
        return None
    scope = dict(scope_of(turn.state))
    try:
        if act.subject is not None:
            scope["subject"] = act.subject.value(scope)
            if is_empty(scope["subject"]):
                turn.note("command.nothing_to_do", f"{step.name}: there is nothing to act on", step=step.name)
                if act.on_empty is None:
                    turn.escalate("empty_target", f"{step.name}: there is nothing to act on")
                return act.on_empty
        command = make_command(turn.state, step, act, scope, turn.context)
        question = act.question.render(scope) if act.question else ""
    except (RenderError, CommandError) as error:
        turn.escalate("no_command", f"{step.name}: {error}")
        return None
    submit.submit(turn, act, command, question)
    return None
