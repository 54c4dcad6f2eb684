"""The outcome of an action is named like evidence: `STEP.status`, `STEP.reason`, `STEP.detail` in later steps."""

from __future__ import annotations

import pytest

from engine.response.runbook import load_runbooks
from engine.response.runbooktest import run_cases
from engine.response.steps import Actions

RUNBOOK = """\
runbooks:
  - name: Rotate
    match: ['alertname="A"']
    priority: P2
    escalation: [{to: on-call}]
    steps:
      - name: rotate
        act:
          action: http.request
          target: kms
          params: {method: POST, path: /rotate, check: {path: /, expect: status == 200}}
          on_failure: why
      - name: disable
        act:
          action: http.request
          target: kms
          params: {method: POST, path: /disable, json: {key: {cel: rotate.detail.previous_key_id}}}
      - name: gone
        verify: {}
      - name: told
        notify: {text: 'key {{ rotate.detail.key_id }} in, {{ rotate.detail.previous_key_id }} out'}
        next: end
      - name: why
        decide:
          - if: rotate.reason == 'unexpected_status' && rotate.detail.status == 503
            then: busy
            because: 'the service says {{ rotate.detail.status }} ({{ rotate.status }})'
          - else: broken
      - name: busy
        escalate: {text: busy}
        next: end
      - name: broken
        escalate: {text: broken}
"""
CASE = """\
runbook_tests:
  - name: one
    alert: {labels: {alertname: A}}
    modes: [{action: http.request, mode: auto}]
"""
ROTATED = "    outcomes: {rotate: {status: succeeded, detail: {key_id: new, previous_key_id: old}}}\n"


@pytest.mark.parametrize(
    "case",
    [
        ROTATED + "    expect:\n      commands: [{step: rotate}, {step: disable, params: "
        "{method: POST, path: /disable, json: {key: old}}}]\n      status: resolved\n",
        "    outcomes: {rotate: {status: failed, reason: unexpected_status, detail: {status: 503}}}\n"
        "    expect: {steps: [rotate, why, busy], commands: [{step: rotate}],\n"
        "             cause: the service says 503 (failed)}\n",
        "    outcomes: {rotate: {status: failed, reason: no_answer, detail: {status: 0}}}\n"
        "    expect: {steps: [rotate, why, broken], commands: [{step: rotate}]}\n",
    ],
)
def test_a_later_step_reads_what_became_of_an_action(case: str, actions: Actions) -> None:
    runbooks, problems = load_runbooks(RUNBOOK, "book.yml", actions=actions)
    assert problems == []
    assert run_cases(CASE + case, "test.yml", runbooks, actions=actions) == []


def test_an_action_that_nobody_answered_for_is_inconclusive(actions: Actions) -> None:
    text = RUNBOOK.replace("verify: {}", "verify: {on_failure: why}")
    failed = "rotate.reason == 'unexpected_status' && rotate.detail.status == 503"
    text = text.replace(failed, "rotate.status == 'inconclusive'")
    text = text.replace("{{ rotate.detail.status }}", "{{ rotate.reason }}")
    runbooks, problems = load_runbooks(text, "book.yml", actions=actions)
    assert problems == []
    case = (
        "    outcomes: {rotate: none}\n    alert_is: {gone: firing}\n    expect: {steps: [rotate, gone, why, busy],\n"
        "      commands: [{step: rotate}], cause: the service says no outcome came (inconclusive)}\n"
    )
    assert run_cases(CASE + case, "test.yml", runbooks, actions=actions) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("rotate.detail.key_id", "rotate.reason", ""),  # done on every way to there
        # A rotation that nobody knows about goes to the next verification, past `disable`.
        ("rotate.detail.key_id", "disable.reason", "'disable' is not done on every way"),
        ("rotate.reason == 'unexpected_status'", "disable.status == 'x'", "'disable' is not done on every way"),
        (
            "          on_failure: why\n",
            "          on_empty: why\n          subject: labels.a\n",
            "'rotate' is not done on",
        ),
    ],
)
def test_an_outcome_is_known_where_every_way_has_tried_the_action(
    old: str, new: str, problem: str, actions: Actions
) -> None:
    _, problems = load_runbooks(RUNBOOK.replace(old, new), "book.yml", actions=actions)
    assert [str(one) for one in problems if problem not in str(one)] == []
    assert bool(problems) == bool(problem)
