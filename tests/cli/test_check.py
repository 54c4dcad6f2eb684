"""`sentinel check` and `sentinel test`: word for word, on good and on broken files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

GOOD = """\
groups:
  - name: aureus
    rules:
      - alert: ConnectionOverload
        expr: sum(openclaw_active_connections) > 1000
        for: 1m
        labels: {severity: warning}
"""
BROKEN = """\
groups:
  - name: aureus
    rules:
      - alert: A
        expr: sum(rate(x[5m])
      - alert: B
        expr: up == 0
        fro: 5m
"""
RULES = Path(__file__).parents[2] / "rules"
DEMO = RULES.parent / "examples" / "aureus" / "rules"


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_good_files_are_counted(sentinel):
    write("rules/promql/a.yml", GOOD)
    ran = sentinel("check")
    assert (ran.code, ran.out, ran.err) == (
        0,
        "1 rule in 1 group, 0 runbooks, 0 test files: 0 errors, 0 warnings\n",
        "",
    )


def test_every_problem_of_every_file_is_shown_with_its_line_and_a_caret(sentinel):
    write("rules/promql/a.yml", BROKEN)
    write("rules/promql/b.yml", "groups: 5\n")
    ran = sentinel("check", "rules")
    assert ran.code == 1
    places = re.findall(r"^(rules/\S+?:\d+:\d+): error", ran.err, re.MULTILINE)
    assert [place.rpartition(":")[0] for place in places] == [
        "rules/promql/a.yml:5",
        "rules/promql/a.yml:8",
        "rules/promql/b.yml:1",
    ]
    assert " 8 |         fro: 5m\n   |         ^\n" in ran.err
    assert ran.out == "0 rules in 0 groups, 0 runbooks, 0 test files: 3 errors, 0 warnings\n"


def test_problems_as_json_have_file_line_and_column(sentinel):
    write("rules/promql/b.yml", "groups: 5\n")
    ran = sentinel("check", "--json")
    assert ran.code == 1
    answer = json.loads(ran.out)
    assert answer["ok"] is False
    [problem] = answer["problems"]
    assert (problem["file"], problem["line"], problem["severity"]) == ("rules/promql/b.yml", 1, "error")


def test_a_path_that_is_not_there_is_an_error(sentinel):
    ran = sentinel("check", "nowhere")
    assert ran.code == 1
    assert ran.err == "nowhere:1:1: error: there is no such file or folder\n"


def test_the_products_own_rules_are_free_of_errors(sentinel):
    ran = sentinel("check", str(RULES))
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("path", [RULES, RULES / "tests", DEMO])
def test_the_products_own_tests_pass(sentinel, path):
    ran = sentinel("test", "--min-coverage", "100", str(path))
    assert (ran.code, ran.err) == (0, "")
    said = r"(\d+) cases: \1 passed, 0 failed \(\d+\.\d s\)\n(\d+) of \2 ways of runbooks taken\n"
    assert re.fullmatch(said, ran.out)


def test_a_case_that_goes_otherwise_is_shown_where_it_was_expected(sentinel):
    text = (DEMO / "tests" / "runbooks_test.yml").read_text()
    changed, count = re.subn(r"resolution: verified", "resolution: cleared", text, count=1)
    assert count == 1
    for file in (DEMO / "runbooks").glob("*.yml"):
        write(f"rules/runbooks/{file.name}", file.read_text())
    write("rules/tests/runbooks_test.yml", changed)
    ran = sentinel("test", "rules/tests/runbooks_test.yml")
    assert ran.code == 1
    line = changed[: changed.index("resolution: cleared")].count("\n") + 1
    assert ran.err.startswith(f"rules/tests/runbooks_test.yml:{line}:")
    assert " 1 failed" in ran.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "rules/tests/x.yml:1:5: error: not valid YAML"),
        ("other: []\n", "rules/tests/x.yml:1:1: error: holds no test"),
        ("runbook_tests: []\n", "there is no test to run"),
    ],
)
def test_a_test_file_without_a_test_is_not_a_success(sentinel, text, said):
    write("rules/promql/a.yml", GOOD)
    write("rules/tests/x.yml", text)
    ran = sentinel("test")
    assert ran.code == 1
    assert said in ran.err


RUNBOOK = """\
runbooks:
  - name: ConnectionOverload
    match: ['alertname="ConnectionOverload"']
    priority: P2
    escalation: [{to: on-call}]
    steps:
      - name: opened
        investigate: {promql: {query: up}}
      - name: leak
        decide:
          - if: size(opened.rows) > 1
            then: limit
          - else: crowd
      - name: limit
        act:
          action: http.request
          target: openclaw
          params: {method: POST, path: /limits, check: {path: /limits, expect: body.limit == 500}}
          on_failure: crowd
      - name: drained
        verify: {}
        next: end
      - name: crowd
        escalate: {text: a crowd}
"""
CASE = """\
runbook_tests:
  - name: a crowd is not a leak
    alert: {labels: {alertname: ConnectionOverload}}
    evidence: {opened: []}
    expect: {escalated: crowd}
"""


@pytest.mark.parametrize(("least", "code", "severity"), [("", 0, "warning"), ("25", 0, "warning"), ("26", 1, "error")])
def test_ways_that_no_case_takes_are_named_with_their_place(sentinel, least, code, severity):
    write("rules/runbooks/limits.yml", RUNBOOK)
    write("rules/tests/runbooks_test.yml", CASE)
    ran = sentinel("test", *(["--min-coverage", least] if least else []))
    assert (ran.code, ran.out.splitlines()[1]) == (code, "1 of 4 ways of runbooks taken")
    lines = RUNBOOK.splitlines()
    at = next(i for i, line in enumerate(lines, 1) if "then: limit" in line)
    way = "ConnectionOverload: no case takes `then: limit` of step leak"
    named = f"rules/runbooks/limits.yml:{at}:13: {severity}: {way}"
    assert named in ran.err.splitlines()
    assert ran.err.count("no case takes") == 3


def test_coverage_is_a_table_of_every_way(sentinel):
    write("rules/runbooks/limits.yml", RUNBOOK)
    write("rules/tests/runbooks_test.yml", CASE)
    rows = [line.split()[:5] for line in sentinel("test", "--coverage").out.splitlines()]
    assert rows[0] == ["RUNBOOK", "STEP", "WAY", "CASES", "PLACE"]
    assert ["ConnectionOverload", "leak", "else:", "crowd", "1"] in rows
    assert ["ConnectionOverload", "limit", "on_failure:", "crowd", "0"] in rows


def test_without_runbook_tests_nothing_is_said_of_ways_unless_it_is_asked_for(sentinel):
    write("rules/runbooks/limits.yml", RUNBOOK)
    write("rules/tests/rules_test.yml", "rule_files: []\ntests: []\n")
    assert "ways" not in sentinel("test").out
    ran = sentinel("test", "--min-coverage", "1")
    assert (ran.code, "0 of 4 ways" in ran.out) == (1, True)


def test_check_with_settings_says_what_these_do_not_allow_and_without_any_nothing(sentinel):
    write("rules/runbooks/limits.yml", RUNBOOK)
    assert sentinel("check").err == ""
    write("sentinel.yml", "executor: {allow_actions: [http.request], hosts: {openclaw: {url: 'http://openclaw'}}}\n")
    assert sentinel("check").err == ""
    ran = sentinel("check", "--set", "executor.allow_actions=[]")
    assert (ran.code, ran.err.count("the action http.request is not in executor.allow_actions")) == (0, 1)
    at = RUNBOOK.splitlines().index("      - name: limit") + 1
    assert ran.err.startswith(f"rules/runbooks/limits.yml:{at}:15: warning: step limit: ")


def test_check_refuses_settings_that_cannot_be_used(sentinel):
    write("rules/runbooks/limits.yml", RUNBOOK)
    write("sentinel.yml", "executor: {allow: []}\n")
    ran = sentinel("check")
    assert (ran.code, "sentinel.yml:1:12" in ran.err) == (2, True)
