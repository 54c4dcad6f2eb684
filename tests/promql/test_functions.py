"""Functions, by example."""

from __future__ import annotations

import math

import pytest

from engine.core.expression import EvaluationError
from engine.promql import compile as compile_promql
from engine.vector.values import Context
from tests.promql.scenario import MINUTE_MS, evaluate, windows_for

COUNTER = 'c_total{i="a"} 0+60x10'


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        # at 5m, samples once a minute
        ("rate(c_total[5m])", COUNTER, {'{i="a"}': 1.0}),
        ("increase(c_total[5m])", COUNTER, {'{i="a"}': 300.0}),
        # a counter is not extrapolated below zero, which was 12 s before the first sample (half a step would be 30 s)
        ("increase(c_total[10m])", "c_total _ _ _ 10 60 110", {"{}": 110.0}),
        # a reset from 100 to 10 adds the 100 that were lost
        ("increase(c_total[5m])", "c_total 0 50 100 10 20 30", {"{}": (30 - 50 + 100) * 5 / 4}),
        ("rate(c_total[5m])", "c_total _ _ _ _ _ 5", {}),
        ("delta(g[5m])", "g 100 90 80 70 60 50", {"{}": -50.0}),
        ("irate(c_total[5m])", "c_total 0 0 0 0 60 10", {"{}": 10 / 60}),
        ("idelta(g[5m])", "g 0 0 0 0 60 10", {"{}": -50.0}),
        ("changes(g[5m])", "g 1 1 2 2 NaN NaN", {"{}": 2.0}),
        ("resets(g[5m])", "g 9 3 2 5 1 1", {"{}": 2.0}),
        ("deriv(g[5m])", "g 0+60x5", {"{}": 1.0}),
        ("predict_linear(g[5m], 60)", "g 0+60x5", {"{}": 360.0}),
        ("count_over_time(g[5m])", "g 1 2 _ stale 5 6", {"{}": 3.0}),
        ("sum_over_time(g[5m])", "g 9 1 2 3 4 5", {"{}": 15.0}),
        ("avg_over_time(g[5m])", "g 9 1 2 3 4 5", {"{}": 3.0}),
        ("min_over_time(g[5m])", "g 0 NaN 2 3 4 5", {"{}": 2.0}),
        ("max_over_time(g[5m])", "g 0 NaN 2 3 4 5", {"{}": 5.0}),
        ("stdvar_over_time(g[5m])", "g 0 1 1 3 3 2", {"{}": 0.8}),
        ("quantile_over_time(0.5, g[5m])", "g 0 1 2 3 4 9", {"{}": 3.0}),
        ("last_over_time(g[5m])", "g 1 2 3 _ _ _", {"g{}": 3.0}),
        ("present_over_time(g[5m])", "g _ 7", {"{}": 1.0}),
        ("absent(g)", "", {"{}": 1.0}),
        ('absent(g{a="1",b=~"x"})', "", {'{a="1"}': 1.0}),
        ("absent(g)", "g 1 _ _ _ _ 1", {}),
        ('absent_over_time(g{a="1"}[5m])', "", {'{a="1"}': 1.0}),
        ("clamp(g, 2, 3)", "g 0 0 0 0 0 9", {"{}": 3.0}),
        ("clamp(g, 3, 2)", "g 0 0 0 0 0 9", {}),
        ("round(g, 0.5)", "g 0 0 0 0 0 1.3", {"{}": 1.5}),
        ("timestamp(g)", "g 0 0 0 1", {"{}": 180.0}),
        ("vector(time())", "", {"{}": 300.0}),
        ("day_of_week(vector(1136239445))", "", {"{}": 1.0}),
        ("days_in_month(vector(1456790400 - 86400))", "", {"{}": 29.0}),
        ("hour()", "", {"{}": 0.0}),
        ('label_replace(g, "to", "$1-x", "from", "(.*)y")', 'g{from="ay"} _ 1', {'g{from="ay", to="a-x"}': 1.0}),
        ('label_join(g, "to", "-", "a", "b")', 'g{a="1",b="2"} _ 1', {'g{a="1", b="2", to="1-2"}': 1.0}),
        ("max_over_time(sum(g)[3m:1m])", 'g{i="1"} 0+1x9\ng{i="2"} 0+2x9', {"{}": 15.0}),
    ],
)
def test_function_at_five_minutes(text: str, data: str, expected: dict[str, float]) -> None:
    assert evaluate(text, data, at_ms=5 * MINUTE_MS) == pytest.approx(expected)


SMOOTHED = "double_exponential_smoothing(g[5m], {}, 0.5)"


