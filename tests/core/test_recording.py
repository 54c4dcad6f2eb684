"""Recording rules, ALERTS and ALERTS_FOR_STATE: seen by the rules that read them within the very same step."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import labels as label_sets
from engine.core.group import StepConfig
from engine.core.messages import MetricBatch, RuleInput, pack
from engine.core.recording import circles, in_order, together
from engine.core.router import by_shard
from engine.core.step import Shard, StepResult
from engine.core.window import is_stale
from engine.replay import Pipeline
from tests.core.builders import batch, groups

TICKS_ONLY = StepConfig(eager_per_s=0)


def recorded(results: list[StepResult]) -> list[tuple[str, int, float | str]]:
    """What was recorded as (series, time, value); a staleness marker is "stale"."""
    out: list[tuple[str, int, float | str]] = []
    for result in results:
        for one in result.recorded:
            for i, raw in enumerate(one.series):
                labels = label_sets.decode(raw)
                name = labels.pop("__name__")
                text = name + "{" + ",".join(f"{n}={v}" for n, v in labels.items()) + "}"
                value = one.numbers[i : i + 1]
                out.append((text, one.t_ms[i], "stale" if is_stale(value)[0] else float(value[0])))
    return out


def run(yaml: str, points: list, until_ms: int, config: StepConfig = TICKS_ONLY) -> list[StepResult]:
    """Feed one source's samples, each in a batch of its own, to all groups of a file."""
    shard = Shard(groups(yaml), config)
    steps = [shard.step(RuleInput(0, batch("s", i, point[1], [point]))) for i, point in enumerate(points, 1)]
    return [*steps, shard.step(RuleInput(0, batch("s", len(points) + 1, until_ms)))]


CHAIN = """
groups:
  - name: g
    interval: 10s
    rules:
      - {record: 'job:x:sum', expr: 'sum by (job) (x)', labels: {team: sre}}
      - {record: 'double', expr: 'job:x:sum * 2'}
      - {alert: High, expr: 'double > 10', for: 10s}
"""


def test_later_rules_see_at_once_what_earlier_ones_recorded():
    results = run(CHAIN, [("x{job=a,i=1}", 9_000, 4.0), ("x{job=a,i=2}", 9_500, 5.0)], 20_001)
    assert recorded(results)[:2] == [
        ("job:x:sum{job=a,team=sre}", 10_000, 9.0),
        ("double{job=a,team=sre}", 10_000, 18.0),
    ]
    assert [(t.state, t.at_ms) for r in results for t in r.transitions] == [("pending", 10_000), ("firing", 20_000)]


def test_a_rule_before_the_one_it_reads_sees_the_time_before():
    yaml = """
groups:
  - name: g
    interval: 10s
    rules:
      - {record: later, expr: made + 0}
      - {record: made, expr: x}
"""
    points = [("x", 0, 1.0), ("x", 10_000, 2.0), ("x", 20_000, 3.0)]
    assert [row for row in recorded(run(yaml, points, 20_001)) if row[0] == "later{}"] == [
        ("later{}", 10_000, 1.0),
        ("later{}", 20_000, 2.0),
    ]


def test_a_recorded_series_whose_input_goes_is_marked_stale_once():
    yaml = "groups: [{name: g, interval: 10s, rules: [{record: high, expr: x > 5}]}]"
    points = [("x", 0, 9.0), ("x", 10_000, 1.0), ("x", 20_000, 1.0)]
    assert recorded(run(yaml, points, 20_001)) == [("high{}", 0, 9.0), ("high{}", 10_000, "stale")]


def test_alerts_and_their_for_state_are_series():
    yaml = "groups: [{name: g, interval: 10s, rules: [{alert: A, expr: x > 5, for: 10s, labels: {severity: page}}]}]"
    points = [("x{i=1}", 20_000, 9.0), ("x{i=1}", 30_000, 9.0), ("x{i=1}", 40_000, 1.0)]
    alert = "alertname=A,{}i=1,severity=page"
    pending, firing = (f"ALERTS{{{alert.format(f'alertstate={state},')}}}" for state in ("pending", "firing"))
    for_state = f"ALERTS_FOR_STATE{{{alert.format('')}}}"
    assert recorded(run(yaml, points, 40_001)) == [
        (pending, 20_000, 1.0),
        (for_state, 20_000, 20.0),
        (firing, 30_000, 1.0),
        (for_state, 30_000, 20.0),
        (pending, 30_000, "stale"),
        (firing, 40_000, "stale"),
        (for_state, 40_000, "stale"),
    ]


def test_an_alert_on_alerts_clears_when_they_clear_and_is_no_data_when_their_data_is_gone():
    yaml = """
groups:
  - name: g
    interval: 10s
    rules:
      - {alert: A, expr: x > 5}
      - {alert: Any, expr: 'count(ALERTS{alertname="A", alertstate="firing"}) > 0'}
"""
    points = [("x", 0, 9.0), ("x", 10_000, 1.0)]
    cleared = [t for r in run(yaml, points, 10_001) for t in r.transitions if t.alertname == "Any"]
    assert [(t.state, t.at_ms, t.cause) for t in cleared] == [
        ("firing", 0, "condition"),
        ("resolved", 10_000, "cleared"),
    ]
    lost = [t for r in run(yaml, points[:1], 400_000) for t in r.transitions if t.alertname == "Any"]
    assert [(t.state, t.cause) for t in lost] == [("firing", "condition"), ("resolved", "no_data")]


