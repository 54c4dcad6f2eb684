"""A view of a window shows what a window of only the wanted series would show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import promql
from engine.core.expression import EvaluationError
from engine.core.view import READ_COST, ROW_COST, Budget, NotHeldError, WindowView
from engine.core.window import STALE, MetricWindow
from engine.promql.query import Points, samples
from tests.core.builders import label_bytes

WANTED = promql.compile('x{user=~"a|b"}').selectors[0].matches
SERIES = {user: label_bytes(f"x{{user={user}}}") for user in "abcd"}

_samples = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 50), st.one_of(st.integers(0, 9).map(float), st.just(STALE))),
    max_size=40,
)


def window(found: list[tuple[str, int, float]], users: str) -> MetricWindow:
    made = MetricWindow()
    for user, t_ms, value in found:
        if user in users:
            made.append([SERIES[user]], np.array([t_ms]), np.array([value]))
    return made


def view_of(whole: MetricWindow, held_from_ms: int = -(2**62), budget: Budget | None = None) -> WindowView:
    return WindowView(whole, WANTED, lambda: held_from_ms, budget)


def newest(shown: MetricWindow, at_ms: int) -> dict[str, tuple[int, float]]:
    view = shown.instant(at_ms, 20)
    rows = zip(view.series.labels, view.times.tolist(), view.values.tolist(), view.present, strict=True)
    return {labels["user"]: (t_ms, value) for labels, t_ms, value, present in rows if present}


def all_in(shown: MetricWindow, start_ms: int, end_ms: int) -> list[Points]:
    return samples(shown.range(start_ms, end_ms))


@given(_samples, st.integers(0, 60), st.integers(0, 30))
def test_it_shows_the_series_that_match_and_no_others(
    found: list[tuple[str, int, float]], at_ms: int, length_ms: int
) -> None:
    whole, part = window(found, "abcd"), window(found, "ab")
    view = view_of(whole)
    assert newest(view, at_ms) == newest(part, at_ms)
    assert all_in(view, at_ms - length_ms, at_ms) == all_in(part, at_ms - length_ms, at_ms)
    assert {str(labels) for labels in view.series.labels} == {str(labels) for labels in part.series.labels}
    assert len(view) == sum(len(points.t_ms) for points in all_in(part, -1, 100))


def test_it_follows_its_window() -> None:
    whole = window([("a", 1, 1.0), ("c", 1, 1.0)], "abcd")
    view = view_of(whole)
    assert newest(view, 10) == {"a": (1, 1.0)}
    whole.append([SERIES["b"], SERIES["a"]], np.array([5, 5]), np.array([2.0, 3.0]))
    assert newest(view, 10) == {"a": (5, 3.0), "b": (5, 2.0)}
    whole.evict(6)
    assert newest(view, 10) == {}


def test_what_may_be_forgotten_is_not_shown() -> None:
    view = view_of(window([("a", 30, 1.0)], "abcd"), held_from_ms=21)
    assert newest(view, 40) == {"a": (30, 1.0)}  # (20, 40]
    with pytest.raises(NotHeldError, match="samples from 20 are asked for, and held are those from 21"):
        newest(view, 39)
    with pytest.raises(NotHeldError):
        view.range(19, 40)


def test_every_look_costs() -> None:
    budget = Budget(3 * READ_COST)
    view = view_of(window([("a", 1, 1.0), ("b", 1, 1.0), ("c", 1, 1.0)], "abcd"), budget=budget)
    view.instant(1, 20)
    view.range(0, 1)
    assert budget.left == READ_COST - 2 * (2 + 2 * ROW_COST)
    with pytest.raises(EvaluationError, match="looks at too many samples"):
        view.instant(1, 20)


def test_it_cannot_be_written_to_and_leaves_nothing_to_the_window_it_was_not_made_as() -> None:
    view = view_of(MetricWindow())
    with pytest.raises(TypeError):
        view.append([SERIES["a"]], np.array([1]), np.array([1.0]))
    with pytest.raises(TypeError):
        view.evict(1)
    assert {name for name in vars(MetricWindow) if not name.startswith("_")} <= set(vars(WindowView))
