"""A label's text in a query or a path stays a value, whatever it is."""

from __future__ import annotations

import pytest
import re2
from hypothesis import example, given
from hypothesis import strategies as st

from engine import logql, promql
from engine.core.expression import Expression
from engine.logql.log_query import compile_log_query
from engine.response.binding import Bound, is_log_query
from engine.response.conditions import RenderError, condition

EVIL = '"} or vector(1) #'
# What a label can hold: a message is UTF-8, and what enters is freed of NUL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


def bound(text: str, *names: str, style: str = "label") -> Bound:
    return Bound(text, {name: condition(f"labels.{name}") for name in names}, style)  # type: ignore[arg-type]  # a table's text


def matchers(expression: Expression) -> dict[str, tuple[str, str]]:
    (selector,) = expression.selectors
    return {one.name: (one.op, one.value) for one in selector.matches.matchers}


@given(TEXTS, TEXTS)
@example(EVIL, "`")
@example('\\"', "\\")
@example("a\nb", '"')
def test_in_promql_a_text_is_the_value_of_its_matcher_and_nothing_else(job: str, pod: str) -> None:
    query = bound("sum(rate(up{job=$job, pod!=$pod}[5m]))", "job", "pod").fill({"labels": {"job": job, "pod": pod}})
    found = matchers(promql.compile(query))
    assert found == {"__name__": ("=", "up"), "job": ("=", job), "pod": ("!=", pod)}


@given(TEXTS, TEXTS)
@example(EVIL, "`")
@example('\\"', "\\")
def test_in_logql_a_text_is_the_value_of_its_matcher_or_a_text_to_look_for(job: str, word: str) -> None:
    scope = {"labels": {"job": job, "word": word}}
    found = matchers(logql.compile(bound("rate({job=$job} |= $word [5m])", "job", "word").fill(scope)))
    assert found == {"job": ("=", job)}
    lines = compile_log_query(bound("{job=$job} |= $word", "job", "word").fill(scope))
    assert [(one.name, one.value) for one in lines.matches.matchers] == [("job", job)]
    assert len(lines.stages) == 1


@given(TEXTS.filter(lambda text: text not in (".", "..")))
@example("../../admin?x=1#y")
def test_in_a_path_a_text_is_one_segment(user: str) -> None:
    path = bound("/api/users/$user/state", "user", style="segment").fill({"labels": {"user": user}})
    assert re2.fullmatch(r"/api/users/[A-Za-z0-9_.~%-]+/state", path)
    assert path.count("/") == 4


@pytest.mark.parametrize("value", ["", 3, None, ["a"]])
@pytest.mark.parametrize("style", ["label", "segment"])
def test_a_value_that_is_no_text_or_an_empty_one_makes_no_query(value: object, style: str) -> None:
    with pytest.raises(RenderError, match=r"\$job"):
        bound("/{job=$job}", "job", style=style).fill({"labels": {"job": value}})


@pytest.mark.parametrize("value", [".", ".."])
def test_a_segment_never_goes_up(value: str) -> None:
    with pytest.raises(RenderError):
        bound("/a/$x", "x", style="segment").fill({"labels": {"x": value}})


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("up{job=$a}", {"a": True}),
        ("up{job != $a, x = $b}", {"a": True, "b": True}),
        ("up{job=\n  # one\n $a}", {"a": True}),
        ('{app=$a} |= "x" |= $b', {"a": True, "b": True}),
        ("up{job=~$a}", {"a": False}),
        ("up{job!~$a}", {"a": False}),
        ("{$a}", {"a": False}),
        ("{app=$a} |~ $b", {"a": True, "b": False}),
        ("{app=$a} != $b", {"a": True, "b": False}),
        ("{app=$a} | label_format x=$b", {"a": True, "b": False}),  # which would be a template
        ("{app=$a} | json x=$b", {"a": True, "b": False}),
        ("up == $a", {"a": False}),
        ("up[$a]", {"a": False}),
        ('up{job="$a"}', {}),
        ("{app=`$a`} |~ `x$`", {}),
        ("up # $a", {}),
    ],
)
def test_a_name_stands_only_where_nothing_but_a_value_can(query: str, places: dict[str, bool]) -> None:
    assert {one.name: one.is_value for one in bound(query).placeholders()} == places


def test_an_example_keeps_every_column() -> None:
    assert bound("up{job=$service, a=$ab}", "service", "ab").example() == 'up{job="xxxxxx", a="x"}'


@pytest.mark.parametrize(
    ("query", "is_lines"),
    [
        ('{a="b"}', True),
        (' # first\n ( {a="b"} |= "x" )', True),
        ('rate({a="b"}[1m])', False),
        ('(rate({a="b"}[1m]))', False),
        ("vector(1)", False),
        ("", False),
    ],
)
def test_a_log_query_begins_with_its_streams(query: str, is_lines: bool) -> None:
    assert is_log_query(query) is is_lines
