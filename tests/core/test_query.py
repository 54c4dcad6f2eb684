"""Which windows can answer which selectors, and from when to when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import promql
from engine.core.expression import EvaluationError
from engine.core.labels import Matcher, MatcherSet, MatchOp
from engine.core.messages import RuleInput
from engine.core.query import find_series, implies, instant_query
from engine.core.step import Shard
from tests.core.builders import batch, groups

MINUTE_MS = 60_000


def matches(selector: str) -> MatcherSet:
    return promql.compile(selector).selectors[0].matches


@pytest.mark.parametrize(
    ("query", "window", "implied"),
    [
        ("up", "up", True),
        ('up{job="a"}', "up", True),
        ("up", 'up{job="a"}', False),
        ('up{job="a"}', 'up{job=~"a|b"}', True),
        ('up{job=~"a|b"}', 'up{job=~"a|b|c"}', True),
        ('up{job=~"a|d"}', 'up{job=~"a|b|c"}', False),
        ('up{job=~"a.*"}', 'up{job=~"a.*"}', True),
        ('up{job=~"a.+"}', 'up{job=~"a.*"}', False),  # it is so, but two expressions are not compared
        ('up{job=~"a.+"}', 'up{job!=""}', True),
        ('up{job!="a"}', 'up{job!=""}', False),  # a series without the label is not "a" either
        ('up{job="a"}', 'up{job!="b"}', True),
        ('up{job!="b"}', 'up{job!="b"}', True),
        ('up{job="a"}', 'up{job=~".+"}', True),
        ("up", 'up{job=~".*"}', True),
        ("up", '{job=~".+"}', False),
        ('up{job="a"}', '{job="a"}', True),
        ('up{job=""}', 'up{job!~".+"}', True),
        ("down", "up", False),
        ('{job="a"}', '{__name__=~".+"}', True),  # every series has a name
    ],
)
def test_a_window_answers_a_selector_that_implies_its_matchers(query: str, window: str, implied: bool) -> None:
    assert implies(matches(query), matches(window)) is implied


_values = st.sampled_from(["", "a", "b", "ab"])
_patterns = st.sampled_from([*("a", "a|b", "", ".*", ".+", "a.*", "b|", "ab?")])
_matchers = st.lists(
    st.one_of(
        st.builds(Matcher, st.sampled_from("xy"), st.sampled_from(["=", "!="]), _values),
        st.builds(Matcher, st.sampled_from("xy"), st.sampled_from(["=~", "!~"]), _patterns),
    ),
    max_size=3,
)


@given(query=_matchers, window=_matchers, labels=st.dictionaries(st.sampled_from("xy"), _values))
def test_what_is_said_to_be_implied_is_so_for_every_label_set(
    query: Sequence[Matcher], window: Sequence[Matcher], labels: dict[str, str]
) -> None:
    wanted, held = MatcherSet(query), MatcherSet(window)
    if implies(wanted, held) and wanted(labels):
        assert held(labels)


@pytest.mark.parametrize("op", ["=", "=~"])
def test_one_value_and_a_list_of_values_narrow_a_window(op: MatchOp) -> None:
    assert implies(MatcherSet([Matcher("x", op, "a")]), MatcherSet([Matcher("x", "=~", "[ab]")]))


RULES = """
groups:
  - name: short
    rules: [{alert: A, expr: 'x{user=~"a|b"} > 9'}]
  - name: long
    rules: [{alert: B, expr: 'rate(x[1h]) > 9'}]
  - name: other
    rules: [{alert: C, expr: 'z > 9'}]
