"""What is worked out for several evaluation times together is what each of them gives alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from engine.core.expression import EvaluationError, ExpressionError, Vector
from engine.promql import compile as compile_promql
from engine.promql import stretch
from tests.promql.scenario import MINUTE_MS, windows_for
from tests.promql.test_properties import windows
from tests.real_promql.expressions import Generator
from tests.real_promql.series import START_MS

DATA = """
c_total{i="a"} 0+5x9 2 4 6 _ _ _ 1+1x9
c_total{i="b"} _x6 7+7x20
c_total{i="c"} 3 stale _x9 4 2 1
"""


def shown(vector: Vector) -> tuple[str, list[int]]:
    """Labels and the bits of the values: NaN is not equal to itself."""
    return str(vector.labels), vector.values.view(np.uint64).tolist()


def outcome(evaluate: Callable[[int], Vector], at_ms: int) -> object:
    try:
        return shown(evaluate(at_ms))
    except EvaluationError as error:
        return str(error)


@pytest.mark.parametrize("at_once", [1, 3, 32])
@pytest.mark.parametrize(
    "text",
    [
        "rate(c_total[3m])",
        "sum(increase(c_total[5m] offset 2m))",
        "max_over_time(c_total[4m] offset -2m)",  # which ends after the time asked about, and is not looked at
        "last_over_time(c_total[2m])",
        "changes(c_total[7m]) + resets(c_total[7m])",
        "sum_over_time(rate(c_total[3m])[5m:1m])",  # in a subquery other times are asked for
        "rate(c_total[3m] @ 300) or irate(c_total[1m])",
        "quantile_over_time(0.5, c_total[4m])",
        "delta(nothing[5m])",
    ],
)
def test_a_stretch_gives_what_each_time_gives(text: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "_TIMES_AT_ONCE", at_once)
    expression = compile_promql(text)
    held = windows_for(expression, DATA)
    times = range(0, 30 * MINUTE_MS, 20_000)
    together = expression.ahead(held, times)
    assert [shown(together(at_ms)) for at_ms in times] == [shown(expression.evaluate(held, at_ms)) for at_ms in times]


def test_times_may_be_left_out() -> None:
    expression = compile_promql("rate(c_total[3m])")
    held = windows_for(expression, DATA)
    together = expression.ahead(held, range(0, 90 * MINUTE_MS, MINUTE_MS))
    for at_ms in (5 * MINUTE_MS, 6 * MINUTE_MS, 50 * MINUTE_MS, 7 * MINUTE_MS):
        assert shown(together(at_ms)) == shown(expression.evaluate(held, at_ms))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), step_ms=st.sampled_from([5_000, 15_000, 47_300]))
def test_a_stretch_of_any_expression_on_any_data_gives_what_each_time_gives(seed: int, step_ms: int) -> None:
    try:
        expression = compile_promql(Generator(seed, newest=True).expression())
    except ExpressionError:
        reject()
    held, times = windows(expression), range(START_MS, START_MS + 40 * step_ms, step_ms)
    together = expression.ahead(held, times)
    for at_ms in times:
        assert outcome(together, at_ms) == outcome(partial(expression.evaluate, held), at_ms)
