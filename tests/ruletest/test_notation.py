"""Promtool's notation for points, as its documentation gives it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.window import STALE, is_stale
from engine.ruletest.notation import expand


def shown(text: str) -> list[float | str | None]:
    """The points of a text: a gap is None, a marker "stale"."""
    points = expand(text)
    return [
        (("stale" if stale else value) if there else None)
        for value, there, stale in zip(
            points.values.tolist(), points.present.tolist(), is_stale(points.values).tolist(), strict=True
        )
    ]


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("", []),
        ("1 2", [1, 2]),
        ("-2+4x3", [-2, 2, 6, 10]),
        ("1-2x4", [1, -1, -3, -5, -7]),
        ("1x4", [1, 1, 1, 1, 1]),
        ("0x10", [0] * 11),
        ("4 _x3 stale", [4, None, None, None, "stale"]),
        ("_", [None]),
        ("1 _x0 2", [1, 2]),
        ("1.5e2+.5x1", [150, 150.5]),
        ("Inf -inf", [math.inf, -math.inf]),
        ("5x0", [5]),
        (" 1\t2.5\n03 ", [1, 2.5, 3]),
    ],
)
def test_the_notation_expands(text: str, points: list[object]) -> None:
    assert shown(text) == points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 two", "not a value: 'two'"),
        ("1+x3", "not a value"),
        ("1+-2x3", "not a value"),
        ("1+2", "not a value"),
        ("1.2.3 4", "not a value: '1.2.3'"),
        ("stalex3", "not a value"),
        ("{{schema:1}}", "native histograms"),
        ("1x99999999", "more than"),
        ("_x600000 1x600000", "more than"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(text)


@given(start=st.floats(-1e6, 1e6), step=st.floats(0, 1e6), count=st.integers(0, 50))
def test_a_rising_series_is_one_addition_after_the_other(start: float, step: float, count: int) -> None:
    value, expected = start, [start]
    for _ in range(count):
        value += step
        expected.append(value)
    assert expand(f"{start!r}+{step!r}x{count}").values.tolist() == expected


@given(st.lists(st.sampled_from(["_", "stale", "3", "1+2x3", "_x2", "7x2"])))
def test_words_expand_one_after_the_other(words: list[str]) -> None:
    whole = expand(" ".join(words))
    parts = [expand(word) for word in words]
    assert whole.present.tolist() == [there for part in parts for there in part.present.tolist()]
    one_after_the_other = np.concatenate([np.empty(0), *(part.values for part in parts)])
    assert np.array_equal(whole.values.view(np.uint64), one_after_the_other.view(np.uint64))
    assert len(whole) == len(whole.values)


def test_a_marker_has_prometheus_bits() -> None:
    assert expand("stale").values.view(np.uint64)[0] == np.array([STALE]).view(np.uint64)[0]
