"""Which ways of a runbook its cases took, and which they did not."""

from __future__ import annotations

import pytest

from engine.response.coverage import coverage, share
from engine.response.runbook import load_runbooks
from engine.response.runbooktest import run_all
from engine.response.steps import Actions

RUNBOOK = """\
runbooks:
  - name: Book
    match: ['alertname="A"']
    priority: P2
    escalation: [{to: on-call}]
    steps:
      - name: look
        investigate: {promql: {query: 'up{job=$job}', params: {job: labels.job}}, on_failure: pause}
        next: choose
      - name: choose
        decide:
          - {if: size(look.rows) > 1, then: fix}
          - {if: size(look.rows) > 0, then: fix}
          - {else: pause}
      - name: fix
        act:
          action: http.request
          target: t
          subject: look.rows
          params: {method: POST, path: /, check: {path: /, expect: status == 200}}
          on_empty: pause
          on_failure: pause
        next: seen
      - name: seen
        verify: {investigate: {promql: {query: up}}, expect: size(seen.rows) > 0, on_failure: pause}
        next: end
      - name: pause
        wait: 1m
        next: told
      - name: told
        escalate: {text: told}
        next: end
"""
ALERT = """\
runbook_tests:
  - name: one
    alert: {labels: {alertname: A, job: x}}
    modes: [{action: http.request, mode: auto}]
"""
ONE, TWO = "[{labels: {}, value: 1.0}]", "[{labels: {}, value: 1.0}, {labels: {a: b}, value: 1.0}]"
GONE_ON = {"pause next: told", "told next: end"}


@pytest.mark.parametrize(
    ("case", "taken"),
    [
        (
            f"evidence: {{look: {ONE}, seen: {ONE}}}",
            {"look next: choose", "choose then: fix 2", "fix next: seen", "seen next: end"},
        ),
        (
            f"evidence: {{look: {TWO}, seen: {ONE}}}",
            {"look next: choose", "choose then: fix 1", "fix next: seen", "seen next: end"},
        ),
        ("evidence: {look: []}", {"look next: choose", "choose else: pause", *GONE_ON}),
        ("evidence: {look: {error: away}}", {"look on_failure: pause", *GONE_ON}),
        (
            f"evidence: {{look: {ONE}}}\n    outcomes: {{fix: failed}}",
            {"look next: choose", "choose then: fix 2", "fix on_failure: pause", *GONE_ON},
        ),
        (  # not a way that the runbook names
            f"evidence: {{look: {ONE}}}\n    outcomes: {{fix: refused}}",
            {"look next: choose", "choose then: fix 2"},
        ),
        (
            f"evidence: {{look: {ONE}, seen: {ONE}}}\n    outcomes: {{fix: inconclusive}}",
            {"look next: choose", "choose then: fix 2", "seen next: end"},
        ),
        (
            f"evidence: {{look: {ONE}, seen: []}}",
            {"look next: choose", "choose then: fix 2", "fix next: seen", "seen on_failure: pause", *GONE_ON},
        ),
        (
            f"evidence: {{look: {ONE}}}\n    alert_is: {{seen: firing}}",
            {"look next: choose", "choose then: fix 2", "fix next: seen", "seen on_failure: pause", *GONE_ON},
        ),
        ("evidence: {look: []}\n    alert_is: {pause: cleared}", {"look next: choose", "choose else: pause"}),
    ],
)
def test_a_case_takes_the_ways_it_goes_and_no_others(case: str, taken: set[str], actions: Actions) -> None:
    assert found(ALERT + f"    {case}\n    expect: {{}}\n", RUNBOOK, actions) == taken


def found(cases: str, runbook: str, actions: Actions) -> set[str]:
    runbooks, problems = load_runbooks(runbook, "book.yml", actions=actions)
    assert problems == []
    failures, courses = run_all(cases, "test.yml", runbooks, actions=actions)
    assert [one for one in failures if "commands: expected" not in one.message] == []
    ways = coverage(runbooks, courses.values())
    branches = {way.line: number for number, way in enumerate((w for w in ways if w.way == "then: fix"), 1)}
    return {
        f"{way.step} {way.way}" + (f" {branches[way.line]}" if way.way == "then: fix" else "")
        for way in ways
        if way.cases
    }


def test_a_question_that_cannot_be_put_takes_the_way_of_one_that_is_not_answered(actions: Actions) -> None:
    cases = ALERT.replace(", job: x", "") + "    expect: {}\n"
    assert found(cases, RUNBOOK, actions) == {"look on_failure: pause", *GONE_ON}


def test_nothing_to_act_on_is_a_way(actions: Actions) -> None:
    empty = RUNBOOK.replace("subject: look.rows", "subject: look.rows.filter(r, r.value > 5.0)")
    cases = ALERT + f"    evidence: {{look: {ONE}}}\n    expect: {{}}\n"
    assert "fix on_empty: pause" in found(cases, empty, actions)


def test_every_named_way_has_its_place_and_a_share(actions: Actions) -> None:
    runbooks, _ = load_runbooks(RUNBOOK, "book.yml", actions=actions)
    ways = coverage(runbooks, [])
    lines = RUNBOOK.splitlines()
    assert len(ways) == 12
    assert all(lines[way.line - 1][way.column - 1 :].startswith(way.way.split(":")[0]) for way in ways)
    assert (share(ways), share([])) == (0.0, 100.0)
