"""A rule group in event time: ticks, eager evaluation, watermarks, alert states, missing data."""

from __future__ import annotations

import pytest

from engine.core.group import StepConfig
from engine.core.messages import RuleInput
from engine.core.step import Shard
from engine.core.window import STALE
from tests.core.builders import batch, groups, one_rule

TICKS_ONLY = StepConfig(eager_per_s=0)


def run(rules, points, *, config=TICKS_ONLY, until_ms=0):
    """Feed one source's samples one batch each, in order; the transitions as (state, at_ms, cause)."""
    shard = Shard(rules, config)
    out = []
    for seq, point in enumerate(points, start=1):
        out += shard.step(RuleInput(0, batch("s", seq, point[1], [point]))).transitions
    out += shard.step(RuleInput(0, batch("s", len(points) + 1, until_ms))).transitions
    return [(t.state, t.at_ms, t.cause) for t in out]


def line(text: str, step_ms: int = 10_000, series: str = "x") -> list:
    """ASCII timeline of one series, a value every ten seconds: "0 0 5" ("." is no sample)."""
    return [(series, i * step_ms, float(v)) for i, v in enumerate(text.split(" ")) if v != "."]


#                      samples every 10 s           for   keep   expected transitions
TIMELINES = {
    "fires at once": ("0 9 9", "0s", "0s", [("firing", 10_000, "condition")]),
    "waits for `for`": ("0 9 9 9", "20s", "0s", [("pending", 10_000, "condition"), ("firing", 30_000, "condition")]),
    "pending that ends never fires": (
        "0 9 0 0",
        "20s",
        "0s",
        [("pending", 10_000, "condition"), ("inactive", 20_000, "cleared")],
    ),
    "resolves when the condition ends": (
        "9 0 0",
        "0s",
        "0s",
        [("firing", 0, "condition"), ("resolved", 10_000, "cleared")],
    ),
    "keeps firing over a gap": (
        "9 0 9 0 0 0",
        "0s",
        "20s",
        [("firing", 0, "condition"), ("resolved", 50_000, "cleared")],
    ),
    "fires again after it resolved": (
        "9 0 9",
        "0s",
        "0s",
        [("firing", 0, "condition"), ("resolved", 10_000, "cleared"), ("firing", 20_000, "condition")],
    ),
}


@pytest.mark.parametrize(("samples", "hold", "keep", "expected"), TIMELINES.values(), ids=TIMELINES.keys())
def test_alert_states(samples, hold, keep, expected):
    points = line(samples)
    rules = one_rule("x > 5", for_=hold, keep_firing_for=keep)
    assert run(rules, points, until_ms=points[-1][1] + 1) == expected


def test_a_tick_is_evaluated_when_the_watermark_has_passed_it_not_before():
    rules = one_rule("x > 5")
    assert run(rules, [("x", 9_000, 9.0)], until_ms=10_000) == []
    assert run(rules, [("x", 9_000, 9.0)], until_ms=10_001) == [("firing", 10_000, "condition")]


def test_eager_evaluation_fires_at_the_event_not_at_the_tick():
    rules = one_rule("x > 5")
    got = run(rules, [("x", 1_234, 0.0), ("x", 3_217, 9.0)], config=StepConfig(), until_ms=3_218)
    assert got == [("firing", 3_217, "condition")]


def test_a_vanished_series_resolves_as_no_data_never_as_cleared():
    rules = one_rule("x > 5")
    got = run(rules, [("x", 0, 9.0)], until_ms=301_000)
    assert got == [("firing", 0, "condition"), ("resolved", 300_000, "no_data")]


def test_a_series_that_vanishes_beside_healthy_ones_is_no_data_too():
    rules = one_rule("up == 0")
    shard = Shard(rules, TICKS_ONLY)
    out = []
    for i in range(40):
        points = [("up{job=b}", i * 10_000, 1.0)] + ([("up{job=a}", 0, 0.0)] if i == 0 else [])
        out += shard.step(RuleInput(0, batch("s", i + 1, i * 10_000 + 1, points))).transitions
    assert [(t.labels["job"], t.state, t.cause) for t in out] == [
        ("a", "firing", "condition"),
        ("a", "resolved", "no_data"),
    ]


