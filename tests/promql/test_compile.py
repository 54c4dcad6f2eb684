"""What a PromQL expression reads, and what is refused at load, with its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.expression import ExpressionError
from engine.promql import compile as compile_promql
from engine.promql.compile import UNBOUNDED_MS

MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("text", "key", "reach_ms", "range_ms"),
    [
        ("up", 'metrics{__name__="up"}', 5 * MINUTE_MS, 0),
        ('{__name__=~"a|b"}', 'metrics{__name__=~"a|b"}', 5 * MINUTE_MS, 0),
        ('up{b="1",a!="2"}', 'metrics{__name__="up",a!="2",b="1"}', 5 * MINUTE_MS, 0),
        ("up offset 1h", 'metrics{__name__="up"}', 65 * MINUTE_MS, 60 * MINUTE_MS),
        ("up offset -1h", 'metrics{__name__="up"}', 0, 0),
        ("rate(up[1500ms])", 'metrics{__name__="up"}', 1_500, 1_500),
        ("rate(up[10m] offset 1m)", 'metrics{__name__="up"}', 11 * MINUTE_MS, 11 * MINUTE_MS),
        ("max_over_time(rate(up[5m])[1h:1m])", 'metrics{__name__="up"}', 65 * MINUTE_MS, 65 * MINUTE_MS),
        ("max_over_time(up[1h:1m] offset 1m)", 'metrics{__name__="up"}', 66 * MINUTE_MS, 61 * MINUTE_MS),
        ("up @ 100", 'metrics{__name__="up"}', UNBOUNDED_MS, 0),
    ],
)
def test_selector_says_what_and_how_far_back_it_reads(text: str, key: str, reach_ms: int, range_ms: int) -> None:
    (selector,) = compile_promql(text).selectors
    assert (selector.key, selector.reach_ms, selector.range_ms) == (key, reach_ms, range_ms)


def test_ranges_of_one_selector_share_a_window_that_reaches_as_far_as_the_longest() -> None:
    (selector,) = compile_promql('rate(a{x="1"}[5m]) / rate(a{x="1"}[1h])').selectors
    assert selector.reach_ms == 60 * MINUTE_MS


def test_raw_strings_hold_backslashes() -> None:
    (selector,) = compile_promql(r"up{path=~`\d+`}").selectors
    assert selector.matches({"__name__": "up", "path": "42"})


@pytest.mark.parametrize(
    ("text", "part", "place"),
    [
        ("", "no expression", (1, 1)),
        ("sum(up", "unclosed left parenthesis", (1, 4)),
        ("up)", "unexpected right parenthesis", (1, 3)),
        ("up\n  + rat(up[5m])", "unknown function with name 'rat'", (2, 5)),
        ("1 + rate(up)", "expected type matrix", (1, 5)),
        ("up $ 1", "unexpected character", (1, 4)),
        ("up[5x]", "bad number or duration", (1, 4)),
        ("sum by (job, '') (up)", "a label to group by has no name", (1, 14)),
        ("rate(+up[5m])", "unary expression only allowed on", (1, 1)),
        ("label_join(up, +'a', '-', 'b')", "unary expression only allowed on", (1, 1)),
        ("up up", "invalid promql query", (1, 4)),
        ("up + * 2", "invalid promql query", (1, 6)),
        ("up +", "invalid promql query", (1, 5)),
        ('up{a=~"("}', "illegal regex", (1, 7)),
        ('up{a=~"(?=b)"}', "regex", (1, 7)),
        ('up{a="1" or b="2"}', "`or` between matchers is not PromQL", (1, 10)),
        ("histogram_count(up)", "function histogram_count(), which reads native histograms, is not supported", (1, 1)),
        ("up[step()]", "step() in a duration is not supported", (1, 4)),
        ("up offset -step()", "step() in a duration is not supported", (1, 12)),
        ("up offset 5m anchored", "the modifier anchored is not supported", (1, 14)),
        ("up @ end() smoothed", "the modifier smoothed is not supported", (1, 12)),
        ("up[1m - 2m]", "duration must be greater than 0", (1, 4)),
        ("up[1m / 0]", "the duration is out of range", (1, 4)),
        ("up[1m:1m + up]", "up() in a duration is not supported", (1, 12)),
        ("1e400", "the number is out of range", (1, 1)),
        ("up </ 5", "operator </ is not supported", (1, 4)),
        ('{"up", __name__="down"}', "metric name must not be set twice", (1, 17)),
        ('{job=~".*"}', "must contain at least one non-empty matcher", (1, 1)),
        ("info(up, down)", "the second argument of info() is a label selector without a name", (1, 1)),
        (r'label_replace(up, "\xff", "", "a", "b")', "the string is not UTF-8", (1, 19)),
        ("sum(rate(up[5m]) by (job)", "unclosed left parenthesis", (1, 4)),
        ('label_replace(up, "a", "b", "c", "(")', "bad regular expression", (1, 34)),
        ("up offset NaN", "the number after offset is out of range", (1, 4)),
        ("up @ 1e18", "the number after @ is out of range", (1, 4)),
        ("up[5m]", "a rule must be a vector or a scalar, this is a range vector", (1, 1)),
        ('"text"', "a rule must be a vector or a scalar, this is a string", (1, 1)),
        ("rate(up[5m] smoothed)", "the modifier smoothed is not supported", (1, 13)),
    ],
)
def test_refusal_names_what_and_where(text: str, part: str, place: tuple[int, int]) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_promql(text)
    assert part in caught.value.message
    assert (caught.value.line, caught.value.column) == place


def test_or_as_an_operator_is_not_taken_for_one_between_matchers() -> None:
    assert len(compile_promql('up{a="1"} or up{b="2"}').selectors) == 2


words = st.sampled_from(
    ["sum", "rate", "(", ")", "[5m]", "[5m:1m]", 'up{a="b"}', "{", "}", '"x"', "by", "(a)", "on", "ignoring", "+", "`",
     "group_left", "-", "*", "==", "bool", "and", "or", "offset", "5m", "-5m", "@", "1", "start()", "=~", "topk", "#",
     "absent", "histogram_quantile", "0.9", ",", "time()", "1e400", "NaN", "Inf", "0s", "$", "\\", "é", "[1y]", "1e18"]
)  # fmt: skip


def place_of_refusal(text: str) -> tuple[int, int] | None:
    try:
        compile_promql(text)
    except ExpressionError as error:
        return error.line, error.column
    return None


@settings(max_examples=500)
@given(st.lists(words, max_size=9), st.sampled_from([" ", "\n", ""]))
def test_any_text_is_compiled_or_refused_with_a_place_inside_it(parts: list[str], between: str) -> None:
    text = between.join(parts)
    place = place_of_refusal(text)
    if place is not None:
        lines = text.split("\n")
        assert 1 <= place[0] <= len(lines)
        assert 1 <= place[1] <= len(lines[place[0] - 1]) + 1
