"""Samples handed to the step as columns lead to the same as the same samples in a batch's lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.diagnostics import load_yaml
from engine.core.intake import Columns
from engine.core.messages import MetricBatch, RuleInput
from engine.core.step import Shard
from tests.core.builders import batch, groups, label_bytes

RULES = """
groups:
  - name: g
    interval: 10s
    rules:
      - {alert: High, expr: 'sum by (i) (x) > 2'}
      - {alert: Both, expr: 'y and on (i) x'}
  - name: h
    interval: 10s
    rules: [{record: total, expr: sum(x)}]
"""
SERIES = ("x{i=1}", "x{i=2}", "y{i=1}", "other{i=1}")

points = st.lists(st.tuples(st.sampled_from(SERIES), st.integers(0, 60).map(lambda s: s * 1000), st.integers(0, 5)))


@given(first=points, second=points)
def test_columns_and_lists_are_the_same(first: list, second: list) -> None:
    keys = [label_bytes(series) for series in SERIES]
    by_lists, by_columns = Shard(groups(RULES)), Shard(groups(RULES))
    for number, samples in enumerate((first, second), 1):
        told = by_lists.step(RuleInput(0, batch("s", number, number * 40_000, samples)))
        columns = Columns(
            keys,
            np.array([SERIES.index(series) for series, _, _ in samples], np.intp),
            np.array([t_ms for _, t_ms, _ in samples], np.int64),
            np.array([value for _, _, value in samples], np.float64),
        )
        head = MetricBatch("s", 1, number, number * 40_000, number * 40_000)
        assert by_columns.step(RuleInput(0, head), columns) == told


def test_groups_are_worked_through_in_the_given_order_if_that_is_asked_for() -> None:
    rules = groups(
        "groups: [{name: reads, interval: 10s, rules: [{record: r, expr: made}]}, "
        "{name: makes, interval: 10s, rules: [{record: made, expr: x}]}]"
    )
    samples = [("x", 0, 1.0), ("x", 10_000, 2.0)]
    for given_order, expected in ((False, [1.0, 2.0]), (True, [1.0])):
        shard = Shard(rules, given_order=given_order)
        shard.step(RuleInput(0, batch("s", 0, 0)))
        results = [
            shard.step(RuleInput(0, batch("s", number, sample[1] + 1, [sample])))
            for number, sample in enumerate(samples, 1)
        ]
        recorded = [one for result in results for one in result.recorded if one.source.endswith("reads")]
        assert [value for one in recorded for value in one.numbers] == expected


@pytest.mark.parametrize("written", ["yes", "010", "1.0", "1e3", "2020-01-01", "plain", "'quoted'"])
def test_a_scalar_is_known_as_it_was_written(written: str) -> None:
    [document], problems = load_yaml(f"a: [{{b: {written}, c: }}]", "f.yml")
    assert not problems
    assert document.text(("a", 0, "b")) == written.strip("'")
    assert document.text(("a", 0, "c")) is document.text(("a",)) is document.text(("z",)) is None
