"""What is asked of a Prometheus, and what its answers mean."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors._prometheus_api import UP, ApiError, Ask, Collected, Piece, asks, pieces, read_series
from engine.core import labels
from engine.core.rules import RuleGroup, parse_rules
from engine.core.window import STALE_BITS
from engine.languages import LANGUAGES

RULES = """
groups:
  - name: g
    rules:
      - alert: A
        expr: sum(rate(errors_total{job=~"a|b", path!="/\\\\x"}[10m])) / sum(rate(errors_total[5m])) > 0.1
      - alert: B
        expr: errors_total > 5 and up == 0
"""


def groups(text: str = RULES) -> list[RuleGroup]:
    found, problems = parse_rules(text, "rules.yml", LANGUAGES["promql"])
    assert problems == []
    return found


def test_every_selector_is_asked_for_once_as_far_back_as_any_rule_looks():
    found = {ask.matchers: ask.reach_ms for ask in asks(groups())}
    minute = 60_000
    assert {matchers: reach_ms // minute for matchers, reach_ms in found.items()} == {
        '__name__="errors_total",job=~"a|b",path!="/\\\\x"': 10,
        '__name__="errors_total"': 5,
        '__name__="up"': 5,
    }
    assert [ask.reach_ms for ask in asks(groups())] == sorted(found.values(), reverse=True)


def test_the_scope_is_added_to_everything_asked():
    assert {ask.matchers for ask in asks(groups(), ['cluster="eu"'])} >= {'__name__="up",cluster="eu"'}


def test_the_queries_are_a_range_of_raw_samples_and_an_instant():
    ask = Ask('__name__="up"', 300_000)
    assert ask.samples(Piece(1_000, 16_500)) == '{__name__="up"}[15500ms]'
    assert ask.live() == '{__name__="up"}'


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_pieces_cover_the_span_without_gap_or_overlap(from_ms: int, span_ms: int, longest_ms: int):
    found = list(pieces(from_ms, from_ms + span_ms, max(longest_ms, span_ms // 50 + 1)))
    ends = [from_ms, *(piece.to_ms for piece in found)]
    assert [piece.from_ms for piece in found] == ends[:-1]
    assert ends[-1] == from_ms + span_ms


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> bytes:
    result = [{"metric": metric, "values": values} for metric, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


A, B = {"__name__": "a"}, {"__name__": "b"}


def test_samples_keep_their_times_and_what_the_last_piece_had_is_not_taken_again():
    collected = Collected(Piece(10_000, 20_000))
    collected.add(matrix((A, [(10, "0"), (10.001, "1"), (15.2, "NaN"), (20, "+Inf")])))
    collected.add(matrix((A, [(10.001, "1"), (15.2, "2")]), (B, [(12, "-1.5e3")])))
    found = collected.end({labels.encode(B)}, "main")
    names = [labels.decode(raw)["__name__"] for raw in found.series]
    assert list(zip(names, found.t_ms.tolist(), strict=True)) == [
        ("a", 10_001),
        ("a", 15_200),
        ("a", 20_000),
        ("b", 12_000),
        ("b", 20_000),
        (UP, 20_000),
    ]
    assert found.values[[0, 2, 3, 5]].tolist() == [1.0, float("inf"), -1_500.0, 1.0]
    assert found.values.view(np.uint64)[4] == STALE_BITS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "none of Prometheus's"),
        (b'{"status":"other"}', "none of Prometheus's"),
        (b'{"status":"error","errorType":"bad_data","error":"no such thing"}', "no such thing"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', "a matrix was asked for"),
    ],
)
def test_an_answer_without_samples_is_refused_with_its_reason(body: bytes, reason: str):
    with pytest.raises(ApiError, match=reason):
        read_series(body, "matrix")


def test_native_histograms_are_passed_over():
    result = b'[{"metric":{"__name__":"h"},"histograms":[[1,{}]]}]'
    body = b'{"status":"success","data":{"resultType":"matrix","result":' + result + b"}}"
    assert read_series(body, "matrix") == [(labels.encode({"__name__": "h"}), [])]