"""


@pytest.fixture
def shard() -> Shard:
    """Two hours of `x` every half minute: user a counts 1 a second, b counts 2, c counts 3."""
    shard = Shard(groups(RULES))
    rates = {"a": 1, "b": 2, "c": 3}
    points = [
        (f"x{{user={user}}}", t_ms, t_ms / 1000 * rate)
        for t_ms in range(0, 120 * MINUTE_MS + 1, 30_000)
        for user, rate in rates.items()
    ]
    shard.step(RuleInput(0, batch("s", 1, 120 * MINUTE_MS + 1, points)))
    return shard


def values(shard: Shard, text: str, at_ms: int | None = None) -> tuple[int, dict[str, float]]:
    at_ms, vector = instant_query(shard.groups, promql.compile(text), at_ms)
    return at_ms, dict(zip([one.get("user", "") for one in vector.labels], vector.values.tolist(), strict=True))


def test_a_query_is_answered_at_the_newest_complete_time(shard: Shard) -> None:
    assert values(shard, "x") == (120 * MINUTE_MS, {"a": 7200, "b": 14400, "c": 21600})


def test_a_narrower_selector_sees_its_own_series_only(shard: Shard) -> None:
    assert values(shard, 'x{user="b"}')[1] == {"b": 14400}
    assert values(shard, 'rate(x{user!="b"}[10m])')[1] == pytest.approx({"a": 1, "c": 3})


def test_a_query_may_ask_for_an_earlier_time_but_not_for_a_later_one(shard: Shard) -> None:
    assert values(shard, "x", 100 * MINUTE_MS) == (100 * MINUTE_MS, {"a": 6000, "b": 12000, "c": 18000})
    assert values(shard, "x", 999 * MINUTE_MS)[0] == 120 * MINUTE_MS


@pytest.mark.parametrize(
    ("text", "at_min", "says"),
    [
        ("y", None, r"no window holds y; add y\[5m\] to the setting rules.keep"),
        ('{user="a"}', None, r"no window holds {user=\"a\"}; add {user=\"a\"}\[5m\]"),
        ("rate(x[2h])", None, r"x is kept for 1h and this query looks back 2h; add x\[2h\] to the setting rules.keep"),
        ("z offset 1h", None, r"z is kept for 5m and this query looks back 1h5m; add z\[1h5m\]"),
        ("x", 30, "samples from 1500001 are asked for, and held are those from 3600001"),
        ("x @ 60", None, "held are those from 3600001"),
    ],
)
def test_what_is_not_held_is_refused_and_says_what_to_do(
    shard: Shard, text: str, at_min: int | None, says: str
) -> None:
    with pytest.raises(EvaluationError, match=says):
        values(shard, text, None if at_min is None else at_min * MINUTE_MS)


def test_a_fixed_time_that_is_held_can_be_asked_for(shard: Shard) -> None:
    assert values(shard, "x @ 6000")[1] == {"a": 6000, "b": 12000, "c": 18000}


def test_before_any_data_only_a_query_that_reads_nothing_and_names_its_time_is_answered() -> None:
    shard = Shard(groups(RULES))
    for text in ("x", "1 + 1"):
        with pytest.raises(EvaluationError, match="no data has arrived yet"):
            values(shard, text)
    assert values(shard, "1 + 1", 5) == (5, {"": 2})


def test_series_are_those_with_a_sample_in_the_time(shard: Shard) -> None:
    everything = [{"__name__": "x", "user": user} for user in "abc"]
    assert find_series(shard.groups, [], 0, 120 * MINUTE_MS) == everything
    assert find_series(shard.groups, [matches('x{user=~"b|c"}'), matches("y")], 0, 2**53) == everything[1:]
    assert find_series(shard.groups, [], 0, 30 * MINUTE_MS) == []  # forgotten
    assert find_series(shard.groups, [], 120 * MINUTE_MS, 120 * MINUTE_MS) == everything
    assert find_series(shard.groups, [], 120 * MINUTE_MS + 1, 2**53) == []


def test_after_a_reload_a_window_that_is_to_reach_further_back_says_what_it_forgot_before(shard: Shard) -> None:
    longer = Shard(groups(RULES.replace("rate(x[1h])", "rate(x[2h])")), snapshots=shard.snapshots())
    longer.adopt(shard, shard.groups)
    longer.step(RuleInput(0, batch("s", 2, 120 * MINUTE_MS + 2)))
    assert values(longer, "x", 65 * MINUTE_MS)[1] == {"a": 3900, "b": 7800, "c": 11700}
    with pytest.raises(EvaluationError, match="held are those from 3600001"):
        values(longer, "x", 64 * MINUTE_MS)


def test_what_only_the_new_rules_read_is_held_from_the_reload_on(shard: Shard) -> None:
    other = Shard(groups(RULES.replace("z > 9", "w > 9")), snapshots=shard.snapshots())
    other.adopt(shard, shard.groups)
    other.step(RuleInput(0, batch("s", 2, 121 * MINUTE_MS, [("w", 121 * MINUTE_MS - 1, 1)])))
    with pytest.raises(EvaluationError, match="held are those from 7200001"):
        values(other, "w")
