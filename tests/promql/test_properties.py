"""Laws that hold for any data and any expression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from engine.core.expression import Expression, ExpressionError, Window
from engine.core.labels import decode, encode
from engine.promql import compile as compile_promql
from tests.conformance import streaming
from tests.promql.scenario import MINUTE_MS, evaluate
from tests.real_promql.expressions import Generator
from tests.real_promql.series import START_MS, generate

SAMPLES = sorted((t_ms, encode(labels), value) for labels, points in generate(3, newest=True) for t_ms, value in points)
KEYS = {key for _, key, _ in SAMPLES}
TIMES = range(START_MS + 4 * MINUTE_MS, START_MS + 29 * MINUTE_MS, 5 * MINUTE_MS)


def windows(expression: Expression) -> dict[str, Window]:
    result: dict[str, Window] = {}
    for selector in expression.selectors:
        window = result[selector.key] = selector.make_window()
        matching = {key for key in KEYS if selector.matches(decode(key))}
        wanted = [sample for sample in SAMPLES if sample[1] in matching]
        times, values = np.array([t for t, _, _ in wanted]), np.array([v for _, _, v in wanted])
        window.append([key for _, key, _ in wanted], times, values)
    return result


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), size=st.integers(200, 6_000), delayed_names=st.booleans())
def test_a_rule_gives_the_same_however_its_data_was_batched(seed: int, size: int, delayed_names: bool) -> None:
    text = Generator(seed, newest=True).expression()
    try:
        expression = compile_promql(text, delayed_names=delayed_names)
    except ExpressionError:  # a few are refused, as by Prometheus
        reject()
    complete = windows(expression)
    at_once = {at_ms: streaming.outcome(expression, complete, at_ms) for at_ms in TIMES}
    assert streaming.stream(expression, streaming.batches(SAMPLES, size), TIMES) == at_once, text


numbers = st.floats(-1e6, 1e6, allow_nan=False, width=32)
series = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), numbers), min_size=1, max_size=9)


def data_of(rows: list[tuple[str, str, float]]) -> str:
    return "\n".join(f'm{{i="{i}", job="{job}", zone="{zone}"}} {value!r}' for i, (job, zone, value) in enumerate(rows))


@settings(max_examples=80)
@given(rows=series)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sum(sum by (job) (m))", "sum(m)"),
        ("max(max by (zone) (m))", "max(m)"),
        ("min without (i) (m)", "-max without (i) (-m)"),
        ("sum by (job) (m) / on (job) count by (job) (m)", "avg by (job) (m)"),
        ("sum by (zone) (group by (i, zone) (m))", "count by (zone) (m)"),
        ("stddev(m) ^ 2", "stdvar(m)"),
        ("quantile(0, m)", "min(m)"),
        ("quantile by (job) (1, m)", "max by (job) (m)"),
        ("sum(topk(99, m))", "sum(m)"),
        ("sum(limit_ratio(0.4, m) or limit_ratio(-0.6, m))", "sum(m)"),
        ("sum(count_values('v', m))", "count(m)"),
        ("sum by (job) (m and m) + 0", "sum by (job) (m or m) + 0"),
        ("count(m unless m) or vector(0)", "vector(0)"),
        ("sum(m > 0) or vector(0)", "sum((m > bool 0) * m) + 0"),
    ],
)
def test_aggregations_agree_with_each_other(one: str, other: str, rows: list[tuple[str, str, float]]) -> None:
    data = data_of(rows)
    assert evaluate(one, data) == pytest.approx(evaluate(other, data), rel=1e-6, abs=1e-4)
