"""`info()`: labels of the targets, joined to what they expose."""

from __future__ import annotations

import pytest

from engine.core.expression import EvaluationError
from tests.promql.scenario import MINUTE_MS, evaluate

DATA = """
m{instance="a", job="1", l="x"} 1 1
m{instance="b", job="1", l="y"} 2 2
target_info{instance="a", job="1", data="d", more="e", l="z"} 1 1
build_info{instance="a", job="1", version="3"} 1 1
"""
A, B = 'm{instance="a", job="1", l="x"}', 'm{instance="b", job="1", l="y"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("info(m)", {'m{data="d", instance="a", job="1", l="x", more="e"}': 1.0, B: 2.0}),
        ('info(m, {data=~".+"})', {'m{data="d", instance="a", job="1", l="x"}': 1.0}),
        ('info(m, {data=~".*"})', {'m{data="d", instance="a", job="1", l="x"}': 1.0, B: 2.0}),
        ('info(m, {data="other"})', {}),
        ('info(m, {absent=""})', {A: 1.0, B: 2.0}),
        (
            'info(m, {__name__=~".+_info", version=~".*", data=~".*"})',
            {'m{data="d", instance="a", job="1", l="x", version="3"}': 1.0, B: 2.0},
        ),
        ('info(m, {__name__="build_info"})', {'m{instance="a", job="1", l="x", version="3"}': 1.0, B: 2.0}),
        ("info(m * 2)", {'{data="d", instance="a", job="1", l="x", more="e"}': 2.0, B.removeprefix("m"): 4.0}),
        ("info(sum(m))", {"{}": 3.0}),
        ("info(target_info)", {'target_info{data="d", instance="a", job="1", l="z", more="e"}': 1.0}),
        ("info(nothing)", {}),
    ],
)
def test_info_adds_the_labels_of_the_target(text: str, expected: dict[str, float]) -> None:
    assert evaluate(text, DATA, at_ms=MINUTE_MS) == expected


def test_the_newer_of_two_info_series_of_a_target_counts() -> None:
    data = 'm{instance="a"} 1 1\ntarget_info{instance="a", v="old"} 1\ntarget_info{instance="a", v="new"} _ 1'
    assert evaluate("info(m)", data, at_ms=MINUTE_MS) == {'m{instance="a", v="new"}': 1.0}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ('target_info{instance="a", v="1"} 1\ntarget_info{instance="a", v="2"} 1', "duplicate series for info metric"),
        ('target_info{instance="a", v="1"} 1\nbuild_info{instance="a", v="2"} 1', "conflicting label: v"),
    ],
)
def test_labels_that_contradict_each_other_are_an_error(data: str, part: str) -> None:
    with pytest.raises(EvaluationError, match=part):
        evaluate('info(m, {__name__=~".*_info"})', f'm{{instance="a"}} 1\n{data}')
