"""Other rules in the middle of a run: what is the same goes on, what is gone ends, what is new begins."""

from __future__ import annotations

from engine.core.group import StepConfig
from engine.core.messages import RuleInput, Transition
from engine.core.step import Shard
from tests.core.builders import batch, groups

TICKS_ONLY = StepConfig(eager_per_s=0)
HELD = "{alert: Held, expr: x > 5, for: 30s}"
OTHER = "{alert: Other, expr: y > 5}"


def rules(*texts: str, name: str = "g") -> list:
    return groups(f"groups: [{{name: {name}, interval: 10s, rules: [{', '.join(texts)}]}}]")


def told(transitions: list[Transition]) -> list[tuple[str, str, int, str]]:
    return [(t.alertname, t.state, t.at_ms, t.cause) for t in transitions]


class Run:
    """A shard that is fed `x` 9.0 and `y` 9.0 every ten seconds and given other rules on the way."""

    def __init__(self, found: list) -> None:
        self.shard = Shard(found, TICKS_ONLY)
        self.number = 1
        self.shard.step(RuleInput(0, batch("s", 1, 0)))  # time begins at 0

    def reload(self, found: list) -> None:
        old = self.shard
        self.shard = Shard(found, TICKS_ONLY, old.snapshots())
        self.shard.adopt(old, old.groups)

    def feed(self, at_ms: int) -> list[tuple[str, str, int, str]]:
        self.number += 1
        points = [("x", at_ms, 9.0), ("y", at_ms, 9.0)]
        return told(self.shard.step(RuleInput(0, batch("s", self.number, at_ms + 1, points))).transitions)


def test_an_unchanged_rule_goes_on_pending_and_fires_when_it_would_have():
    run = Run(rules(HELD))
    assert run.feed(0) == [("Held", "pending", 0, "condition")]
    run.reload(rules(OTHER, HELD))
    assert run.feed(10_000) == [("Other", "firing", 10_000, "condition")]
    run.feed(20_000)
    assert run.feed(30_000) == [("Held", "firing", 30_000, "condition")]


def test_the_windows_of_what_both_read_are_kept():
    run = Run(rules("{alert: Many, expr: 'count_over_time(x[1m]) > 4'}"))
    for at_ms in range(0, 30_001, 10_000):
        assert run.feed(at_ms) == []
    run.reload(rules("{alert: More, expr: 'count_over_time(x[1m]) > 4'}"))
    assert run.feed(40_000) == [("More", "firing", 40_000, "condition")]


def test_a_changed_rule_is_a_new_one_and_the_old_ones_alert_ends():
    run = Run(rules("{alert: A, expr: x > 5}"))
    run.feed(0)
    run.reload(rules("{alert: A, expr: x > 6}"))
    assert run.feed(10_000) == [("A", "resolved", 0, "rule_removed"), ("A", "firing", 10_000, "condition")]


def test_alerts_of_a_group_that_is_gone_end_too():
    run = Run(rules("{alert: A, expr: x > 5}") + rules(OTHER, name="h"))
    assert len(run.feed(0)) == 2
    run.reload(rules(OTHER, name="h"))
    assert run.feed(10_000) == [("A", "resolved", 0, "rule_removed")]


def test_another_description_is_used_from_then_on_without_a_new_alert():
    run = Run(rules("{alert: A, expr: x > 5, annotations: {summary: old}}"))
    run.feed(0)
    run.reload(rules("{alert: A, expr: x > 5, annotations: {summary: new}}"))
    assert run.feed(10_000) == []
    assert [alert.annotations for alert in run.shard.groups[0].active[0].values()] == [{"summary": "new"}]


def test_what_was_read_before_is_still_known_as_read():
    run = Run(rules(HELD))
    run.feed(0)
    seen = batch("s", 1, 1, [("x", 0, 9.0)])
    run.reload(rules(HELD))
    assert run.shard.step(RuleInput(0, seen)).dropped == {"repeated_batch": 1}
