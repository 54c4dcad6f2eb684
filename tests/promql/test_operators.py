"""Operators, matching and aggregation, by example."""

from __future__ import annotations

import math

import pytest

from engine.core.expression import EvaluationError
from tests.promql.scenario import evaluate

DATA = """
errors{job="a",code="500"} 2
errors{job="a",code="501"} 4
errors{job="b",code="500"} 6
total{job="a"} 10
total{job="b"} 20
total{job="c"} 30
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 ^ 2", 19.0),
        ("-7 % 3", -1.0),
        ("1 / 0", math.inf),
        ("1 > bool 2", 0.0),
        ("2 * total", {'{job="a"}': 20.0, '{job="b"}': 40.0, '{job="c"}': 60.0}),
        ("total > 15", {'total{job="b"}': 20.0, 'total{job="c"}': 30.0}),
        ("15 < total", {'total{job="b"}': 20.0, 'total{job="c"}': 30.0}),
        ("total > bool 25", {'{job="a"}': 0.0, '{job="b"}': 0.0, '{job="c"}': 1.0}),
        ("-total", {'{job="a"}': -10.0, '{job="b"}': -20.0, '{job="c"}': -30.0}),
        ("sum by (job) (errors) / total", {'{job="a"}': 0.6, '{job="b"}': 0.3}),
        (
            "errors / on (job) group_left total",
            {'{code="500", job="a"}': 0.2, '{code="501", job="a"}': 0.4, '{code="500", job="b"}': 0.3},
        ),
        (
            "total * on (job) group_right errors",
            {'{code="500", job="a"}': 20.0, '{code="501", job="a"}': 40.0, '{code="500", job="b"}': 120.0},
        ),
        (
            'errors{code="500"} * on (job) group_left (kind) label_replace(total, "kind", "k$1", "job", "(.*)")',
            {'{code="500", job="a", kind="ka"}': 20.0, '{code="500", job="b", kind="kb"}': 120.0},
        ),
        ('errors{code="500"} > ignoring (code) (total / 4)', {'errors{job="b"}': 6.0}),
        ("total and on (job) errors", {'total{job="a"}': 10.0, 'total{job="b"}': 20.0}),
        ("total unless on (job) errors", {'total{job="c"}': 30.0}),
        ('total{job="a"} or total', {'total{job="a"}': 10.0, 'total{job="b"}': 20.0, 'total{job="c"}': 30.0}),
        ("sum(errors)", {"{}": 12.0}),
        ("sum without (code) (errors)", {'{job="a"}': 6.0, '{job="b"}': 6.0}),
        ("avg by (code) (errors)", {'{code="500"}': 4.0, '{code="501"}': 4.0}),
        ("count(errors)", {"{}": 3.0}),
        ("max by (job) (errors)", {'{job="a"}': 4.0, '{job="b"}': 6.0}),
        ("min(total)", {"{}": 10.0}),
        ("group by (job) (errors)", {'{job="a"}': 1.0, '{job="b"}': 1.0}),
        ("stddev(total)", {"{}": math.sqrt(200 / 3)}),
        ("quantile(0.5, total)", {"{}": 20.0}),
        ("topk(2, total)", {'total{job="c"}': 30.0, 'total{job="b"}': 20.0}),
        ("bottomk by (job) (1, errors)", {'errors{code="500", job="a"}': 2.0, 'errors{code="500", job="b"}': 6.0}),
        ('count_values("v", total > 5)', {'{v="10"}': 1.0, '{v="20"}': 1.0, '{v="30"}': 1.0}),
        ("sum(nothing)", {}),
        ("sum by (job) (errors) + fill_left(0) total", {'{job="a"}': 16.0, '{job="b"}': 26.0, '{job="c"}': 30.0}),
    ],
)
def test_value(text: str, expected: dict[str, float] | float) -> None:
    assert evaluate(text, DATA) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("total * on (job) errors", "many-to-many matching not allowed"),
        ("errors * on (job) total", "many-to-one matching must be explicit"),
        ("errors * on (job) group_left (code) total", "grouping labels must ensure unique matches"),
        ('label_replace(total, "job", "x", "", "")', "same labelset"),
        ("topk(NaN, total)", "Parameter value is NaN"),
    ],
)
def test_what_has_no_single_answer_is_an_error(text: str, part: str) -> None:
    with pytest.raises(EvaluationError, match=part):
        evaluate(text, DATA)


def test_sums_keep_small_terms_beside_large_ones() -> None:
    assert evaluate("sum(g)", 'g{i="1"} 1e100\ng{i="2"} 10\ng{i="3"} -1e100') == {"{}": 10.0}


def test_groups_of_topk_come_in_the_order_of_their_first_series_however_samples_arrived() -> None:
    text = "topk by (job) (1, errors)"
    lines = DATA.strip().splitlines()
    assert list(evaluate(text, DATA)) == list(evaluate(text, "\n".join(lines[::-1])))  # type: ignore[arg-type]  # dicts
