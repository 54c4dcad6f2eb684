"""Spellings of PromQL that the parser lacks or misreads: each means the same as a plain one."""

from __future__ import annotations

import pytest

from engine.promql import compile as compile_promql


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"up{path=~`\d+`}", r'up{path=~"\\d+"}'),
        (r"up{c='\xe6\x97\xa5\x41\346\227\245'}", "up{c='日A日'}"),
        (r"up{c='a\\xe6'}", r"up{c=`a\xe6`}"),
        ("1_000 + 0x_FF + 0_1.5", "1000 + 255 + 01.5"),
        ("up offset 1_0", "up offset 10"),
        ("up[5m + 1m]", "up[6m]"),
        ("up[(1m + 1m) * 2 : 10 * 3]", "up[4m:30s]"),
        ("up[2m:]", "up[120:]"),
        ("up[1m:30s]", "up[60s:30]"),
        ("up[1h / 2 - 5 % 3 + 2 ^ 3] offset 1m", "up[1806s] offset 60s"),
        ("up[2ms * 1.5]", "up[3ms]"),
        ("up offset (1h / 2)", "up offset 30m"),
        ("up offset -(1h - 30m) + 1", "up offset -30m + 1"),
        ("holt_winters(up[5m], 0.5, 0.5)", "double_exponential_smoothing(up[5m], 0.5, 0.5)"),
        ("holt_winters", "{__name__='holt_winters'}"),
        ("{'my.metric', 'a b'='c'}", "{__name__='my.metric', 'a b'='c'}"),
        ("sum by ('a.b') (up) # a comment\n + 1", "sum by ('a.b') (up) + 1"),
        ("sum without (a:b) (up)", "sum without ('a:b') (up)"),
        ("a + on (x, b:c) group_left (d:e) b", "a + on (x, 'b:c') group_left ('d:e') b"),
        ("up{on='1', sum='2', offset='3'}", "{__name__='up', on='1', sum='2', offset='3'}"),
        (":up:rate[1m:30s]", "{__name__=':up:rate'}[1m:30s]"),
        ("-2 ^ 2", "-(2 ^ 2)"),
        ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
        ("1h30m", "5400"),
        ("017", "15"),
    ],
)
def test_text_means_the_same_as_the_plain_one(text: str, plain: str) -> None:
    one, other = compile_promql(text, any_type=True), compile_promql(plain, any_type=True)
    assert one.root == other.root


def test_a_time_before_1970_may_follow_at() -> None:
    expression = compile_promql("up @ -90.5 offset 1m")
    assert expression.root.shift.at == -90_500  # type: ignore[attr-defined]  # it is a selector
    assert expression.root.shift.offset_ms == 60_000  # type: ignore[attr-defined]  # it is a selector