def test_a_dead_target_with_staleness_markers_is_no_data():
    shard = Shard(one_rule("x > 5"), StepConfig())
    shard.step(RuleInput(0, batch("s", 1, 0, [("x", 0, 9.0)])))
    shard.step(RuleInput(0, batch("s", 2, 10_001, [("x", 10_000, 9.0)])))
    gone = batch("s", 3, 20_001, [("x", 20_000, STALE)])
    assert [(t.state, t.at_ms, t.cause) for t in shard.step(RuleInput(0, gone)).transitions] == [
        ("resolved", 20_000, "no_data")
    ]


def test_a_rate_that_runs_out_of_samples_is_no_data():
    points = [("x", t * 5_000, t * 50.0) for t in range(20)]
    got = run(one_rule("rate(x[1m]) > 1"), points, until_ms=300_000)
    assert [(state, cause) for state, _, cause in got] == [("firing", "condition"), ("resolved", "no_data")]


def test_a_source_that_is_behind_holds_the_group_while_it_is_heard_of():
    shard = Shard(one_rule("x > 5"), StepConfig(eager_per_s=0, source_idle_ms=60_000))
    shard.step(RuleInput(0, batch("slow", 1, 0, [("x{s=1}", 0, 0.0)])))
    shard.step(RuleInput(0, batch("fast", 1, 0, [("x{s=2}", 0, 0.0)])))
    shard.step(RuleInput(0, batch("slow", 2, 1, received_ms=900_000)))
    assert not shard.step(RuleInput(0, batch("fast", 2, 900_000, [("x{s=2}", 20_000, 9.0)]))).transitions
    caught_up = shard.step(RuleInput(0, batch("slow", 3, 900_000))).transitions
    assert [(t.state, t.at_ms) for t in caught_up][:1] == [("firing", 20_000)]


def test_a_source_that_nothing_was_heard_of_is_given_up():
    shard = Shard(one_rule("x > 5"), StepConfig(eager_per_s=0, source_idle_ms=60_000))
    shard.step(RuleInput(0, batch("dead", 1, 0, [("x{s=1}", 0, 0.0)])))
    shard.step(RuleInput(0, batch("fast", 1, 0, [("x{s=2}", 0, 0.0)])))
    assert not shard.step(RuleInput(0, batch("fast", 2, 60_000, [("x{s=2}", 20_000, 9.0)]))).transitions
    given_up = shard.step(RuleInput(0, batch("fast", 3, 60_001))).transitions
    assert [(t.at_ms, t.labels["s"]) for t in given_up] == [(20_000, "2")]
    late = shard.step(RuleInput(0, batch("dead", 2, 30_000, [("x{s=1}", 25_000, 9.0)])))
    assert late.dropped == {"late": 1}


def test_a_sender_whose_clock_is_fast_does_not_make_the_others_late():
    shard = Shard(one_rule("x > 5"), StepConfig(eager_per_s=0, source_idle_ms=60_000))
    shard.step(RuleInput(0, batch("honest", 1, 0, [("x{s=1}", 0, 0.0)])))
    shard.step(RuleInput(0, batch("fast", 1, 500_000, [("x{s=2}", 500_000, 0.0)], received_ms=1_000)))
    attack = shard.step(RuleInput(0, batch("honest", 2, 10_001, [("x{s=1}", 9_000, 9.0)])))
    assert attack.dropped == {}
    assert [(t.labels["s"], t.at_ms) for t in attack.transitions] == [("1", 10_000)]


def test_the_first_events_of_a_source_nobody_knew_are_taken():
    shard = Shard(one_rule("count_over_time(x[60s]) > 2"), StepConfig())
    shard.step(RuleInput(0, batch("known", 1, 30_000, [("x{s=1}", 29_000, 0.0)])))
    new = [("x{s=2}", 28_000, 1.0), ("x{s=2}", 28_100, 1.0), ("x{s=2}", 28_200, 1.0)]
    shard.step(RuleInput(0, batch("new", 1, 28_000, new)))
    shard.step(RuleInput(0, batch("new", 2, 30_001)))
    result = shard.step(RuleInput(0, batch("known", 2, 30_001)))
    assert [(t.labels["s"], t.state, t.at_ms) for t in result.transitions] == [("2", "firing", 30_000)]


