"""Unit tests for runbooks: given an alert, evidence, guardrails and answers, expect steps, commands or a refusal.

```yaml
runbook_tests:
  - name: one user is blocked
    runbook: PolicyViolationSpike
    alert: {labels: {alertname: PolicyViolationSpike, severity: warning}, value: "12", window: 1m}
    modes: [{action: http.request, mode: auto}]      # the installation's policy; nothing: approve
    paused: false
    history: [{action: http.request, target: http:openclaw, ago: 10s, status: succeeded}]
    also_firing: 5                                   # other targets that begin to fail with it: more are a storm
    silences: [{match: ['service="aureus-os"'], ends: 1h, kind: maintenance}]  # without `ends`: for the whole case
    evidence: {suspects: [{source_user: mallory}], rates: {error: timeout}}    # by step
    approvals: {restart: denied}                     # approved, denied or none (nobody answers), by step
    outcomes: {block: {status: failed, reason: x, detail: {}}}                 # succeeded if not given, by step
    unanswered: 2h                                   # nobody acknowledges for so long after that; nothing: at once
    alert_is: {stopped: firing}                      # cleared (if not given), firing or no_data, by the step that waits
    expect:
      steps: [suspects, block, stopped]
      commands: [{step: block, target: http:openclaw, params: {...}}]
      asked: [restart]                               # steps that asked a person
      refused: cooldown
      escalated: cooldown                            # the last reason, "" for none
      told: [on-call, manager@example.org]           # whom people's notices named, in order, each once
      status: resolved
      resolution: verified
      priority: P2
```

It drives the very state machine that runs live; the only thing made up here is time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import msgspec
from msgspec import Struct

from engine.core import duration
from engine.core.diagnostics import Document, Path, load_yaml
from engine.core.labels import fingerprint
from engine.core.messages import Command, Outcome, Transition
from engine.response.guardrails import Past, Policy
from engine.response.incident import open_incident, respond
from engine.response.model import (
    Alerted,
    Context,
    Decided,
    Decision,
    Event,
    Evidence,
    Gathered,
    IncidentState,
    Investigate,
    Note,
    Notice,
    Reported,
    RequestApproval,
    Send,
    TimerDue,
)
from engine.response.runbookcase import NEVER_MS, Case, ExpectedCommand, GivenOutcome, GivenPast
from engine.response.silences import Mutes
from engine.response.steps import Actions, Runbook, route
from engine.response.storm import Firing

_START_MS = 1_800_000_000_000
_TURNS_MAX = 200


class Failure(Struct, frozen=True, order=True):
    """A case that went otherwise than expected, or cannot be run. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    case: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.case}: {self.message}"


class Course(Struct):
    """How a case went. `trails`: the steps of each run of the runbook, growing."""

    state: IncidentState
    commands: list[Command]
    asked: list[str]
    observed: list[str]
    refused: list[str]
    escalated: str
    notes: list[Note] = []
    trails: list[list[str]] = []
    told: list[str] = []


class CaseError(Exception):
    """A case cannot be run to its end."""


def run_cases(text: str, file: str, runbooks: Sequence[Runbook], *, actions: Actions) -> list[Failure]:
    """Run every case under `runbook_tests` of a file; what went wrong, sorted. A file without the key has no cases."""
    failures, _ = run_all(text, file, runbooks, actions=actions)
    return failures


def run_all(
    text: str, file: str, runbooks: Sequence[Runbook], *, actions: Actions
) -> tuple[list[Failure], dict[str, Course]]:
    """As `run_cases`, with how each case went, by its name (for coverage)."""
    documents, problems = load_yaml(text, file)
    failures = [Failure(p.file, p.line, p.column, "file", p.message) for p in problems]
    courses: dict[str, Course] = {}
    for document in documents:
        items = document.data.get("runbook_tests", []) if isinstance(document.data, dict) else []
        if not isinstance(items, list):
            failures.append(_failure(document, ("runbook_tests",), "file", "`runbook_tests` is a list of cases"))
            continue
        for i, item in enumerate(items):
            path: Path = ("runbook_tests", i)
            name = str(item.get("name", f"case {i + 1}")) if isinstance(item, dict) else f"case {i + 1}"
            try:
                case = msgspec.convert(item, Case)
                courses[name] = course = play(case, runbooks, actions)
            except (msgspec.ValidationError, CaseError, ValueError) as error:
                failures.append(_failure(document, path, name, str(error)))
                continue
            failures += [_failure(document, (*path, "expect", key), name, m) for key, m in _compare(case, course)]
    return sorted(failures), courses


