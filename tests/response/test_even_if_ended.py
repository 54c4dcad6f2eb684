"""`even_if_ended`: what a run has begun it completes, though the alert has ended; nothing else is done then.

```
 fires      isolate sent    isolated       cleared     judged        restore sent        judged
   |------------|--------------|--------------|-----------|----------------|----------------|
```
"""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from engine.response.runbook import load_runbooks
from engine.response.runbookcase import Case, Expected, GivenAlert, GivenOutcome
from engine.response.runbooktest import Course, play
from engine.response.steps import Actions

RUNBOOK = """\
runbooks:
  - name: Isolate
    match: [alertname="Tampering"]
    priority: P0
    escalation: [{to: on-call}]
    steps:
      - name: isolate
        act:
          action: kubernetes.scale
          target: aureus/deployment/bridge
          params: {replicas: 0, floor: 0, ceiling: 5, allow_shrink: true, allow_outage: true}
      - name: silent
        verify: {}
      - name: restore
        act:
          action: kubernetes.scale
          target: aureus/deployment/bridge
          params: {replicas: 3, ceiling: 5}
          even_if_ended: EVEN
      - name: restored
        verify: {}
"""


def run(
    actions: Actions,
    even: str = "true",
    mode: Literal["auto", "approve"] = "auto",
    silent: str = "verify: {}",
    **given: object,
) -> Course:
    text = RUNBOOK.replace("EVEN", even).replace("verify: {}", silent, 1)
    runbooks, problems = load_runbooks(text, "r.yml", actions=actions)
    assert problems == []
    modes = [{"action": "kubernetes.scale", "mode": mode}]
    case = {"name": "c", "alert": GivenAlert({"alertname": "Tampering"}), "expect": Expected(), "modes": modes, **given}
    return play(msgspec.convert(msgspec.to_builtins(case), Case), runbooks, actions)


def test_what_was_isolated_comes_back_after_the_alert_has_ended(actions: Actions) -> None:
    course = run(actions)
    assert [command.step for command in course.commands] == ["isolate", "restore"]
    assert (course.state.status, course.state.resolution) == ("resolved", "verified")


def test_without_it_nothing_more_is_done_once_the_alert_has_ended(actions: Actions) -> None:
    course = run(actions, "false")
    assert [command.step for command in course.commands] == ["isolate"]


def test_a_person_is_still_asked_and_the_answer_still_counts(actions: Actions) -> None:
    course = run(actions, mode="approve", approvals={"isolate": "approved", "restore": "approved"})
    assert course.asked == ["isolate", "restore"]
    assert [command.step for command in course.commands] == ["isolate", "restore"]


def test_an_alert_that_ends_while_the_person_thinks_does_not_leave_it_isolated(actions: Actions) -> None:
    course = run(actions, mode="approve", approvals={"isolate": "approved", "restore": "none"})
    assert (course.escalated, course.state.status) == ("approval_expired", "open")


@pytest.mark.parametrize(("even", "sent"), [("true", ["isolate", "restore"]), ("false", ["isolate"])])
@pytest.mark.parametrize("ended", ["cleared", "no_data"])
def test_an_alert_that_ends_while_a_person_is_asked_leaves_the_question_open(
    actions: Actions, even: str, sent: list[str], ended: str
) -> None:
    given = {"approvals": {"isolate": "approved", "restore": "approved"}, "alert_is": {"restore": ended}}
    course = run(actions, even, "approve", "wait: 10s", **given)
    assert [command.step for command in course.commands] == sent


def test_with_nothing_begun_there_is_nothing_to_complete(actions: Actions) -> None:
    course = run(actions, mode="approve", approvals={"isolate": "approved"}, alert_is={"isolate": "cleared"})
    assert (course.commands, course.state.resolution) == ([], "cleared")


def test_after_something_that_did_not_help_the_next_step_is_a_persons(actions: Actions) -> None:
    course = run(actions, outcomes={"isolate": GivenOutcome("failed", "x")})
    assert [command.step for command in course.commands] == ["isolate"]
    assert course.escalated == "command_failed"


@pytest.mark.parametrize("even", ["1", "maybe"])
def test_it_is_a_switch(actions: Actions, even: str) -> None:
    _, problems = load_runbooks(RUNBOOK.replace("EVEN", even), "r.yml", actions=actions)
    assert [(p.line, p.column, "true or false" in p.message) for p in problems] == [(19, 26, True)]
