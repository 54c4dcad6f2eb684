"""Lines meant to stall an engine cost no more than their length."""

from __future__ import annotations

import time

import numpy as np
import pytest
from msgspec import Raw

from engine import logql
from engine.core.messages import LogBatch, LogEntry, LogStream, RuleInput
from engine.core.rules import parse_rules
from engine.core.step import Shard, StepResult
from engine.logql.window import LogWindow
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


RULES = """
groups:
  - name: g
    interval: 10s
    rules:
      - alert: Many
        expr: sum by (user) (count_over_time({app="a"} | json [60s])) > 2
      - alert: Slow
        expr: sum(count_over_time({app="a"} |~ "(x+x+)+y" [60s])) > 0
"""
NOW = 1_700_000_000_000


def stepped(lines: list[str], *, step_ms: int = 0) -> tuple[StepResult, float]:
    """What a batch of lines leads to, evaluated, and the CPU seconds it took."""
    groups, problems = parse_rules(RULES, "rules.yml", logql.compile)
    assert not problems
    entries = [LogEntry((NOW + row * step_ms) * 1_000_000, line) for row, line in enumerate(lines)]
    end_ms = NOW + len(lines) * step_ms + 10_000
    batch = LogBatch("s", 1, 1, end_ms, NOW, [LogStream(Raw(b'{"app":"a"}'), entries)])
    shard = Shard(groups)
    started = time.process_time()
    return shard.step(RuleInput(0, batch)), time.process_time() - started


FIVE_MB = 5_000_000


@pytest.mark.parametrize(
    "line",
    [
        '{"user":"' + "u" * FIVE_MB + '"}',
        "x" * FIVE_MB,
        '{"user":' + "[" * FIVE_MB,
        '{"user":' + '{"a":' * (FIVE_MB // 5),
        '{"a":1,' * (FIVE_MB // 7),
        '{"user":"u"' + ',"user":"v"' * (FIVE_MB // 11) + "}",
        '{"user":"' + '\\"' * (FIVE_MB // 2) + "}",
        '{"\\u0075ser":"' + "\\\\" * (FIVE_MB // 2) + '"}',
        "\ufffd" * (FIVE_MB // 3),
    ],
    ids=["value", "plain", "arrays", "objects", "keys", "repeated", "quotes", "escapes", "no utf-8"],
)
def test_a_line_of_five_megabytes_goes_through_a_rule_in_bounded_time(line: str) -> None:
    result, spent_s = stepped([line, *['{"user":"u"}'] * 3])
    assert spent_s < 5
    assert not result.failures
    fired = [one for one in result.transitions if one.alertname == "Many" and one.state == "firing"]
    assert "u" in [one.labels["user"] for one in fired]
    assert all(len(shown.line) < 5000 for one in fired for shown in one.evidence)


def test_a_hundred_thousand_label_values_in_a_minute_are_counted_and_evaluated_in_bounded_time() -> None:
    lines = [f'{{"user":"u{number}"}}' for number in range(100_000)]
    result, spent_s = stepped([*lines, *lines[:50] * 2])
    assert spent_s < 10
    assert result.dropped == {}
    assert len([one for one in result.transitions if one.state == "firing"]) == 50


def test_a_window_full_of_series_keeps_new_ones_out_and_says_how_many_until_old_ones_are_forgotten() -> None:
    window = LogWindow(most_series=1_000)

    def log(number: int, at_ms: int) -> int:
        key = f'{{"user":"{number}"}}'.encode()
        return window.append_lines([key], np.array([at_ms * 1_000_000]), np.ones(1), ["line"], {})

    assert sum(log(number, at_ms=1) for number in range(1_500)) == 500
    assert log(7, at_ms=2) == 0
    assert len(window.slice(0, 10).ids) == 1_001
    window.evict(60_000)
    for number in range(5_000, 7_000):  # forgetting is done when the columns are repacked
        log(number, at_ms=60_001)
        window.evict(60_000)
    assert log(9_999, at_ms=60_002) in (0, 1)
    assert len(window.series) <= 1_000
