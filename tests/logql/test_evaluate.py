"""Metric queries over lines: a table that reads like the LogQL documentation."""

from __future__ import annotations

import math
import random

import pytest

from engine import logql
from engine.core.expression import EvaluationError
from tests.logql.lines import ask, entry, fill

#        10s   20s   30s   40s   50s   60s
# v       1     2     3     4     5     -
# pod     x     y     x     y     x
LINES = [entry(10 * (i + 1), f"v={i + 1} pod={'xy'[i % 2]}") for i in range(5)]
PARSED = '{app="a"} | logfmt'


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ('count_over_time({app="a"}[1m])', {"": 5}),
        ('count_over_time({app="a"}[40s])', {"": 3}),
        ('count_over_time({app="a"}[40s] offset 10s)', {"": 4}),
        ('rate({app="a"}[1m])', {"": 5 / 60}),
        ('bytes_over_time({app="a"} |= "x" [1m])', {"": 3 * 9}),
        ('bytes_rate({app="a"} |= "x" [1m])', {"": 3 * 9 / 60}),
        ('absent_over_time({app="a", job="j", x=~".+"} |= "gone" [1m])', {"job=j": 1}),
        ('absent_over_time({app="a"}[1m])', {}),
        (f"sum_over_time({PARSED} | unwrap v [1m])", {"pod=x": 9, "pod=y": 6}),
        (f"avg_over_time({PARSED} | unwrap v [1m]) by (pod)", {"pod=x": 3, "pod=y": 3}),
        (f"min_over_time({PARSED} | unwrap v [1m]) by ()", {"": 1}),
        (f"max_over_time({PARSED} | unwrap v [1m]) without (pod)", {"": 5}),
        (f"first_over_time({PARSED} | unwrap v [1m])", {"pod=x": 1, "pod=y": 2}),
        (f"last_over_time({PARSED} | unwrap v [1m])", {"pod=x": 5, "pod=y": 4}),
        (f"quantile_over_time(0.5, {PARSED} | unwrap v [1m]) by ()", {"": 3}),
        (f"stddev_over_time({PARSED} | unwrap v [1m]) by ()", {"": math.sqrt(2)}),
        (f"stdvar_over_time({PARSED} | unwrap v [1m]) by ()", {"": 2}),
        (f"rate({PARSED} | unwrap v [1m])", {"pod=x": 9 / 60, "pod=y": 6 / 60}),
        (f"sum by (pod) (count_over_time({PARSED}[1m]))", {"pod=x": 3, "pod=y": 2}),
        (f"sum(count_over_time({PARSED}[1m])) by (pod)", {"pod=x": 3, "pod=y": 2}),
        (f"sum without (v) (count_over_time({PARSED}[1m]))", {"pod=x": 3, "pod=y": 2}),
        (f"count by (pod) (count_over_time({PARSED}[1m]))", {"pod=x": 3, "pod=y": 2}),
        (f"topk(1, sum by (pod) (count_over_time({PARSED}[1m])))", {"pod=x": 3}),
        (f"bottomk(1, sum by (pod) (count_over_time({PARSED}[1m])))", {"pod=y": 2}),
        (f"sum by (pod) (count_over_time({PARSED}[1m])) > 2", {"pod=x": 3}),
        (f"sum by (pod) (count_over_time({PARSED}[1m])) > bool 2", {"pod=x": 1, "pod=y": 0}),
        (f"1 < sum by (pod) (count_over_time({PARSED}[1m])) * 2 - 3", {"pod=x": 3}),
        ('sum(count_over_time({app="a"} |= "x" [1m])) / sum(count_over_time({app="a"}[1m]))', {"": 0.6}),
        (
            f"sum by (pod) (count_over_time({PARSED}[1m])) and on (pod) "
            f'sum by (pod) (count_over_time({PARSED} | pod="y" [1m]))',
            {"pod=y": 2},
        ),
        (
            f'sum by (pod) (count_over_time({PARSED}[1m])) unless count_over_time({{app="a"}}[1m])',
            {"pod=x": 3, "pod=y": 2},
        ),
        ('sum(count_over_time({app="a"} |= "gone" [1m])) or vector(0)', {"": 0}),
        (
            f"sum by (pod) (count_over_time({PARSED}[1m])) / on () group_left sum(count_over_time({PARSED}[1m]))",
            {"pod=x": 0.6, "pod=y": 0.4},
        ),
        (
            f'label_replace(sum by (pod) (count_over_time({PARSED}[1m])), "p", "<$1>", "pod", "(x)")',
            {"p=<x>,pod=x": 3, "pod=y": 2},
        ),
        ("1 + 2 * 3 ^ 2", {"": 19}),
        ("vector(2) > 1", {"": 2}),
    ],
)
def test_metric_queries(query: str, result: dict[str, float]) -> None:
    assert ask(query, LINES) == pytest.approx(result)


def test_the_order_in_which_lines_arrive_does_not_matter() -> None:
    query = f"sum by (pod) (sum_over_time({PARSED} | unwrap v [30s]))"
    shuffled = LINES.copy()
    random.Random(7).shuffle(shuffled)  # a seeded order
    for at_s in range(0, 90, 5):
        assert ask(query, shuffled, at_s) == ask(query, LINES, at_s)


def test_sorting_survives_arithmetic_with_a_number() -> None:
    expression = logql.compile(f"sort_desc(sum by (pod) (count_over_time({PARSED}[1m]))) + 1")
    vector = expression.evaluate(fill(expression, LINES, {"app": "a"}), 60_000)
    assert vector.values.tolist() == [4, 3]


BROKEN = [entry(10, '{"user":"u"}'), entry(20, "broken")]


def test_a_malformed_line_does_not_blind_a_rule_but_is_told_of() -> None:
    query = 'sum by (user) (count_over_time({app="a"} | json [1m]))'
    assert ask(query, BROKEN) == {"user=u": 1}
    expression = logql.compile(query)
    [(labels, count)] = expression.failed_lines(fill(expression, BROKEN, {"app": "a"}), 60_000)
    assert (labels["__error__"], count) == ("JSONParserErr", 1)


def test_strictly_as_in_loki_a_malformed_line_fails_the_query_unless_it_is_filtered_out() -> None:
    with pytest.raises(EvaluationError, match="JSONParserErr"):
        ask('count_over_time({app="a"} | json [1m])', BROKEN, strict=True)
    assert ask('count_over_time({app="a"} | json | __error__="" [1m])', BROKEN, strict=True) == {"user=u": 1}


def test_selectors_say_what_is_read_and_how_far_back() -> None:
    expression = logql.compile('sum(rate({app="a"}[1m] offset 30s)) / sum(rate({app="a"}   [5m]))')
    [selector] = expression.selectors
    assert (selector.kind, selector.range_ms, selector.reach_ms) == ("logs", 300_000, 300_000)
    assert selector.matches({"app": "a", "x": "y"})
    assert not selector.matches({"app": "b"})


def test_evidence_are_the_lines_of_the_alerts_own_series() -> None:
    expression = logql.compile(f"sum by (pod) (count_over_time({PARSED}[30s])) > 0")
    windows = fill(expression, LINES, {"app": "a"})
    lines = expression.evidence(windows, 60_000, {"pod": "y", "alertname": "A"}, 10)
    assert [line.line for line in lines] == ["v=4 pod=y"]