def test_query_offset_looks_back_and_records_at_the_time_it_looked_at():
    yaml = """
groups:
  - name: g
    interval: 10s
    query_offset: 20s
    rules:
      - {record: y, expr: x}
      - {alert: A, expr: x > 5}
"""
    results = run(yaml, [("x", 0, 9.0), ("x", 10_000, 1.0)], 30_001)
    assert [row for row in recorded(results) if row[0] == "y{}"] == [("y{}", 0, 9.0), ("y{}", 10_000, 1.0)]
    assert [(t.state, t.at_ms) for r in results for t in r.transitions] == [("firing", 20_000), ("resolved", 30_000)]


def test_with_query_offset_an_event_is_judged_that_much_later():
    yaml = "groups: [{name: g, interval: 10s, query_offset: 2s, rules: [{alert: A, expr: x > 5}]}]"
    results = run(yaml, [("x", 1_000, 0.0), ("x", 3_217, 9.0)], 5_218, StepConfig())
    assert [(t.state, t.at_ms) for r in results for t in r.transitions] == [("firing", 5_217)]


def test_results_that_would_be_one_series_are_refused_and_nothing_is_recorded():
    yaml = "groups: [{name: g, interval: 10s, rules: [{record: y, expr: x, labels: {i: all}}]}]"
    results = run(yaml, [("x{i=1}", 0, 1.0), ("x{i=2}", 0, 1.0)], 1)
    assert "same labelset after applying rule labels" in results[-1].failures[0].reason
    assert recorded(results) == []


def test_the_limit_counts_recorded_series():
    yaml = "groups: [{name: g, interval: 10s, limit: 1, rules: [{record: y, expr: x}]}]"
    results = run(yaml, [("x{i=1}", 0, 1.0), ("x{i=2}", 0, 1.0)], 1)
    assert results[-1].failures[0].reason == "2 series exceed the group's limit of 1"


TWO_GROUPS = """
groups:
  - name: readers
    interval: 15s
    rules:
      - {alert: High, expr: 'avg_over_time(job:x:sum[30s]) > 5', for: 5s}
  - name: makers
    interval: 10s
    rules:
      - {record: 'job:x:sum', expr: 'sum by (job) (count_over_time(x[20s]))'}
"""


def test_groups_that_read_each_others_records_share_a_shard_and_wait():
    rules = groups(TWO_GROUPS)
    assert len(set(together(rules).values())) == 1
    assert [(group.name, len(waits)) for group, waits in in_order(rules)] == [("makers", 0), ("readers", 1)]
    assert [len(owned) for owned in by_shard(rules, 64).values()] == [2]


def test_groups_that_read_each_other_in_a_circle_are_named():
    rules = groups(
        """
groups:
  - {name: a, rules: [{record: x1, expr: y1}]}
  - {name: b, rules: [{record: y1, expr: x1}]}
  - {name: c, rules: [{record: z1, expr: z1 + 1}]}
"""
    )
    assert [(group.name, others) for group, others in circles(rules)] == [("a", ("rules.yml;b",))]


@pytest.mark.parametrize(
    ("expr", "connected"),
    [("made", True), ('made{team="sre"}', True), ('made{team="ops"}', False), ('{job="a"}', True), ("other", False)],
)
def test_who_may_read_a_record_is_told_by_name_and_certain_labels(expr, connected):
    rules = groups(
        f"groups: [{{name: a, rules: [{{record: made, expr: x, labels: {{team: sre}}}}]}}, "
        f"{{name: b, rules: [{{record: r, expr: '{expr}'}}]}}]"
    )
    assert (len(set(together(rules).values())) == 1) == connected


def inputs(seed: int) -> list[RuleInput]:
    rng = random.Random(seed)
    times = sorted(rng.sample(range(1, 200_000), 120))
    cuts = sorted(rng.sample(range(1, len(times)), 20))
    pieces = [times[a:b] for a, b in zip([0, *cuts], [*cuts, len(times)], strict=True)]
    made = [batch("s", i, piece[-1], [("x{job=a}", t, 1.0) for t in piece]) for i, piece in enumerate(pieces, 1)]
    return [RuleInput(0, one) for one in [*made, batch("s", len(made) + 1, 260_000)]]


def said(results: list[StepResult]) -> tuple[list[str], list]:
    return [t.id for r in results for t in r.transitions], recorded(results)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 18))
def test_after_a_restart_records_are_made_anew_and_nothing_differs(seed, cut):
    messages = inputs(seed)
    whole = Shard(groups(TWO_GROUPS), TICKS_ONLY)
    undisturbed = said([whole.step(message) for message in messages])

    first = Shard(groups(TWO_GROUPS), TICKS_ONLY)
    before = [first.step(message) for message in messages[:cut]]
    horizon_ms = first.horizon_ms
    kept = [m for m in messages if max(m.batch.t_ms, default=2**60) >= horizon_ms]
    second = Shard(groups(TWO_GROUPS), TICKS_ONLY, first.snapshots())
    assert said(before + [second.step(message) for message in kept]) == undisturbed


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), shards=st.integers(1, 7))
def test_batching_and_sharding_do_not_change_what_is_recorded(seed, shards):
    rules = groups(TWO_GROUPS + CHAIN.split("groups:")[1])
    pieces = [message.batch for message in inputs(seed)]
    series = [raw for piece in pieces for raw in piece.series]
    times = [t for piece in pieces for t in piece.t_ms]
    at_once = MetricBatch("s", 1, 1, 260_000, 0, series, times, pack([1.0] * len(times)))
    outcomes = []
    for batches, count in ((pieces, 1), ([at_once], shards)):
        pipeline = Pipeline(rules, count, StepConfig())
        pipeline.feed(batch("s", 0, 0))  # time begins at 0 for both
        transitions, records = said([pipeline.feed(one) for one in batches])
        outcomes.append((sorted(transitions), sorted(records, key=str)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]
