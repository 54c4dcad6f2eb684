"""Evaluation over windows that change: what arrived later, in other batches, or went away makes no difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.expression import Vector, Window
from engine.core.labels import encode
from engine.promql import compile as compile_promql
from tests.promql.scenario import MINUTE_MS, evaluate, windows_for

EXPRESSIONS = [
    "sum by (job) (rate(m[2m]))",
    "m > 3",
    "increase(m[3m]) / on (job, i) m",
    "m and on (i) (m offset 1m > 2)",
    "topk(1, m)",
    "max_over_time(m[2m:30s]) or m",
]


def shown(vector: Vector) -> list[tuple[bytes, str]]:
    return [(encode(labels), repr(float(v))) for labels, v in zip(vector.labels, vector.values, strict=True)]


samples = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 40), st.floats(0, 9)),
    min_size=1,
    max_size=60,
    unique_by=lambda sample: sample[:2],
)


@pytest.mark.parametrize("text", EXPRESSIONS)
@settings(max_examples=40)
@given(samples=samples, size=st.integers(1, 7))
def test_answer_does_not_depend_on_batches_order_or_eviction(
    text: str, samples: list[tuple[int, int, float]], size: int
) -> None:
    expression = compile_promql(text)
    (selector,) = expression.selectors

    def key(i: int) -> bytes:
        return encode({"__name__": "m", "i": str(i), "job": str(i % 2)})

    def window(rows: list[tuple[int, int, float]], size: int) -> Window:
        result = selector.make_window()
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            result.append(
                [key(i) for i, _, _ in part],
                np.array([t * 10_000 for _, t, _ in part]),
                np.array([v for _, _, v in part]),
            )
            # In the meantime, evaluating must leave no trace.
            expression.evaluate({selector.key: result}, 400_000)
        return result

    one, other = window(samples, len(samples)), window(samples[::-1], size)
    other.evict(400_000 - selector.reach_ms)
    at_ms = 400_000
    assert shown(expression.evaluate({selector.key: one}, at_ms)) == shown(
        expression.evaluate({selector.key: other}, at_ms)
    )


@pytest.mark.parametrize("text", ["g", "sum_over_time(g[5m])", "g offset -2m", "sum_over_time(g[5m] offset -2m)"])
def test_a_rule_sees_nothing_later_than_the_time_asked_about(text: str) -> None:
    past = "g 1 2 3"
    future = "g 1 2 3 4 5 6"
    assert evaluate(text, past, at_ms=2 * MINUTE_MS) == evaluate(text, future, at_ms=2 * MINUTE_MS)


def test_lookback_is_five_minutes_open_on_the_left() -> None:
    assert evaluate("g", "g 1", at_ms=5 * MINUTE_MS - 1) == {"g{}": 1.0}
    assert evaluate("g", "g 1", at_ms=5 * MINUTE_MS) == {}


def test_a_stale_series_is_gone_at_once() -> None:
    assert evaluate("g", "g 1 stale", at_ms=MINUTE_MS) == {}


def test_a_vector_is_sorted_by_label_set() -> None:
    assert list(evaluate("g", 'g{i="b"} 1\ng{i="a"} 1\ng{i="10"} 1')) == [  # type: ignore[arg-type]  # it is a dict
        'g{i="10"}',
        'g{i="a"}',
        'g{i="b"}',
    ]


def test_a_scalar_says_so_and_metrics_have_no_evidence() -> None:
    expression = compile_promql("1 + 1")
    assert expression.evaluate({}, 0).is_scalar
    assert expression.evidence({}, 0, {}, 10) == []


def test_a_group_that_vanishes_and_returns_is_found_again() -> None:
    expression = compile_promql("sum by (job) (m)")
    windows = windows_for(expression, 'm{job="a"} 1 1 1\nm{job="b"} 1 stale 1')
    found = [[labels["job"] for labels in expression.evaluate(windows, t * MINUTE_MS).labels] for t in range(3)]
    assert found == [["a", "b"], ["a"], ["a", "b"]]
