"""Test files: every problem at once, each at its place."""

from __future__ import annotations

from engine.ruletest import read_tests

BROKEN = """\
rule_files: rules.yml
evaluation_interval: soon
group_eval_order: [a, b, a]
fuzzy_compare: maybe
start: 5
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
      - {expr: up, eval_time: 1m, exp_samples: [{labels: up, histogram: '{{count:1}}'}]}
  - input_series: [{series: up, values: '1 {{count:1}}'}]
"""


def test_every_problem_of_a_file_is_reported_with_its_place() -> None:
    found, problems = read_tests(BROKEN, "t.yml")
    assert found is None
    assert [(problem.line, problem.message.split("(")[0].strip()) for problem in problems] == [
        (1, "`rule_files` is a list"),
        (2, "not a duration: 'soon'"),
        (3, "group 'a' stands twice in the evaluation order"),
        (4, "`fuzzy_compare` is true or false"),
        (5, "unknown key 'start' in a test file"),
        (8, "unknown key 'input_serie' in a test"),
        (10, "a series has only name=value labels: 'up{job=~\"a\"}'"),
        (10, "not a value: 'z'"),
        (12, 'labels are written like up{job="api"}'),
        (13, "`repeat` is an interval and a number of lines in all, like 5s x 12"),
        (13, "`line` needs a text"),
        (15, "`alertname` needs a text"),
        (15, "an entry of `exp_alerts` is a mapping"),
        (17, "`value` is a number"),
        (18, "native histograms are not supported"),
        (19, "native histograms"),
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


def test_labels_are_text_as_it_is_written_whatever_yaml_sees_in_it() -> None:
    text = """
tests:
  - external_labels: {a: yes, b: 010, c: 1.0, d: 2020-01-01}
    alert_rule_test:
      - {eval_time: 1m, alertname: A, exp_alerts: [{exp_labels: {up: true}, exp_annotations: {n: 1e3, none: }}]}
"""
    found, problems = read_tests(text, "t.yml")
    assert not problems
    assert found is not None
    [test] = found.tests
    assert test.external_labels == {"a": "yes", "b": "010", "c": "1.0", "d": "2020-01-01"}
    [alert] = test.alerts[0].expected
    assert alert.labels == {"alertname": "A", "up": "true"}
    assert alert.annotations == {"n": "1e3", "none": ""}


def test_what_is_left_out_is_as_promtool_has_it() -> None:
    found, problems = read_tests("tests: [{promql_expr_test: [{expr: '1', exp_samples: [{}]}]}]", "t.yml")
    assert not problems
    assert found is not None
    assert (found.evaluation_interval_ms, found.group_order, found.fuzzy, found.eager) == (60_000, (), False, False)
    [test] = found.tests
    assert (test.name, test.interval_ms, test.external_url) == ("test 1", 60_000, "")
    assert test.expressions[0].expected == (({}, 0.0),)


def test_values_stand_as_far_apart_as_evaluations_unless_the_test_says_otherwise() -> None:
    found, _ = read_tests("evaluation_interval: 15s\ntests: [{name: a}, {name: b, interval: 5s}]", "t.yml")
    assert found is not None
    assert [test.interval_ms for test in found.tests] == [15_000, 5_000]
