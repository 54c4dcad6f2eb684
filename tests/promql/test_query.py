"""Range queries over what is held: every step is what an instant query says, and what is not held is left out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import promql
from engine.core.expression import EvaluationError
from engine.core.messages import RuleInput
from engine.core.step import Shard
from engine.promql import query
from engine.promql.query import RangeQuery, instant, samples
from engine.vector.values import InstantVector, RangeVector
from tests.core.builders import batch, one_rule

MINUTE_MS = 60_000
LAST_MS = 60 * MINUTE_MS


@pytest.fixture(scope="module")
def shard() -> Shard:
    """An hour of a counter `x_total` every 15 s, of which 20 minutes are kept; user b falls silent at 50 min."""
    shard = Shard(one_rule("rate(x_total[20m]) > 50"))
    points = [
        (f"x_total{{user={user}}}", t_ms, t_ms / 1000 * rate)
        for t_ms in range(0, LAST_MS + 1, 15_000)
        for user, rate in (("a", 1), ("b", 2))
        if user == "a" or t_ms <= 50 * MINUTE_MS
    ]
    shard.step(RuleInput(0, batch("s", 1, LAST_MS + 1, points)))
    return shard


def ask(shard: Shard, text: str, start_ms: int, end_ms: int, step_ms: int) -> RangeQuery:
    asked = RangeQuery(shard.groups, promql.compile(text, any_type=True), start_ms, end_ms, step_ms)
    for _ in asked.steps():
        pass
    return asked


def found(asked: RangeQuery) -> dict[str, dict[int, float]]:
    return {
        points.labels.get("user", ""): dict(zip(points.t_ms, points.values, strict=True)) for points in asked.result()
    }


def test_steps_end_where_data_is_complete_and_begin_where_it_is_held(shard: Shard) -> None:
    """
    held   40 ........................ 60          20 minutes
    asked  30 32 .. 44 46 48 .. 58 60 62 64        x_total looks back 5 minutes
    given              46 48 .. 58 60
    """
    asked = ask(shard, 'x_total{user="a"}', 30 * MINUTE_MS, 64 * MINUTE_MS, 2 * MINUTE_MS)
    assert found(asked) == {"a": {m * MINUTE_MS: m * 60.0 for m in range(46, 61, 2)}}
    [(severity, text)] = asked.notes
    assert severity == "warn"
    assert "the oldest steps are left out" in text
    assert "rules.keep" in text


def test_a_series_that_falls_silent_ends_with_the_lookback(shard: Shard) -> None:
    steps = found(ask(shard, "x_total", 53 * MINUTE_MS, LAST_MS, MINUTE_MS))
    assert sorted(steps["b"]) == [53 * MINUTE_MS, 54 * MINUTE_MS]
    assert len(steps["a"]) == 8


def test_a_scalar_is_one_series_without_labels_at_every_step_also_in_the_future(shard: Shard) -> None:
    assert found(ask(shard, "time()", 0, 4000, 2000)) == {"": {0: 0, 2000: 2, 4000: 4}}
    assert len(found(ask(shard, "1", LAST_MS, 2 * LAST_MS, MINUTE_MS))[""]) == 61


def test_start_and_end_are_those_of_the_query(shard: Shard) -> None:
    last = found(ask(shard, 'x_total{user="a"} @ end()', 50 * MINUTE_MS, 54 * MINUTE_MS, MINUTE_MS))
    assert set(last["a"].values()) == {54 * 60.0}
    too_early = ask(shard, "x_total @ start()", 10 * MINUTE_MS, LAST_MS, MINUTE_MS)
    assert found(too_early) == {}
    assert too_early.notes


@settings(max_examples=60)
@given(
    text=st.sampled_from(
        [
            "x_total",
            "sum(rate(x_total[5m]))",
            'x_total{user=~"a|b"} offset 3m',
            "max_over_time(rate(x_total[2m])[4m:30s])",
            "absent(x_total{user='b'})",
            "topk(1, x_total) * on () group_left scalar(x_total{user='a'})",
        ]
    ),
    start_ms=st.integers(48 * MINUTE_MS, LAST_MS),
    length_ms=st.integers(0, 10 * MINUTE_MS),
    step_ms=st.integers(1_000, 5 * MINUTE_MS),
)
def test_every_step_is_what_an_instant_query_gives(
    shard: Shard, text: str, start_ms: int, length_ms: int, step_ms: int
) -> None:
    steps: dict[int, dict[str, float]] = {}
    for user, points in found(ask(shard, text, start_ms, start_ms + length_ms, step_ms)).items():
        for t_ms, value in points.items():
            steps.setdefault(t_ms, {})[user] = value
    for t_ms in range(start_ms, min(start_ms + length_ms, LAST_MS) + 1, step_ms):
        at_ms, value, _ = instant(shard.groups, promql.compile(text), t_ms)
        assert at_ms == t_ms
        assert isinstance(value, InstantVector)
        present = {
            labels.get("user", ""): number
            for labels, number, some in zip(value.series.labels, value.values.tolist(), value.present, strict=True)
            if some
        }
        assert steps.get(t_ms, {}) == present


def test_windows_may_move_on_between_two_steps(shard: Shard) -> None:
    moving = Shard(one_rule("rate(x_total[10m]) > 50"))

    def feed(number: int, first_min: int, last_min: int) -> None:
        times = range(first_min * MINUTE_MS, last_min * MINUTE_MS, 15_000)
        points = [("x_total{user=a}", t_ms, t_ms / 1000) for t_ms in times]
        moving.step(RuleInput(0, batch("s", number, last_min * MINUTE_MS, points)))

    feed(1, 0, 20)
    asked = RangeQuery(moving.groups, promql.compile("x_total"), 16 * MINUTE_MS, 19 * MINUTE_MS, MINUTE_MS)
    steps = asked.steps()
    next(steps)
    feed(2, 20, 23)  # now held from 13 min on: 17 min looks back to 12
    assert list(steps) == [17 * MINUTE_MS, 18 * MINUTE_MS, 19 * MINUTE_MS]
    assert found(asked) == {"a": {m * MINUTE_MS: m * 60.0 for m in (16, 18, 19)}}
    assert asked.notes


def test_an_instant_query_may_be_a_range_of_samples_or_a_string(shard: Shard) -> None:
    _, value, _ = instant(shard.groups, promql.compile("x_total[40s]", any_type=True), LAST_MS)
    assert isinstance(value, RangeVector)
    [points] = samples(value)
    assert (points.labels["user"], points.t_ms) == ("a", [LAST_MS - 30_000, LAST_MS - 15_000, LAST_MS])
    assert instant(shard.groups, promql.compile("'text'", any_type=True), 5)[:2] == (5, "text")


def test_a_query_that_is_too_large_is_refused(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EvaluationError, match="looks at too many samples"):
        ask(shard, "max_over_time(x_total[10m:50ms])", LAST_MS, LAST_MS, MINUTE_MS)
    monkeypatch.setattr(query, "RESULT_POINTS", 10)
    with pytest.raises(EvaluationError, match="more than 10 points"):
        ask(shard, "x_total", 55 * MINUTE_MS, LAST_MS, 10_000)
