"""How an incident ends whose alert is cleared: only a verification that held makes it verified."""

from __future__ import annotations

import msgspec
import pytest

from engine.response.runbook import load_runbooks
from engine.response.runbookcase import Case
from engine.response.runbooktest import play
from engine.response.steps import Actions

RUNBOOK = """\
runbooks:
  - name: Restart
    match: [alertname="Down"]
    priority: P1
    escalation: [{to: on-call}]
    steps:
      - name: restart
        act: {action: kubernetes.rollout_restart, target: aureus/deployment/bridge, on_failure: handed_over}
      - name: answers
        verify:
          investigate: {promql: {query: up}}
          expect: size(answers.rows) == 1
          on_failure: NEXT
        next: end
      - name: handed_over
        escalate: {text: it is yours}
        next: end
      - name: again
        ask: {action: kubernetes.rollout_restart, target: aureus/deployment/bridge, question: Again?}
      - name: answers_now
        verify: {}
"""
UP = [{"labels": {}, "value": 1.0}]


@pytest.mark.parametrize(
    ("next_", "outcome", "rows", "status", "resolution", "escalated"),
    [
        ("handed_over", "succeeded", UP, "resolved", "verified", ""),
        ("handed_over", "succeeded", [], "open", "", "handed_over"),
        ("end", "succeeded", [], "open", "", "ineffective"),
        ("again", "succeeded", [], "open", "", "ineffective"),
        ("handed_over", "failed", [], "open", "", "handed_over"),
    ],
)
def test_a_cleared_alert_is_no_proof(  # the columns of the table
    actions: Actions,
    next_: str,
    outcome: str,
    rows: list[object],
    status: str,
    resolution: str,
    escalated: str,
) -> None:
    text = RUNBOOK.replace("NEXT", next_)
    if next_ != "again":
        text = text.partition("      - name: again")[0]
    runbooks, problems = load_runbooks(text, "r.yml", actions=actions)
    assert problems == []
    case = {
        "name": "case",
        "alert": {"labels": {"alertname": "Down"}},
        "modes": [{"action": "kubernetes.rollout_restart", "mode": "auto"}],
        "evidence": {"answers": rows},
        "outcomes": {"restart": outcome},
        "expect": {},
    }
    course = play(msgspec.convert(case, Case), runbooks, actions)
    assert (course.state.status, course.state.resolution, course.escalated) == (status, resolution, escalated)
