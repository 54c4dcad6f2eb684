"""Rule tests run on the live step function and agree with promtool's way of counting."""

from __future__ import annotations

import pytest

from engine.core.rules import RuleGroup, parse_rules
from engine.languages import LANGUAGES
from engine.ruletest import CaseResult, read_tests, run_tests

METRIC_RULES = """
groups:
  - name: metrics
    interval: 10s
    rules:
      - alert: Down
        expr: up == 0
        for: 2m
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.job }} is down'}
      - alert: Gone
        expr: absent(nothing)
"""
LOG_RULES = """
groups:
  - name: logs
    rules:
      - alert: Spike
        expr: sum by (user) (count_over_time({job="os"} |= "violation" | json | event="violation" [1m])) > 10
"""


def rules() -> list[RuleGroup]:
    """The rules under test."""
    metric, metric_problems = parse_rules(METRIC_RULES, "m.yml", LANGUAGES["promql"])
    log, log_problems = parse_rules(LOG_RULES, "l.yml", LANGUAGES["logql"])
    assert not [*metric_problems, *log_problems]
    return [*metric, *log]


def run(case: str, *, eager: bool = False) -> CaseResult:
    """The result of one expectation, given as YAML in braces under its key."""
    key, _, body = case.partition(" ")
    text = f"""
evaluation_interval: 1m
eager: {str(eager).lower()}
tests:
  - interval: 1m
    input_series:
      - series: 'up{{job="a"}}'
        values: 1x2 0x10 stale
    input_logs:
      - stream: '{{job="os"}}'
        lines:
          - {{at: 65s, line: '{{"event":"violation","user":"mallory"}}', repeat: 1s x 20}}
          - {{at: 70s, line: '{{"event":"violation","user":"alice"}}'}}
    {key}:
      - {body}
"""
    found, problems = read_tests(text, "t.yml")
    assert not problems, problems
    assert found is not None
    [result] = run_tests(found, rules(), LANGUAGES)
    return result


DOWN = "exp_alerts: [{exp_labels: {severity: critical, job: a}, exp_annotations: {summary: a is down}}]"


@pytest.mark.parametrize(
    "case",
    [
        #  up  1  1  1  0  0  0  0     Down is pending from 3m, fires at 5m
        #      0m 1m 2m 3m 4m 5m 6m
        "alert_rule_test {eval_time: 4m, alertname: Down}",
        "alert_rule_test {eval_time: 4m59s, alertname: Down, exp_alerts: []}",
        "alert_rule_test {eval_time: 5m, alertname: Down, " + DOWN + "}",
        "alert_rule_test {eval_time: 5m30s, alertname: Down, " + DOWN + "}",
        "alert_rule_test {eval_time: 20m, alertname: Down}",
        "alert_rule_test {eval_time: 0m, alertname: Gone, exp_alerts: [{}]}",
        "alert_rule_test {eval_time: 1m, alertname: Spike}",
        "alert_rule_test {eval_time: 2m, alertname: Spike, exp_alerts: [{exp_labels: {user: mallory}, "
        'exp_lines: [\'{"event":"violation","user":"mallory"}\']}]}',
        "alert_rule_test {eval_time: 3m, alertname: Spike}",
        "promql_expr_test {expr: 'up', eval_time: 2m, exp_samples: [{labels: 'up{job=\"a\"}', value: 1}]}",
        "promql_expr_test {expr: 'up', eval_time: 14m}",
        "logql_expr_test {expr: 'sum(count_over_time({job=\"os\"}[1m]))', eval_time: 70s, exp_samples: [{value: 7}]}",
    ],
)
def test_expectations_that_hold(case: str) -> None:
    result = run(case)
    assert result.passed, result.diff


def test_without_eager_evaluation_a_spike_between_two_evaluations_waits_for_the_next() -> None:
    spike = "alert_rule_test {eval_time: 75s, alertname: Spike, exp_alerts: [{exp_labels: {user: mallory}}]}"
    assert not run(spike).passed
    assert run(spike, eager=True).passed


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        (
            "alert_rule_test {eval_time: 5m, alertname: Down, exp_alerts: [{exp_labels: {severity: mild, job: a}, "
            "exp_annotations: {summary: a is down}}]}",
            ['-{alertname="Down", job="a", severity="mild"}', '+{alertname="Down", job="a", severity="critical"}'],
        ),
        (
            "alert_rule_test {eval_time: 5m, alertname: Dwon, exp_alerts: [{}]}",
            ["no rule file has an alert 'Dwon'", '-{alertname="Dwon"}'],
        ),
        (
            "alert_rule_test {eval_time: 2m, alertname: Spike, exp_alerts: [{exp_labels: {user: mallory}, "
            "exp_lines: [other]}]}",
            ["-    line: other"],
        ),
        ("promql_expr_test {expr: 'up ==', eval_time: 1m}", ["the expression is wrong at 1:"]),
        (
            "promql_expr_test {expr: up, eval_time: 1m, exp_samples: [{labels: up, value: 2}]}",
            ["-up{} 2", '+up{job="a"} 1'],
        ),
    ],
)
def test_what_does_not_hold_is_shown_as_a_difference_at_its_place(case: str, parts: list[str]) -> None:
    result = run(case)
    assert not result.passed
    assert (result.file, result.line) == ("t.yml", 15)
    for part in parts:
        assert part in result.diff