@pytest.mark.parametrize(
    ("factor", "text"), [("0", "0.000000"), ("-0.5", "-0.500000"), ("1", "1.000000"), ("Inf", "+Inf")]
)
def test_a_smoothing_factor_out_of_range_is_an_error_where_there_is_something_to_smooth(factor: str, text: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(SMOOTHED.format(factor), "g 1 2 3")
    assert str(caught.value) == f"invalid smoothing factor. Expected: 0 < sf < 1, got: {text}"
    assert evaluate(SMOOTHED.format(factor), "other 1 2 3") == {}


def test_smoothing_by_nan_gives_nan() -> None:
    assert evaluate(SMOOTHED.format("NaN"), "g 1 2 3", at_ms=2 * MINUTE_MS) == pytest.approx(
        {"{}": math.nan}, nan_ok=True
    )


QUANTILE = "quantile value should be between 0 and 1, got "
FIXED = "input to histogram_quantile needed to be fixed for monotonicity"
FALLING = 'h_bucket{le="1"} 5\nh_bucket{le="2"} 4\n'


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("quantile(2, g)", "", [QUANTILE + "2"]),
        ("quantile(1234567, g)", "", [QUANTILE + "1.234567e+06"]),
        ("quantile(-0.00001, g)", "", [QUANTILE + "-1e-05"]),
        ("histogram_quantile(NaN, g)", "", [QUANTILE + "NaN"]),
        ("quantile_over_time(2, g[5m])", "", []),
        ("quantile_over_time(2, g[5m])", "g 1", [QUANTILE + "2"]),
        ("histogram_quantile(0.5, h_bucket)", FALLING + 'h_bucket{le="+Inf"} 10', [FIXED]),
        ("histogram_quantile(0.5, h_bucket)", FALLING, []),  # no answer anyway
        ("histogram_quantile(2, h_bucket)", FALLING + 'h_bucket{le="+Inf"} 10', [QUANTILE + "2"]),
        ("histogram_fraction(0, 1, h_bucket)", FALLING + 'h_bucket{le="+Inf"} 10', []),
    ],
)
def test_the_user_is_told_of_what_was_odd(text: str, data: str, expected: list[str]) -> None:
    expression = compile_promql(text)
    context = Context(windows_for(expression, data), 0, 0, 0)
    expression.evaluate_in(context)
    assert [note for _, note in context.notes] == expected


@pytest.mark.parametrize(("name", "shown"), [("g", '"g"'), (r"a\nb", r'"a\nb"'), (r"say \"b\"", r'"say \"b\""')])
def test_a_metric_that_is_not_named_as_a_counter_is_named(name: str, shown: str) -> None:
    expression = compile_promql(f'rate({{"{name}"}}[5m])')
    context = Context(windows_for(expression, f'{{"{name}"}} 1 2'), MINUTE_MS, MINUTE_MS, MINUTE_MS)
    expression.evaluate_in(context)
    [(severity, note)] = context.notes
    assert severity == "info"
    assert note.endswith(f"name does not end in _total/_sum/_count/_bucket: {shown}")


def test_sort_orders_by_value_and_puts_nan_last() -> None:
    data = 'g{i="a"} 3\ng{i="b"} NaN\ng{i="c"} 1'
    assert list(evaluate("sort(g)", data)) == ['g{i="c"}', 'g{i="a"}', 'g{i="b"}']  # type: ignore[arg-type]  # a dict
    assert list(evaluate("sort_desc(g)", data)) == ['g{i="a"}', 'g{i="c"}', 'g{i="b"}']  # type: ignore[arg-type]  # too


def test_scalar_of_anything_but_one_element_is_nan() -> None:
    assert math.isnan(evaluate("scalar(g)", 'g{i="1"} 1\ng{i="2"} 1'))  # type: ignore[arg-type]  # a number
    assert evaluate("scalar(g)", "g 7") == 7.0


def test_dropping_the_name_must_not_make_two_series_equal() -> None:
    with pytest.raises(EvaluationError, match="same labelset"):
        evaluate('rate({__name__=~"a|b"}[5m])', "a 0+1x5\nb 0+1x5", at_ms=5 * MINUTE_MS)


def test_losses_of_a_counter_are_added_one_after_the_other() -> None:
    # -0.365 + 0.243... + 0.1216... is a little above zero; with the two losses added first it would be zero
    falling = "c_total _ _ 0.243333333333 0.121666666667 0 -0.121666666667"
    assert evaluate("increase(c_total[5m]) > 0", falling, at_ms=5 * MINUTE_MS)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_histogram_quantile_interpolates_within_the_bucket(q: float) -> None:
    data = 'h_bucket{le="1"} 50\nh_bucket{le="2"} 100\nh_bucket{le="+Inf"} 100'
    expected = q * 2
    assert evaluate(f"histogram_quantile({q}, h_bucket)", data) == pytest.approx({"{}": expected})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('h_bucket{le="1"} 1\nh_bucket{le="2"} 2', math.nan),  # no +Inf bucket
        ('h_bucket{le="+Inf"} 2', math.nan),  # nothing to interpolate
        ('h_bucket{le="1"} 0\nh_bucket{le="+Inf"} 0', math.nan),  # no observation
        ('h_bucket{le="1"} 5\nh_bucket{le="2"} 4\nh_bucket{le="+Inf"} 10', 2.0),  # made monotonic
        ('h_bucket{le="1"} 5\nh_bucket{le="1.0"} 5\nh_bucket{le="+Inf"} 10', 0.9),  # equal bounds merged
    ],
)
def test_histogram_quantile_repairs_or_refuses_odd_buckets(data: str, expected: float) -> None:
    assert evaluate("histogram_quantile(0.9, h_bucket)", data) == pytest.approx({"{}": expected}, nan_ok=True)
