"""The reader and runner of scripts themselves: every form is read, and what is wrong fails, with its line."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from engine.core.expression import Vector, Window
from engine.core.labels import encode
from engine.core.window import STALE
from engine.promql import compile as compile_promql
from tests.conformance import promqltest as script
from tests.conformance import streaming
from tests.conformance.promql import run_script

LOAD = """load 10s
  m{i="1"} 1 2 3 4
  m{i="2"} 10+10x3
  h {{count:1 sum:2}}+{{count:1 sum: 2}}x3
  a_total@st -5s
  a_total 1 2 3
"""


def run(text: str) -> tuple[str, list[str]]:
    """Passed, failed and skipped evals of a script after `LOAD`, and the lines of the failures."""
    failures: list[str] = []
    tally = run_script("script", f"{LOAD}\n{text}", Counter(), failures)
    lines = [failure.split(":")[1] for failure in failures]
    return f"{tally['passed']} passed, {tally['failed']} failed, {tally['skipped']} skipped", lines


@pytest.mark.parametrize(
    ("word", "points"),
    [
        ("5", [5.0]),
        ("-1.5e2", [-150.0]),
        ("1+2x3", [1.0, 3.0, 5.0, 7.0]),
        ("1-2x3", [1.0, -1.0, -3.0, -5.0]),
        ("-2+4x1", [-2.0, 2.0]),
        ("4x3", [4.0] * 4),
        ("_", [None]),
        ("_x3", [None] * 3),
        ("+Inf", [float("inf")]),
        ("{{schema:0 count:1}}", [script.HISTOGRAM]),
        ("{{sum:1}}x2", [script.HISTOGRAM] * 3),
        ("{{sum:1}}+{{sum:2}}x2", [script.HISTOGRAM] * 3),
    ],
)
def test_points(word: str, points: list[script.Point]) -> None:
    assert script.expand(word) == points


def test_a_staleness_marker_is_a_point_of_its_own() -> None:
    (point,) = script.expand("stale")
    assert np.array([point]).view(np.uint64)[0] == np.array([STALE]).view(np.uint64)[0]


@pytest.mark.parametrize("word", ["five", "1+x3", "_y2", "{{sum:1", "1x-2"])
def test_what_is_no_point_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        script.expand(word)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("up 1", {"__name__": "up"}),
        ("{} 1", {}),
        ('up{a="b", c=""} 1', {"__name__": "up", "a": "b"}),
        ("up{a='x{y}', b=`\\z`,} 1", {"__name__": "up", "a": "x{y}", "b": "\\z"}),
        ('{"my.metric", "a b"="c"} 1', {"__name__": "my.metric", "a b": "c"}),
        ('{__name__="up"} 1', {"__name__": "up"}),
    ],
)
def test_series(text: str, labels: dict[str, str]) -> None:
    assert script.parse_series(text).labels == labels


@pytest.mark.parametrize(
    ("text", "result"),
    [
        # what is right passes
        ('eval instant at 10s m\n  m{i="1"} 2\n  m{i="2"} 20', "1 passed, 0 failed, 0 skipped"),
        ("eval instant at 10s sum(m)\n  {} 22", "1 passed, 0 failed, 0 skipped"),
        ('eval instant at 10s m{i="1"}\nm{i="1"} 2', "1 passed, 0 failed, 0 skipped"),
        ("eval instant at 10s 1 + 1\n  2\neval instant at 10s nothing", "2 passed, 0 failed, 0 skipped"),
        ('eval instant at 10s "a"\n  expect string "a"', "1 passed, 0 failed, 0 skipped"),
        ("eval range from 0 to 30s step 10s count(m)\n  {} 2 2 2 2", "1 passed, 0 failed, 0 skipped"),
        ("eval range from 0 to 50s step 20s m{i='1'} > 1\n  m{i='1'} _ 3 4", "1 passed, 0 failed, 0 skipped"),
        (
            "eval instant at 20s m{i='1'}[15s]\n  expect range vector from 10s to 20s step 10s\n  m{i='1'} 2 3",
            "1 passed, 0 failed, 0 skipped",
        ),
        ("eval_ordered instant at 10s sort(m)\n  m{i='1'} 2\n  m{i='2'} 20", "1 passed, 0 failed, 0 skipped"),
        ("eval instant at 10s sum(m) + on () m\n  expect fail", "1 passed, 0 failed, 0 skipped"),
        (
            "eval_fail instant at 0 label_join(m, '', '-', 'i')\n"
            "  expected_fail_message invalid destination label name in label_join():",
            "1 passed, 0 failed, 0 skipped",
        ),
        ("eval_fail instant at 0 topk(NaN, m)\n  expected_fail_regexp .*is NaN", "1 passed, 0 failed, 0 skipped"),
        ("eval_warn instant at 10s quantile(2, m)\n  {} Inf", "1 passed, 0 failed, 0 skipped"),
        (
            "eval instant at 10s quantile(2, m)\n  expect warn msg:PromQL warning: quantile value should be between 0 "
            "and 1, got 2 (1:1)\n  expect no_info\n  {} Inf",
            "1 passed, 0 failed, 0 skipped",
        ),
        ("eval_info instant at 20s rate(m{i='1'}[20s])\n  {i='1'} 0.1", "1 passed, 0 failed, 0 skipped"),
        # what cannot be judged is skipped
        ("eval instant at 10s h\n  h {{count:1}}", "0 passed, 0 failed, 1 skipped"),
        ("eval instant at 10s sum(h)", "0 passed, 0 failed, 1 skipped"),
        ("eval instant at 10s histogram_count(m)", "0 passed, 0 failed, 1 skipped"),
        ("eval instant at 10s rate(m[10s] smoothed)", "0 passed, 0 failed, 1 skipped"),
        ("eval instant at 10s a_total", "0 passed, 0 failed, 1 skipped"),
        # a script may clear, and comment
        ("clear\neval instant at 10s m", "1 passed, 0 failed, 0 skipped"),
        (
            "# eval instant at 10s m\n\nclear\n\nload 1m\n m 7\n\neval instant at 0 m\n m 7",
            "1 passed, 0 failed, 0 skipped",
        ),
    ],
)
def test_right_expectations_pass(text: str, result: str) -> None:
    assert run(text) == (result, [])


@pytest.mark.parametrize(
    "text",
    [
        'eval instant at 10s m\n  m{i="1"} 2',
        'eval instant at 10s m{i="1"}\n  m{i="1"} 3',
        'eval instant at 10s m{i="1"}\n  m{i="2"} 2',
        'eval instant at 10s m{i="3"}\n  m{i="3"} 2',
        "eval instant at 10s 1 + 1\n  3",
        "eval instant at 10s sum(m)\n  22",
        'eval instant at 10s "a"\n  expect string "b"',
        "eval range from 0 to 30s step 10s count(m)\n  {} 2 2 _ 2",
        "eval instant at 20s m{i='1'}[15s]\n  expect range vector from 10s to 20s step 10s\n  m{i='1'} 2 4",
        "eval instant at 10s sort_desc(m)\n  expect ordered\n  m{i='1'} 2\n  m{i='2'} 20",
        "eval instant at 10s m\n  expect fail",
        "eval instant at 10s sum(m) + on () m\n  {} 1",
        "eval instant at 10s sum(m) + on () m\n  expect fail msg:something else",
        "eval instant at 10s sum(m) + on () m\n  expect fail regex:^else",
        "eval instant at 10s quantile(2, m)\n  expect no_warn\n  {} Inf",
        "eval instant at 10s quantile(0.5, m)\n  expect warn\n  {} 11",
        "eval instant at 10s quantile(2, m)\n  expect warn msg:something else\n  {} Inf",
        "eval instant at 10s m m",
        # not understood: a new kind of expectation, point, command
        "eval instant at 10s m\n  expect something new\n  m 1",
        "eval instant at 10s m\n  m one",
        "eval sometimes m",
        "load of something\n  m 1",
        "evaluate",
    ],
)
def test_wrong_or_unknown_expectations_fail_with_their_line(text: str) -> None:
    first = LOAD.count("\n") + 2
    assert run(text) == ("0 passed, 1 failed, 0 skipped", [str(first)])


class Clairvoyant(streaming.Recorded):
    """An expression that counts whatever the window holds, whenever it is asked."""

    def evaluate(self, windows: dict[str, Window], at_ms: int) -> Vector:  # type: ignore[override]  # a dict will do
        held = sum(len(window) for window in windows.values())
        return Vector([{}], np.array([float(held)]))


def test_streaming_shows_what_depends_on_the_batches() -> None:
    samples = [(i * 1000, encode({"__name__": "m"}), float(i)) for i in range(60)]
    times = range(10_000, 50_001, 10_000)
    honest = compile_promql("sum_over_time(m[5s])")
    dishonest = Clairvoyant(honest, times)
    by_expression = [
        [streaming.stream(expression, streaming.batches(samples, size), times) for size in (1, 7, 100)]
        for expression in (honest, dishonest)
    ]
    assert by_expression[0][0] == by_expression[0][1] == by_expression[0][2]
    assert set(by_expression[0][0]) == set(times)
    assert by_expression[1][0] != by_expression[1][2]
