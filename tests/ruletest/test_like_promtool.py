"""What rule tests have in common with promtool beyond single expectations: recorded series, order, steps, exactness."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.rules import parse_rules
from engine.languages import with_step
from engine.ruletest import CaseResult, read_tests, run_tests

#  two groups in the file: the reader stands first
GROUPS = """
groups:
  - name: second
    rules:
      - {record: doubled, expr: 'total * 2'}
      - {alert: High, expr: 'total > 3', for: 2m, labels: {severity: page}}
  - name: first
    interval: 1h
    rules:
      - {record: total, expr: sum(x), labels: {team: a}}
"""


def run(tests: str, rules: str = GROUPS) -> list[CaseResult]:
    """All results of a test file."""
    found, problems = read_tests(tests, "t.yml")
    assert not problems, problems
    assert found is not None
    languages = with_step(found.evaluation_interval_ms)
    groups, refused = parse_rules(rules, "r.yml", languages["promql"])
    assert not refused, refused
    return run_tests(found, groups, languages)


def got(head: str, asked: list[str], values: str = "1 2 3 4 5 6 7 8", rules: str = GROUPS) -> list[list[str]]:
    """What came of expressions, each written `expr @ time`."""
    cases = "".join(
        f"      - {{expr: '{expr}', eval_time: {at}}}\n" for expr, _, at in (one.rpartition(" @ ") for one in asked)
    )
    text = f"{head}\ntests:\n  - input_series: [{{series: x, values: '{values}'}}]\n    promql_expr_test:\n{cases}"
    return [result.got for result in run(text, rules)]


def test_expressions_see_what_rules_recorded_and_the_alerts() -> None:
    assert got(
        "group_eval_order: [first, second]",
        ["total @ 2m", "doubled @ 150s", "ALERTS @ 3m", "ALERTS @ 5m", "ALERTS_FOR_STATE @ 5m", "total @ 1m"],
    ) == [
        ['total{team="a"} 3'],
        ['doubled{team="a"} 6'],
        ['ALERTS{alertname="High", alertstate="pending", severity="page", team="a"} 1'],
        ['ALERTS{alertname="High", alertstate="firing", severity="page", team="a"} 1'],
        ['ALERTS_FOR_STATE{alertname="High", severity="page", team="a"} 180'],
        ['total{team="a"} 2'],
    ]


@pytest.mark.parametrize(
    ("order", "doubled"),
    [
        ("[first, second]", 6),
        ("[second, first]", 4),  # the evaluation before is all there is
        ("[second]", 4),  # what is not named goes with the first: as the file has it
        ("[]", 4),
        ("[other, second]", 6),  # second comes after what is not named
    ],
)
def test_a_group_that_reads_what_a_later_one_records_sees_its_last_evaluation(order: str, doubled: int) -> None:
    assert got(f"group_eval_order: {order}", ["doubled @ 2m"]) == [[f'doubled{{team="a"}} {doubled}']]


def test_templates_have_the_external_labels_and_url_of_the_test() -> None:
    rules = """
groups:
  - name: g
    rules:
      - alert: A
        expr: vector(1)
        labels: {cluster: '{{ $externalLabels.cluster }}'}
        annotations: {link: '{{ $externalURL }}/graph', empty: ''}