def _failure(document: Document, path: Path, case: str, message: str) -> Failure:
    line, column = document.at(path)
    return Failure(document.file, line, column, case, message)


def play(case: Case, runbooks: Sequence[Runbook], actions: Actions) -> Course:
    """Run one case to its end. Raises `CaseError`."""
    runbook = route(list(runbooks), case.alert.labels)
    if runbook is None:
        raise CaseError(f"no runbook matches the alert's labels {case.alert.labels}")
    if case.runbook and runbook.name != case.runbook:
        raise CaseError(f"the alert goes to the runbook {runbook.name!r}, not to {case.runbook!r}")
    policy = Policy(modes=tuple(case.modes))
    past = tuple(_past(given, i, runbook) for i, given in enumerate(case.history))
    mutes = Mutes(tuple(given.silence(i, _START_MS) for i, given in enumerate(case.silences, 1)))
    firings = tuple(Firing(i, f"another {i}", _START_MS) for i in range(2, 2 + case.also_firing))
    context = Context(_START_MS, runbook, actions, policy, past, case.paused, mutes=mutes, firings=firings)
    firing = _transition(case, "firing", _START_MS)
    decision = open_incident(1, firing, context)
    course = Course(decision.state, [], [], [], [], "")
    _collect(course, decision)
    now_ms = _START_MS
    for _ in range(_TURNS_MAX):
        events = _answers(case, course.state, now_ms)
        if not events:
            _stay_silent(case, course, replace(context, now_ms=now_ms))
            return course
        for now_ms, event in events:
            decision = respond(course.state, event, replace(context, now_ms=now_ms))
            _collect(course, decision)
    raise CaseError(f"did not end within {_TURNS_MAX} turns")


def _stay_silent(case: Case, course: Course, context: Context) -> None:
    """Nobody acknowledges for a while: the levels of the escalation that are due then are told."""
    end_ms = context.now_ms + (duration.parse_ms(case.unanswered) if case.unanswered else 0)
    while course.state.status == "open" and (due_ms := course.state.escalation_due_ms or end_ms + 1) <= end_ms:
        _collect(course, respond(course.state, TimerDue(), replace(context, now_ms=due_ms)))


def _past(given: GivenPast, number: int, runbook: Runbook) -> Past:
    issued_ms = _START_MS - duration.parse_ms(given.ago)
    return Past(
        command=f"past {number}",
        incident=0,
        attempt=1,
        runbook=given.runbook or runbook.name,
        step=given.step,
        action=given.action,
        target=given.target,
        issued_ms=issued_ms,
        status=given.status,
        finished_ms=0 if given.status == "sent" else issued_ms + 1,
    )


def _collect(course: Course, decision: Decision) -> None:
    course.state = decision.state
    course.trails = [*course.trails, decision.state.trail]
    course.notes = [*course.notes, *(effect for effect in decision.effects if isinstance(effect, Note))]
    for effect in decision.effects:
        if isinstance(effect, Notice):
            course.told = list(dict.fromkeys([*course.told, *effect.to]))
        elif isinstance(effect, Send):
            course.commands.append(effect.command)
        elif isinstance(effect, RequestApproval):
            course.asked.append(effect.command.step)
        elif isinstance(effect, Note) and effect.kind == "command.refused":
            course.refused.append(str(effect.data.get("reason", "")))
        elif isinstance(effect, Note) and effect.kind == "command.observed":
            course.observed.append(course.state.step)
        elif isinstance(effect, Note) and effect.kind == "incident.escalated":
            course.escalated = str(effect.data.get("reason", ""))


