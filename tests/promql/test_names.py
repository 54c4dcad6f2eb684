"""When the metric name goes: at once, as Prometheus has it by default, or at the end of the evaluation."""

from __future__ import annotations

import pytest

from engine.core.expression import EvaluationError
from tests.promql.scenario import MINUTE_MS, evaluate

DATA = """
a_total{i="1"} 0+60x9
a_total{i="2"} 0+120x9
b_total{i="1"} 0+180x9
g{i="1", __type__="gauge", __unit__="s"} 5x9
"""
SAME = "vector cannot contain metrics with the same labelset"
BOTH = '{__name__=~"a_total|b_total"}'
RATES = f"rate({BOTH}[5m])"

Result = dict[str, float] | str


def outcome(text: str, *, delayed: bool) -> Result:
    try:
        result = evaluate(text, DATA, at_ms=5 * MINUTE_MS, delayed_names=delayed)
    except EvaluationError as error:
        return str(error)
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    ("text", "at_once", "at_the_end"),
    [
        # The same either way, wherever nothing reads the name after it was to go.
        ("rate(a_total[5m])", {'{i="1"}': 1.0, '{i="2"}': 2.0}, {'{i="1"}': 1.0, '{i="2"}': 2.0}),
        ("sum by (i) (rate(a_total[5m]))", {'{i="1"}': 1.0, '{i="2"}': 2.0}, {'{i="1"}': 1.0, '{i="2"}': 2.0}),
        ("-a_total", {'{i="1"}': -300.0, '{i="2"}': -600.0}, {'{i="1"}': -300.0, '{i="2"}': -600.0}),
        ("a_total > bool 400", {'{i="1"}': 0.0, '{i="2"}': 1.0}, {'{i="1"}': 0.0, '{i="2"}': 1.0}),
        ("a_total + on (i) b_total", {'{i="1"}': 1200.0}, {'{i="1"}': 1200.0}),
        ("a_total >= bool on (i) b_total", {'{i="1"}': 0.0}, {'{i="1"}': 0.0}),
        ("a_total > 400", {'a_total{i="2"}': 600.0}, {'a_total{i="2"}': 600.0}),
        ("sum by (__name__) (a_total)", {"a_total{}": 900.0}, {"a_total{}": 900.0}),
        ("last_over_time(a_total[5m]) > 400", {'a_total{i="2"}': 600.0}, {'a_total{i="2"}': 600.0}),
        ("g", {'g{__type__="gauge", __unit__="s", i="1"}': 5.0}, {'g{__type__="gauge", __unit__="s", i="1"}': 5.0}),
        ("g * 2", {'{i="1"}': 10.0}, {'{i="1"}': 10.0}),
        ("abs(g)", {'{i="1"}': 5.0}, {'{i="1"}': 5.0}),
        ("g + g", {'{i="1"}': 10.0}, {'{i="1"}': 10.0}),
        # Two metrics with the same labels collide where the name goes.
        (RATES, SAME, SAME),
        (f"topk(1, {RATES})", SAME, {'{i="1"}': 3.0}),
        (f"sum({RATES})", SAME, {"{}": 6.0}),
        (f"sum by (i) ({RATES})", SAME, {'{i="1"}': 4.0, '{i="2"}': 2.0}),
        (f"sum by (__name__) ({RATES})", SAME, SAME),
        (f"max_over_time({RATES}[2m:1m])", SAME, SAME),
        (f"sum(max_over_time({RATES}[2m:1m]))", SAME, {"{}": 6.0}),
        (f"{RATES} and on (__name__) b_total", SAME, {'{i="1"}': 3.0}),
        ("vector(7) or rate(a_total[5m])", {"{}": 7.0, '{i="1"}': 1.0, '{i="2"}': 2.0}, None),
        # The name can be kept, or become another label, while it is still there.
        (
            'label_replace(rate(a_total[5m]), "__name__", "$1", "__name__", "(.*)_total")',
            {'{i="1"}': 1.0, '{i="2"}': 2.0},
            {'a{i="1"}': 1.0, 'a{i="2"}': 2.0},
        ),
        (
            f'label_replace({RATES}, "__name__", "$1", "__name__", "(.*)")',
            SAME,
            {'a_total{i="1"}': 1.0, 'a_total{i="2"}': 2.0, 'b_total{i="1"}': 3.0},
        ),
        (
            f'label_replace({RATES}, "m", "$1", "__name__", "(.*)")',
            SAME,
            {'{i="1", m="a_total"}': 1.0, '{i="1", m="b_total"}': 3.0, '{i="2", m="a_total"}': 2.0},
        ),
        (
            'label_join(rate(b_total[5m]), "__name__", ":", "__name__", "i")',
            {':1{i="1"}': 3.0},
            {'b_total:1{i="1"}': 3.0},
        ),
    ],
)
def test_when_the_name_goes(text: str, at_once: Result, at_the_end: Result | None) -> None:
    for delayed, expected in ((False, at_once), (True, at_once if at_the_end is None else at_the_end)):
        assert outcome(text, delayed=delayed) == (expected if isinstance(expected, str) else pytest.approx(expected))