"""
    [one] = run(
        "tests: [{external_labels: {cluster: eu}, external_url: 'http://here:9090/p', "
        "alert_rule_test: [{eval_time: 0, alertname: A, exp_alerts: [{exp_labels: {cluster: eu}, "
        "exp_annotations: {link: 'http://here:9090/p/graph', empty: ''}}]}]}]",
        rules,
    )
    assert one.passed, one.diff


def test_a_subquery_without_a_step_goes_by_the_evaluation_interval() -> None:
    assert got("evaluation_interval: 30s", ["count_over_time(x[2m:]) @ 3m"]) == [["{} 4"]]
    assert got("evaluation_interval: 1m", ["count_over_time(x[2m:]) @ 3m"]) == [["{} 2"]]


def test_a_sample_after_the_last_evaluation_is_not_there_yet() -> None:
    #  x            1    2    3    every 30 s
    #  evaluations  0         60        the sample at 90 s would come with the one at 120 s
    head = "evaluation_interval: 1m\n"
    text = "tests:\n  - interval: 30s\n    input_series: [{series: x, values: '1 2 3 4'}]\n    promql_expr_test:\n"
    [one] = run(head + text + "      - {expr: x, eval_time: 90s}\n")
    assert one.got == ["x{} 3"]
    later = run(head + text + "      - {expr: x, eval_time: 90s}\n      - {expr: x, eval_time: 2m}\n")
    assert [result.got for result in later] == [["x{} 4"], ["x{} 4"]]


def test_of_a_series_that_stands_there_twice_the_last_counts() -> None:
    twice = "[{series: x, values: '1 1'}, {series: 'x{}', values: '2'}]"
    [one] = run(f"tests: [{{input_series: {twice}, promql_expr_test: [{{expr: x, eval_time: 1m}}]}}]")
    assert one.got == ["x{} 2"]


@pytest.mark.parametrize(
    ("fuzzy", "value", "passes"),
    [
        (False, "0.3", False),
        (False, "0.30000000000000004", True),
        (True, "0.3", True),
        (True, "0.2999999999999999", False),
        (True, ".nan", False),
        (False, "3e-1", False),
    ],
)
def test_values_are_compared_exactly_or_but_for_the_last_bit(fuzzy: bool, value: str, passes: bool) -> None:
    case = f"{{expr: 'vector(0.1 + 0.2)', exp_samples: [{{value: {value}}}]}}"
    [one] = run(f"fuzzy_compare: {str(fuzzy).lower()}\ntests: [{{promql_expr_test: [{case}]}}]")
    assert one.passed is passes


def test_minus_zero_is_zero_and_nan_is_nan() -> None:
    cases = "{expr: '-vector(0)', exp_samples: [{value: 0}]}, {expr: 'vector(NaN)', exp_samples: [{value: .nan}]}"
    assert all(result.passed for result in run(f"tests: [{{promql_expr_test: [{cases}]}}]"))


def test_rules_that_cannot_be_evaluated_fail_the_test_even_if_nothing_is_asked_about_them() -> None:
    rules = "groups: [{name: g, rules: [{record: y, expr: 'x * on () z'}]}]"
    series = "[{series: 'x{i=\"1\"}', values: 1x5}, {series: 'x{i=\"2\"}', values: 1x5}, {series: z, values: 1x5}]"
    results = run(
        f"tests: [{{input_series: {series}, promql_expr_test: [{{expr: z, eval_time: 1m, "
        "exp_samples: [{labels: z, value: 1}]}]}]",
        rules,
    )
    assert [(one.what, one.passed) for one in results] == [("z at 1m", True), ("evaluation of the rules", False)]
    assert "evaluation failed: g/y at 0s: " in results[1].diff


def test_an_alert_that_no_rule_has_is_a_warning() -> None:
    [one] = run("tests: [{alert_rule_test: [{eval_time: 1m, alertname: Hihg}]}]")
    assert one.passed
    assert one.warning == "no rule file has an alert 'Hihg'"


@settings(max_examples=60)
@given(
    values=st.lists(st.sampled_from(["0", "5", "9x3", "_", "_x6", "stale", "1+2x4"]), min_size=1, max_size=12),
    asked=st.lists(st.integers(0, 1800), min_size=1, max_size=5),
    order=st.sampled_from(["[first, second]", "[second, first]"]),
)
def test_what_is_found_at_a_time_does_not_depend_on_what_else_is_asked(
    values: list[str], asked: list[int], order: str
) -> None:
    def states(times: list[int]) -> dict[str, list[str]]:
        cases = "".join(f"      - {{eval_time: {at}s, alertname: High}}\n" for at in times)
        series = f"[{{series: x, values: '{' '.join(values)}'}}]"
        text = f"group_eval_order: {order}\ntests:\n  - input_series: {series}\n    alert_rule_test:\n{cases}"
        return {result.what: result.got for result in run(text)}

    alone = states(asked)
    among_others = states([*asked, *range(0, 1860, 60)])
    assert alone == {what: among_others[what] for what in alone}