def test_of_a_new_sources_first_batch_all_is_taken_not_only_what_the_first_selector_reads():
    shard = Shard(one_rule("sum(x) + sum(y) > 5"), TICKS_ONLY)
    shard.step(RuleInput(0, batch("known", 1, 30_000, [("x{s=1}", 29_000, 1.0)])))
    first = shard.step(RuleInput(0, batch("new", 1, 28_000, [("y{s=2}", 28_000, 9.0), ("x{s=2}", 28_000, 0.0)])))
    assert first.dropped == {}
    shard.step(RuleInput(0, batch("known", 2, 30_001)))
    judged = shard.step(RuleInput(0, batch("new", 2, 30_001)))
    assert [(t.state, t.at_ms, t.value) for t in judged.transitions] == [("firing", 30_000, "10")]


def test_a_group_whose_only_source_is_gone_follows_the_others():
    rules = one_rule("x > 5") + groups("groups: [{name: h, interval: 10s, rules: [{alert: B, expr: y > 5}]}]")
    shard = Shard(rules, StepConfig(eager_per_s=0, source_idle_ms=60_000))
    shard.step(RuleInput(0, batch("a", 1, 10_001, [("x", 10_000, 9.0)])))
    out = []
    for i, at_ms in enumerate(range(0, 600_000, 10_000)):
        out += shard.step(RuleInput(0, batch("b", i + 1, at_ms + 1, [("y", at_ms, 0.0)]))).transitions
    assert [(t.state, t.cause) for t in out] == [("firing", "condition"), ("resolved", "no_data")]
    assert shard.horizon_ms > 200_000


def test_absent_fires_for_a_series_that_never_came():
    shard = Shard(one_rule('absent(up{job="bridge"})', for_="10s"), TICKS_ONLY)
    out = []
    for i, at_ms in enumerate(range(0, 60_000, 10_000)):
        out += shard.step(RuleInput(0, batch("other", i + 1, at_ms + 1, [("y", at_ms, 0.0)]))).transitions
    assert [t.state for t in out] == ["pending", "firing"]


def test_results_that_collide_change_nothing_and_are_said_once_they_do_not():
    rules = groups("groups: [{name: g, interval: 10s, rules: [{alert: A, expr: x > 5, labels: {pod: all}}]}]")
    shard = Shard(rules, TICKS_ONLY)
    shard.step(RuleInput(0, batch("s", 1, 0, [("x{pod=1}", 0, 9.0), ("x{pod=2}", 0, 9.0)])))
    clash = shard.step(RuleInput(0, batch("s", 2, 1)))
    assert "same labels" in clash.failures[0].reason
    assert not clash.transitions
    apart = shard.step(RuleInput(0, batch("s", 3, 10_001, [("x{pod=1}", 10_000, 9.0), ("x{pod=2}", 10_000, 0.0)])))
    assert [t.state for t in apart.transitions] == ["firing"]


def test_a_rule_that_raises_loses_no_other_rules_transition():
    rules = groups(
        "groups: [{name: g, interval: 10s, rules: ["
        "{alert: Good, expr: x > 5}, {alert: Bad, expr: x * on() group_left() y}]}]"
    )
    shard = Shard(rules, TICKS_ONLY)
    result = shard.step(RuleInput(0, batch("s", 1, 0, [("x", 0, 9.0), ("y{a=1}", 0, 1.0), ("y{a=2}", 0, 1.0)])))
    result = shard.step(RuleInput(0, batch("s", 2, 1)))
    assert [t.alertname for t in result.transitions] == ["Good"]
    assert [failure.rule for failure in result.failures] == ["g/Bad"]


