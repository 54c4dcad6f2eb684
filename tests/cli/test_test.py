"""`sentinel test` on promtool's files: where rule files are found, which tests run, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RULES = """\
groups:
  - name: g
    rules:
      - {record: 'job:up:sum', expr: sum by (job) (up)}
      - {alert: Down, expr: 'job:up:sum == 0', for: 1m, annotations: {summary: '{{ $labels.job }} is down'}}
"""
TESTS = """\
rule_files: [rules/*.yml]
evaluation_interval: 1m
tests:
  - name: an outage
    input_series: [{series: 'up{job="a"}', values: '1 0x5'}]
    alert_rule_test:
      - eval_time: 2m
        alertname: Down
        exp_alerts: [{exp_labels: {job: a}, exp_annotations: {summary: a is down}}]
  - name: no outage
    input_series: [{series: 'up{job="a"}', values: 1x5}]
    promql_expr_test:
      - {expr: 'job:up:sum', eval_time: 3m, exp_samples: [{labels: 'job:up:sum{job="a"}', value: 1}]}
"""


@pytest.fixture(autouse=True)
def _files(sentinel) -> None:
    """A test file where promtool's users have them: beside a folder of rules, in a folder of any name."""
    Path("monitoring/rules").mkdir(parents=True)
    Path("monitoring/rules/up.yml").write_text(RULES)
    Path("monitoring/up_test.yml").write_text(TESTS)


def test_a_file_is_run_wherever_it_is_and_finds_its_rules_by_a_pattern(sentinel):
    ran = sentinel("test", "monitoring/up_test.yml")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("2 cases: 2 passed, 0 failed")


def test_rule_files_may_stand_in_a_folder_called_tests(sentinel):
    Path("tests").mkdir()
    Path("tests/rules.yml").write_text(RULES)
    Path("tests/up_test.yml").write_text(TESTS.replace("rules/*.yml", "rules.yml"))
    assert sentinel("test", "tests/up_test.yml").out.startswith("2 cases: 2 passed")


def test_a_pattern_that_matches_nothing_is_a_warning_at_its_place(sentinel):
    Path("monitoring/up_test.yml").write_text(TESTS.replace("[rules/*.yml]", "[rules/*.yml, gone/*.yml]"))
    ran = sentinel("test", "monitoring/up_test.yml")
    assert ran.code == 0
    assert ran.err.startswith("monitoring/up_test.yml:1:27: warning: no rule file matches 'gone/*.yml'\n")


def test_several_files_are_run_and_the_difference_is_shown_where_it_was_expected(sentinel):
    Path("monitoring/other.yml").write_text(TESTS.replace("a is down", "b is down"))
    ran = sentinel("test", "monitoring/up_test.yml", "monitoring/other.yml")
    assert ran.code == 1
    assert ran.out.startswith("4 cases: 3 passed, 1 failed")
    assert ran.err == (
        "monitoring/other.yml:7:9: error: an outage: alert Down at 2m\n"
        "--- expected\n"
        "+++ got\n"
        ' {alertname="Down", job="a"}\n'
        '-    summary: "b is down"\n'
        '+    summary: "a is down"\n'
        " 7 |       - eval_time: 2m\n"
        "   |         ^\n"
    )


@pytest.mark.parametrize(
    ("patterns", "code", "said"),
    [
        (["^no "], 0, "1 cases: 1 passed"),
        (["^no ", "an out"], 0, "2 cases: 2 passed"),
        (["outage$"], 0, "2 cases: 2 passed"),
        (["nothing"], 1, "there is no rule test with such a name"),
        (["("], 2, "--run is not a regular expression"),
    ],
)
def test_run_chooses_tests_by_name(sentinel, patterns, code, said):
    ran = sentinel("test", *(word for one in patterns for word in ("--run", one)), "monitoring/up_test.yml")
    assert ran.code == code
    assert said in ran.out + ran.err


def test_problems_of_the_file_and_of_its_rules_are_told_with_their_places(sentinel):
    Path("monitoring/up_test.yml").write_text(TESTS.replace("eval_time: 2m", "eval_tim: 2m"))
    assert sentinel("test", "monitoring/up_test.yml").err.startswith("monitoring/up_test.yml:7:9: error: unknown key")
    Path("monitoring/up_test.yml").write_text(TESTS)
    Path("monitoring/rules/up.yml").write_text(RULES.replace("sum by (job) (up)", "sum by (job) (up"))
    ran = sentinel("test", "monitoring/up_test.yml")
    assert (ran.code, ran.err.partition(":")[0]) == (1, "monitoring/rules/up.yml")


def test_json_has_the_verdict_and_every_problem(sentinel):
    Path("monitoring/other.yml").write_text(TESTS.replace("value: 1}", "value: 2}"))
    answer = json.loads(sentinel("test", "--json", "monitoring/other.yml").out)
    assert (answer["ok"], answer["cases"], answer["failed"]) == (False, 2, 1)
    [problem] = answer["problems"]
    assert (problem["line"], problem["column"], problem["severity"]) == (13, 9, "error")
