"""Test files: every problem at once, each at its place."""

from __future__ import annotations

from engine.ruletest import read_tests

BROKEN = """\
rule_files: rules.yml
evaluation_interval: soon
tests:
  - interval: 1m
    input_serie: []
    input_series:
      - {series: 'up{job=~"a"}', values: '1 z'}
    input_logs:
      - stream: 5
        lines: [{at: 1s, line: x, repeat: often}, {at: 1s}]
    alert_rule_test:
      - {eval_time: 1m, exp_alerts: [down]}
    promql_expr_test:
      - {expr: up, eval_time: 1m, exp_samples: [{labels: up, value: many}]}
"""


def test_every_problem_of_a_file_is_reported_with_its_place() -> None:
    found, problems = read_tests(BROKEN, "t.yml")
    assert found is None
    assert [(problem.line, problem.message.split("(")[0].strip()) for problem in problems] == [
        (1, "`rule_files` is a list"),
        (2, "not a duration: 'soon'"),
        (5, "unknown key 'input_serie' in a test"),
        (7, "a series has only name=value labels: 'up{job=~\"a\"}'"),
        (7, "not a value: 'z'"),
        (9, 'labels are written like up{job="api"}'),
        (10, "`repeat` is an interval and a number of lines in all, like 5s x 12"),
        (10, "`line` needs a text"),
        (12, "`alertname` needs a text"),
        (12, "an entry of `exp_alerts` is a mapping"),
        (14, "`value` is a number"),
    ]


def test_yaml_that_is_none_is_a_problem_and_runbook_tests_are_left_to_others() -> None:
    assert read_tests("a: [", "t.yml")[1][0].line == 1
    assert read_tests("runbook_tests: []", "t.yml") == (None, [])
    assert read_tests("3", "t.yml")[1][0].message.startswith("a test file is a mapping")


def test_lines_repeat_and_carry_metadata() -> None:
    text = """
tests:
  - input_logs:
      - stream: '{job="a"}'
        lines:
          - {at: 10s, line: second, repeat: 5s x 3, metadata: {trace: 1}}
          - {at: 1s, line: first}
"""
    found, problems = read_tests(text, "t.yml")
    assert not problems
    assert found is not None
    [stream] = found.tests[0].streams
    assert stream.labels == {"job": "a"}
    assert [(entry.t_ns // 10**9, entry.line) for entry in stream.entries] == [
        (1, "first"),
        (10, "second"),
        (15, "second"),
        (20, "second"),
    ]
    assert stream.entries[1].metadata == {"trace": "1"}