def test_alerts_of_a_rule_that_is_no_longer_there_end_and_say_why():
    before = Shard(one_rule("x > 5"), TICKS_ONLY)
    before.step(RuleInput(0, batch("s", 1, 1, [("x", 0, 9.0)])))
    before.step(RuleInput(0, batch("s", 2, 10_001, [("x", 10_000, 9.0)])))
    after = Shard(one_rule("x > 7"), TICKS_ONLY, before.snapshots())
    out = after.step(RuleInput(0, batch("s", 1, 1, [("x", 0, 9.0)]))).transitions
    assert [(t.state, t.cause) for t in out] == [("resolved", "rule_removed")]


def test_a_repeated_batch_changes_nothing():
    shard = Shard(one_rule("count_over_time(x[10s]) > 1"), TICKS_ONLY)
    first = RuleInput(0, batch("a", 1, 1_000, [("x", 500, 1.0)]))
    shard.step(first)
    assert shard.step(first).dropped == {"repeated_batch": 1}
    assert not shard.step(RuleInput(0, batch("a", 2, 20_000))).transitions


def test_a_restarted_source_begins_a_new_count():
    shard = Shard(one_rule("x > 5"), TICKS_ONLY)
    shard.step(RuleInput(0, batch("a", 7, 1_000, [("x", 500, 0.0)])))
    second = batch("a", 1, 20_000, [("x", 9_000, 9.0)])
    again = type(second)(**{f: getattr(second, f) for f in second.__struct_fields__} | {"epoch": 2})
    assert [t.state for t in shard.step(RuleInput(0, again)).transitions] == ["firing"]


def test_a_rule_that_cannot_be_evaluated_is_reported_and_its_alerts_stay():
    rules = one_rule("x * on() group_left() y > 5")
    shard = Shard(rules, TICKS_ONLY)
    shard.step(RuleInput(0, batch("s", 1, 1, [("x", 0, 9.0), ("y{a=1}", 0, 1.0)])))
    clash = shard.step(RuleInput(0, batch("s", 2, 10_001, [("x", 9_000, 9.0), ("y{a=2}", 9_000, 1.0)])))
    assert not clash.transitions
    assert [failure.rule for failure in clash.failures] == ["g/A"]


def test_the_groups_limit_refuses_a_flood_of_alerts():
    rules = groups("groups: [{name: g, interval: 10s, limit: 1, rules: [{alert: A, expr: x > 5}]}]")
    shard = Shard(rules, TICKS_ONLY)
    points = [("x{i=1}", 0, 9.0), ("x{i=2}", 0, 9.0)]
    result = shard.step(RuleInput(0, batch("s", 1, 0, points)))
    assert not result.failures
    result = shard.step(RuleInput(0, batch("s", 2, 1)))
    assert not result.transitions
    assert "limit" in result.failures[0].reason


def test_after_a_restart_windows_are_read_again_and_nothing_is_said_twice():
    rules = one_rule("count_over_time(x[60s]) > 2", for_="10s")
    batches = [RuleInput(0, batch("s", i + 1, i * 5_000 + 1, [("x", i * 5_000, 1.0)])) for i in range(20)]
    whole = Shard(rules, TICKS_ONLY)
    undisturbed = [t.id for message in batches for t in whole.step(message).transitions]

    first = Shard(rules, TICKS_ONLY)
    said = [t.id for message in batches[:9] for t in first.step(message).transitions]
    second = Shard(rules, TICKS_ONLY, first.snapshots())
    said += [t.id for message in batches for t in second.step(message).transitions]  # from the window's start
    assert said == undisturbed
    assert said


def test_labels_and_annotations_are_expanded_and_the_name_is_dropped():
    rules = groups(
        """
groups:
  - name: g
    rules:
      - alert: A
        expr: x{job="a"} > 5
        labels: {severity: critical, team: '{{ $labels.job }}-team'}
        annotations: {summary: '{{ $labels.job }} has {{ $value }}'}
"""
    )
    shard = Shard(rules, StepConfig())
    (fired,) = shard.step(RuleInput(0, batch("s", 1, 10, [("x{job=a}", 5, 9.0)]))).transitions
    assert fired.labels == {"alertname": "A", "job": "a", "severity": "critical", "team": "a-team"}
    assert fired.annotations == {"summary": "a has 9"}
    assert (fired.rule, fired.value) == ("g/A", "9")
