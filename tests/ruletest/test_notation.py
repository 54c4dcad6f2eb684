"""Promtool's notation for points, as its documentation gives it."""

from __future__ import annotations

import math

import pytest

from engine.ruletest.notation import expand


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("", ()),
        ("1 2", (1, 2)),
        ("-2+4x3", (-2, 2, 6, 10)),
        ("1-2x4", (1, -1, -3, -5, -7)),
        ("1x4", (1, 1, 1, 1, 1)),
        ("0x10", (0,) * 11),
        ("4 _x3 stale", (4, None, None, None, "stale")),
        ("_", (None,)),
        ("1.5e2+.5x1", (150, 150.5)),
        ("Inf -inf", (math.inf, -math.inf)),
        ("5x0", (5,)),
    ],
)
def test_the_notation_expands(text: str, points: tuple[object, ...]) -> None:
    assert expand(text) == points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 two", "not a value: 'two'"),
        ("1+x3", "not a value"),
        ("{{schema:1}}", "native histograms"),
        ("1x99999999", "more than"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(text)
