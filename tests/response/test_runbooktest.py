"""Unit tests of runbooks: ours pass and cover every step, and a wrong expectation is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.response.runbooktest import run_all, run_cases
from engine.response.steps import Actions, Runbook
from tests.response.conftest import DEMO, SHIPPED

FILES = [*DEMO.glob("tests/*_test.yml"), *SHIPPED.glob("tests/*_test.yml")]
CASE = """\
runbook_tests:
  - name: many users
    alert: {labels: {alertname: PolicyViolationSpike, namespace: aureus, severity: warning}}
    evidence: {suspects: [], policies: []}
    expect: {steps: [suspects, policies, attack, many], escalated: many, status: open}
"""


def test_our_cases_pass_and_reach_every_step(runbooks: list[Runbook], actions: Actions) -> None:
    reached: set[tuple[str, str]] = set()
    for file in FILES:
        ours = [book for book in runbooks if Path(book.file).parent.parent == file.parent.parent]
        failures, courses = run_all(file.read_text(), file.name, ours, actions=actions)
        assert failures == []
        reached |= {(course.state.runbook, step) for course in courses.values() for step in course.state.trail}
    assert {(runbook.name, step.name) for runbook in runbooks for step in runbook.steps} - reached == set()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("escalated: many", "escalated: cooldown", "5:68: many users: escalated: expected 'cooldown', got 'many'"),
        ("status: open", "status: resolved", "status: expected 'resolved', got 'open'"),
        ("attack, many]", "attack]", "steps: expected"),
        ("status: open", "commands: [{step: block}]", "commands: expected of the steps ['block'], got []"),
        ("status: open", "told: [on-call]", "told: expected ['on-call'], got ['team-lead']"),
        (
            "    evidence:",
            "    unanswered: 4h\n    evidence:",
            "escalated: expected 'many', got 'not_acknowledged'",
        ),
        ("    evidence:", "    unanswered: soon\n    evidence:", "many users: "),
        ("status: open", "colour: red", "Object contains unknown field `colour`"),
        ("policies: []", "rates: []", "step 'policies' investigates, and the case has nothing for it"),
        ("namespace: aureus", "namespace: x", "no runbook matches"),
        ("    alert:", "    runbook: Other\n    alert:", "goes to the runbook 'PolicyViolationSpike', not to 'Other'"),
        ("runbook_tests:", "runbook_tests: 3\nx:", "`runbook_tests` is a list of cases"),
        ("runbook_tests:", "runbook_tests: [", "not valid YAML"),
    ],
)
def test_a_case_that_goes_otherwise_is_a_failure(
    old: str, new: str, message: str, runbooks: list[Runbook], actions: Actions
) -> None:
    failures = run_cases(CASE.replace(old, new, 1), "case.yml", runbooks, actions=actions)
    assert any(message in str(failure) for failure in failures), failures


def test_a_file_of_other_tests_has_no_cases(runbooks: list[Runbook], actions: Actions) -> None:
    assert run_cases("rule_files: [a.yml]\ntests: []\n", "rules.yml", runbooks, actions=actions) == []


SILENCED = """\
runbook_tests:
  - name: nobody is told
    alert: {labels: {alertname: PolicyViolationSpike, namespace: aureus, severity: warning}}
    evidence:
      suspects: [{source_user: mallory, channels: web, violations: 12, total: 12}]
      policies: []
      stopped: [{labels: {}, value: 1.0}]
    modes: [{action: http.request, mode: auto}]
    silences: [SILENCE]
    expect: EXPECT
"""


@pytest.mark.parametrize(
    ("silence", "expect"),
    [
        ("{match: [namespace=aureus]}", "{refused: silenced, escalated: '', status: open}"),
        ("{match: [namespace=aureus], kind: maintenance}", "{refused: maintenance, status: open}"),
        (  # when it is over the runbook starts again, and acts
            "{match: [namespace=aureus], ends: 1h}",
            "{refused: silenced, commands: [{step: block}], status: resolved}",
        ),
        ("{match: [namespace=other]}", "{refused: '', commands: [{step: block}], status: resolved}"),
    ],
)
def test_a_case_may_be_silenced(silence: str, expect: str, runbooks: list[Runbook], actions: Actions) -> None:
    text = SILENCED.replace("SILENCE", silence).replace("EXPECT", expect)
    assert run_cases(text, "case.yml", runbooks, actions=actions) == []


def test_a_silence_that_cannot_be_is_a_failure(runbooks: list[Runbook], actions: Actions) -> None:
    text = SILENCED.replace("SILENCE", "{match: []}").replace("EXPECT", "{}")
    (failure,) = run_cases(text, "case.yml", runbooks, actions=actions)
    assert "a silence needs a matcher" in failure.message
