"""Lines meant to stall an engine cost no more than their length."""

from __future__ import annotations

import time

import pytest

from tests.logql.lines import labels_of

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("pipeline", "line"),
    [
        ('|= ip("10.0.0.0/8")', "a" * MILLION),
        ('|= ip("10.0.0.0/8")', "1." * (MILLION // 8)),
        ('|~ "(a+)+$"', "a" * MILLION + "b"),
        ("| decolorize", "\x1b" + ";" * MILLION),
        ("| decolorize", "\x1b[" * MILLION),
        ("| logfmt", "a" * MILLION + '"'),
        ("| logfmt", 'a="' + "\\" * MILLION),
        ("| logfmt", '="' * MILLION),
        ("| logfmt | a > 5", "a=" + "1" * MILLION + "x"),
        ("| logfmt | a > 5s", "a=" + "1" * MILLION + "x"),
        ("| logfmt | a > 5KB", "a=" + "1" * MILLION + "x"),
        ("| json", '{"a":' * 100_000),
        ("| json", '{"a":"' + "\\\\" * MILLION),
        ("| pattern `<a> <b>,<c>`", " " * MILLION),
        ("|> `<_>a<_>b<_>c`", "ab" * MILLION),
        ("| regexp `(?P<x>(a|a)*)b`", "a" * MILLION),
    ],
)
def test_a_hostile_line_takes_linear_time(pipeline: str, line: str) -> None:
    started = time.process_time()
    labels_of(pipeline, line)
    assert time.process_time() - started < 3
