"""Which alerts belong together, and what an incident does with another one's."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.actions import load_actions
from engine.response import grouping
from engine.response.guardrails import ModeRule, Policy
from engine.response.incident import open_incident, respond
from engine.response.model import (
    Absorbed,
    Alerted,
    Context,
    Decision,
    Explained,
    IncidentState,
    LetGo,
    Merged,
    Note,
    Operated,
    Reported,
    TimerDue,
    WithdrawApproval,
)
from engine.response.runbook import load_runbooks
from tests.response.conftest import START_MS, alert, outcome
from tests.response.grouped import DATABASE, ELSEWHERE, FAILING, SLOW, grouped_runbooks, labels

AUTOMATIC = Policy(modes=(ModeRule("auto", "http.request"),))
RUNBOOKS = {runbook.name: runbook for runbook in grouped_runbooks()}


def context(name: str, now_ms: int = START_MS, policy: Policy = AUTOMATIC) -> Context:
    return Context(now_ms, RUNBOOKS[name], load_actions(), policy)


def opened(given: dict[str, str], number: int = 1, policy: Policy = AUTOMATIC) -> IncidentState:
    return open_incident(number, alert("firing", START_MS, given), context(given["alertname"], policy=policy)).state


def kinds(decision: Decision) -> list[str]:
    return [effect.kind for effect in decision.effects if isinstance(effect, Note)]


def text_of(decision: Decision, kind: str) -> str:
    return next(effect.text for effect in decision.effects if isinstance(effect, Note) and effect.kind == kind)


@pytest.mark.parametrize(
    ("given", "explained"),
    [
        (SLOW, True),
        (FAILING, True),
        (ELSEWHERE, False),  # another namespace
        (labels("ServiceDown", service="bridge"), False),
        (labels("QueueGrows", severity="warning"), True),  # `cluster` is absent on both, which is equal
        (labels("QueueGrows", severity="warning", cluster="eu"), False),
        (labels("QueueGrows"), False),  # the severity does not match
        (labels("DatabaseFailure", service="other"), False),  # its own alerts are never explained
    ],
)
def test_an_open_incident_explains_what_its_runbook_names_with_equal_labels(
    given: dict[str, str], explained: bool
) -> None:
    database, runbook = opened(DATABASE), RUNBOOKS["DatabaseFailure"]
    assert grouping.explains(runbook, database, given) == explained
    assert not grouping.explains(runbook, replace(database, status="resolved"), given)
    assert not grouping.explains(RUNBOOKS["HighLatency"], database, given)
    assert not grouping.explains(None, database, given)


def test_an_incident_is_taken_over_when_all_its_alerts_that_fire_are_explained() -> None:
    runbook, database, slow = RUNBOOKS["DatabaseFailure"], opened(DATABASE), opened(SLOW, 2)
    assert grouping.takes_over(runbook, database, slow)
    other = replace(slow.alert, fingerprint="x", labels=ELSEWHERE)
    both = replace(slow, alerts={**slow.alerts, "x": other})
    assert not grouping.takes_over(runbook, database, both)
    ended = replace(both, alerts={**slow.alerts, "x": replace(other, standing="cleared")})
    assert grouping.takes_over(runbook, database, ended)
    assert not grouping.takes_over(runbook, database, replace(slow, status="closed"))


def test_an_incident_that_has_acted_in_its_present_run_is_not_taken_over() -> None:
    runbook, database, failing = RUNBOOKS["DatabaseFailure"], opened(DATABASE), opened(FAILING, 3)
    assert failing.awaiting.kind == "outcome"
    assert not grouping.takes_over(runbook, database, failing)
    assert grouping.takes_over(runbook, database, replace(failing, attempt=2))


def test_an_explained_alert_joins_once_and_its_end_is_noted() -> None:
    """
    DatabaseFailure  |------------------------
    HighLatency         |----|====|---x          fires, again, is cleared
    """
    state = opened(DATABASE)
    first = respond(state, Explained(alert("firing", START_MS + 10, SLOW)), context("DatabaseFailure"))
    assert kinds(first) == ["alert.joined"]
    again = respond(first.state, Explained(alert("firing", START_MS + 20, SLOW)), context("DatabaseFailure"))
    assert again.effects == []
    stale = respond(again.state, Explained(alert("firing", START_MS + 10, SLOW)), context("DatabaseFailure"))
    assert stale == Decision(again.state, [])
    ended = respond(again.state, Explained(alert("resolved", START_MS + 30, SLOW)), context("DatabaseFailure"))
    assert kinds(ended) == ["alert.joined_ended"]
    assert [joined.standing for joined in ended.state.joined.values()] == ["cleared"]
    assert ended.state.alerts == state.alerts, "it does not decide when the incident is over"


def test_data_of_a_joined_alert_that_vanishes_is_not_called_well() -> None:
    state = respond(opened(DATABASE), Explained(alert("firing", START_MS, SLOW)), context("DatabaseFailure")).state
    gone = alert("resolved", START_MS + 30, SLOW, cause="no_data")
    said = text_of(respond(state, Explained(gone), context("DatabaseFailure")), "alert.joined_ended")
    assert "ended without being cleared (no_data)" in said


def merged(other: IncidentState, by: str = "") -> tuple[Decision, Decision]:
    into = opened(DATABASE, 9)
    over = respond(other, Merged(9, by), context(other.runbook))
    return over, respond(into, Absorbed(other, by), context("DatabaseFailure"))


def test_a_merged_incident_is_over_and_its_question_withdrawn() -> None:
    slow = opened(SLOW, 2)
    assert slow.awaiting.kind == "approval"
    over, taken = merged(slow)
    assert (over.state.status, over.state.resolution, over.state.merged_into) == ("closed", "merged", 9)
    assert [effect.reason for effect in over.effects if isinstance(effect, WithdrawApproval)] == [
        "merged into incident 9"
    ]
    assert text_of(over, "incident.merged").startswith("explained by incident 9; the question about POST")
    assert text_of(taken, "incident.absorbed").startswith(
        "incident 2 (HighLatency) is explained by this one, merged; the question about POST"
    )
    assert list(taken.state.joined) == list(slow.alerts)


def test_the_outcome_of_a_command_on_its_way_is_still_noted_in_the_merged_incident() -> None:
    failing = opened(FAILING, 3)
    assert failing.awaiting.kind == "outcome"
    over, taken = merged(failing)
    assert "is on its way, its outcome is noted there" in text_of(taken, "incident.absorbed")
    [sent] = failing.actions
    late = respond(over.state, Reported(outcome(sent.command.id, "succeeded", START_MS + 99)), context("HighErrorRate"))
    assert kinds(late) == ["command.outcome"]
    assert late.state.status == "closed"


def test_a_person_who_merges_is_named_in_both() -> None:
    over, taken = merged(opened(ELSEWHERE, 4), "ada")
    assert text_of(over, "incident.merged").startswith("merged by ada into incident 9")
    assert "is merged by ada" in text_of(taken, "incident.absorbed")


def test_merging_what_is_over_changes_nothing() -> None:
    closed = replace(opened(SLOW, 2), status="closed")
    assert respond(closed, Merged(9), context("HighLatency")) == Decision(closed, [])


@pytest.mark.parametrize("end", ["resolved", "closed"])
def test_what_joined_and_still_fires_is_let_go_when_the_incident_is_over(end: str) -> None:
    state = opened(DATABASE)
    ctx = context("DatabaseFailure")
    for given in (SLOW, FAILING):
        state = respond(state, Explained(alert("firing", START_MS, given)), ctx).state
    state = respond(state, Explained(alert("resolved", START_MS + 5, FAILING)), ctx).state
    if end == "closed":
        over = respond(state, Operated("close", "ada", "mended"), ctx)
    else:
        state = respond(state, Alerted(alert("resolved", START_MS + 10, DATABASE)), ctx).state
        over = respond(state, TimerDue(), context("DatabaseFailure", START_MS + 3_600_000))
    assert over.state.status == end
    [own] = [effect.transition for effect in over.effects if isinstance(effect, LetGo)]
    assert (own.labels, own.state, own.active_since_ms) == (SLOW, "firing", START_MS)
    assert own.id != alert("firing", START_MS, SLOW).id
    assert sorted(joined.standing for joined in over.state.joined.values()) == ["cleared", "handed_over"]


def test_an_incident_that_is_merged_lets_nothing_go_as_the_other_has_it() -> None:
    state = respond(opened(DATABASE), Explained(alert("firing", START_MS, SLOW)), context("DatabaseFailure")).state
    over = respond(state, Merged(9, "ada"), context("DatabaseFailure"))
    assert [effect for effect in over.effects if isinstance(effect, LetGo)] == []
    taken = respond(opened(ELSEWHERE, 9), Absorbed(state, "ada"), context("HighLatency"))
    assert set(taken.state.joined) == {*state.alerts, *state.joined}


def test_a_person_opens_an_incident_again_and_it_is_theirs() -> None:
    closed = respond(opened(SLOW), Operated("close", "ada", "done"), context("HighLatency")).state
    again = respond(closed, Operated("reopen", "bob", "not done"), context("HighLatency", START_MS + 99))
    assert (again.state.status, again.state.awaiting.kind, again.state.acknowledged_by) == ("open", "people", "bob")
    assert text_of(again, "incident.reopened") == "opened again by bob: not done"
    assert respond(again.state, Operated("reopen", "bob", "twice"), context("HighLatency")).effects == []
    over, _ = merged(opened(SLOW, 2))
    assert respond(over.state, Operated("reopen", "bob", "no"), context("HighLatency")).effects == []


@pytest.mark.parametrize(
    ("changes", "ended_ago_ms", "found"),
    [
        ({}, None, True),
        ({"namespace": "other"}, None, False),
        ({"service": "openclaw"}, None, False),
        ({"service": "", "job": "bridge"}, None, True),
        ({}, 3_600_000, True),
        ({}, 3_600_001, False),
    ],
)
def test_related_are_incidents_of_the_same_service_that_are_open_or_were_within_the_hour(
    changes: dict[str, str], ended_ago_ms: int | None, found: bool
) -> None:
    other = opened({**FAILING, **changes}, 2)
    if ended_ago_ms is not None:
        other = replace(other, status="resolved", resolved_ms=START_MS - ended_ago_ms)
    slow = opened(SLOW, 3)
    assert [one.id for one in grouping.related(slow, [other, slow], START_MS)] == ([2] if found else [])


def test_without_a_service_nothing_is_related() -> None:
    bare = opened(labels("HighLatency"), 3)
    assert grouping.related(bare, [opened(labels("HighErrorRate"), 2)], START_MS) == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("explains: HighLatency", "`explains` is a list"),
        ("explains: [{match: []}]", "`match` needs a matcher"),
        ("explains: [{match: ['alertname']}]", "not a matcher"),
        ("explains: [{match: ['a=b'], equal: ['9']}]", "is not the name of a label"),
        ("explains: [{match: ['a=b'], same: [namespace]}]", "unknown key 'same'"),
        ("explains: [{equal: [namespace]}]", "`match` is a text"),
    ],
)
def test_what_cannot_be_an_explains_is_refused_at_its_place(written: str, message: str) -> None:
    text = (
        "runbooks:\n- name: A\n  match: ['alertname=\"A\"']\n  priority: P2\n  escalation: [{to: x}]\n"
        f"  {written}\n  steps: [{{name: a, escalate: {{text: b}}}}]\n"
    )
    found, problems = load_runbooks(text, "a.yml", actions=load_actions())
    assert found == []
    assert any(message in problem.message and problem.line == 6 for problem in problems), problems