def _answers(case: Case, state: IncidentState, now_ms: int) -> list[tuple[int, Event]]:
    """What happens next to the incident, and when; nothing when the case is over."""
    waits, step = state.awaiting, state.step
    if state.status != "open" or waits.kind in ("people", "nothing") or waits.due_ms == NEVER_MS:
        return []
    soon_ms, due_ms = now_ms + 10, waits.due_ms if waits.due_ms is not None else now_ms
    asked, alert = waits.asked, case.alert_is.get(step)
    if waits.kind == "clear":
        return [] if alert == "firing" else [(soon_ms, _ended(case, soon_ms, alert))]
    if waits.kind == "verify":
        ended = [] if alert == "firing" else [(due_ms - 1, _ended(case, due_ms - 1, alert))]
        return [*ended, (due_ms, TimerDue())]
    if alert in ("cleared", "no_data") and any(a.standing == "firing" for a in state.alerts.values()):
        return [(soon_ms, _ended(case, soon_ms, alert))]
    if isinstance(asked, Investigate):
        return [(soon_ms, Gathered(state.attempt, step, _evidence(case, step, soon_ms)))]
    if isinstance(asked, RequestApproval):
        given = case.approvals.get(step)
        if given is None:
            raise CaseError(f"step {step!r} asks a person, and the case has no answer under `approvals`")
        return [(due_ms, TimerDue()) if given == "none" else (soon_ms, _decided(asked.command, given))]
    if isinstance(asked, Send):
        outcome = _outcome(case, asked.command, soon_ms)
        return [(soon_ms, Reported(outcome)) if outcome is not None else (due_ms, TimerDue())]
    return [(due_ms, TimerDue())]


def _decided(command: Command, given: str) -> Decided:
    return Decided(command.id, given == "approved", "somebody")


def _evidence(case: Case, step: str, now_ms: int) -> Evidence:
    given = case.evidence.get(step)
    if given is None:
        raise CaseError(f"step {step!r} investigates, and the case has nothing for it under `evidence`")
    if isinstance(given, list):
        return Evidence(True, now_ms, given)
    return Evidence(not given.error, now_ms, given.rows, given.status, given.body, given.error)


def _outcome(case: Case, command: Command, now_ms: int) -> Outcome | None:
    given = case.outcomes.get(command.step, "succeeded")
    if given == "none":
        return None
    if not isinstance(given, GivenOutcome):
        given = GivenOutcome(given)
    return Outcome(command.id, command.incident, given.status, given.reason, given.detail, "test", now_ms, now_ms)


def _ended(case: Case, at_ms: int, standing: str | None) -> Alerted:
    return Alerted(_transition(case, "resolved", at_ms, "no_data" if standing == "no_data" else "cleared"))


def _transition(
    case: Case,
    state: Literal["firing", "resolved"],
    at_ms: int,
    cause: Literal["condition", "cleared", "no_data"] = "condition",
) -> Transition:
    labels = case.alert.labels
    mark = fingerprint(labels)
    name = labels.get("alertname", "")
    return Transition(
        id=f"{mark}-{state}-{at_ms}",
        rule=f"test/{name}",
        alertname=name,
        fingerprint=mark,
        labels=labels,
        annotations=case.alert.annotations,
        previous="firing" if state == "resolved" else "pending",
        state=state,
        at_ms=at_ms,
        active_since_ms=_START_MS,
        value=case.alert.value,
        cause=cause,
        window_ms=duration.parse_ms(case.alert.window),
    )


def _compare(case: Case, course: Course) -> list[tuple[str, str]]:
    expect, state = case.expect, course.state
    refused = course.refused[-1] if course.refused else ""
    pairs: Mapping[str, tuple[object, object]] = {
        "steps": (expect.steps, state.trail),
        "asked": (expect.asked, course.asked),
        "observed": (expect.observed, course.observed),
        "refused": (expect.refused, refused),
        "escalated": (expect.escalated, course.escalated),
        "status": (expect.status, state.status),
        "resolution": (expect.resolution, state.resolution),
        "told": (expect.told, course.told),
        "priority": (expect.priority, state.priority),
        "cause": (expect.cause, state.cause),
    }
    out = [
        (key, f"{key}: expected {wanted!r}, got {got!r}")
        for key, (wanted, got) in pairs.items()
        if wanted is not None and wanted != got
    ]
    got_steps, wanted_steps = [c.step for c in course.commands], [c.step for c in expect.commands]
    if got_steps != wanted_steps:
        return [*out, ("commands", f"commands: expected of the steps {wanted_steps}, got {got_steps}")]
    for wanted, command in zip(expect.commands, course.commands, strict=True):
        out += _compare_command(wanted, command)
    return out


def _compare_command(wanted: ExpectedCommand, got: Command) -> list[tuple[str, str]]:
    pairs = {
        "action": (wanted.action, got.action),
        "target": (wanted.target, got.target.key()),
        "params": (wanted.params, got.params),
    }
    return [
        ("commands", f"command of step {got.step}: {key}: expected {expected!r}, got {value!r}")
        for key, (expected, value) in pairs.items()
        if expected is not None and expected != value
    ]
