"""Late and disordered lines: counted, never evaluated into the past, and an agent that replays fires nothing.

floods of old lines   x x x x x x x (from hours ago)
today's rule                                  |--- 60s ---|now
"""

from __future__ import annotations

import random

import pytest
from msgspec import Raw

from engine import logql
from engine.core.group import StepConfig
from engine.core.messages import LogBatch, LogEntry, LogStream, RuleInput, Transition
from engine.core.rules import parse_rules
from engine.core.sources import SourceClock, SourceTiming
from engine.core.step import Shard

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000
RULES = """
groups:
  - name: g
    interval: 10s
    rules:
      - alert: Many
        expr: sum by (user) (count_over_time({job="shop"} |= "denied" | json [60s])) > 3
"""
STREAM = Raw(b'{"job":"shop"}')


def shard() -> Shard:
    groups, problems = parse_rules(RULES, "rules.yml", logql.compile)
    assert not problems
    return Shard(groups, StepConfig())


def denied(*times_ms: int, user: str = "u") -> list[LogEntry]:
    return [LogEntry(t_ms * 1_000_000, f'{{"denied":true,"user":"{user}","n":{i}}}') for i, t_ms in enumerate(times_ms)]


class Agent:
    """A source with its clock, and the shard that gets its batches."""

    def __init__(self, own: Shard, name: str = "agent", lateness_ms: int = 1_000) -> None:
        self.clock = SourceClock(name, "logs", 1, SourceTiming(lateness_ms=lateness_ms, idle_after_ms=10_000))
        self.shard = own
        self.dropped: dict[str, int] = {}
        self.transitions: list[Transition] = []

    def push(self, at_ms: int, entries: list[LogEntry]) -> None:
        ordered = sorted(entries, key=lambda entry: entry.t_ns)
        request = self.clock.admit([LogStream(STREAM, ordered)], at_ms)
        stamp = self.clock.stamp([request], at_ms)
        self._count(request.dropped)
        for batch in stamp.batches:
            self._step(batch)
        if stamp.batches:
            self.clock.delivered(stamp)

    def wait_until(self, at_ms: int) -> None:
        """Heartbeats, as the connector sends them."""
        for t_ms in range(at_ms - 15_000, at_ms + 1, 1_000):
            batch = self.clock.heartbeat(t_ms)
            if batch is not None:
                self._step(batch)

    def _step(self, batch: object) -> None:
        assert isinstance(batch, LogBatch)
        result = self.shard.step(RuleInput(0, batch))
        assert not result.failures
        self._count(result.dropped)
        self.transitions += result.transitions

    def _count(self, dropped: dict[str, int]) -> None:
        for reason, count in dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count


def test_an_agent_that_replays_old_lines_into_a_running_source_fires_nothing_and_each_line_is_counted() -> None:
    agent = Agent(shard())
    agent.push(NOW, denied(NOW))
    agent.wait_until(NOW + 15_000)
    agent.push(NOW + 16_000, denied(*range(NOW - HOUR_MS, NOW - HOUR_MS + 50_000, 100)))
    agent.push(NOW + 17_000, denied(*range(NOW - HOUR_MS, NOW, 10_000)))
    agent.wait_until(NOW + 60_000)
    assert agent.transitions == []
    assert agent.dropped == {"late": 500 + 360}


def test_old_lines_of_a_second_agent_do_not_count_for_todays_alert_which_waits_until_that_agent_is_given_up() -> None:
    own = shard()
    today, replaying = Agent(own, "today"), Agent(own, "replaying")
    today.push(NOW, denied(NOW, NOW + 1))
    replaying.push(NOW, denied(*range(NOW - HOUR_MS, NOW - HOUR_MS + 20_000, 100)))
    today.push(NOW + 100, denied(NOW + 100, NOW + 101))
    for at_ms in range(NOW + 15_000, NOW + StepConfig().source_idle_ms + 30_000, 15_000):
        today.wait_until(at_ms)
    fired = [one for agent in (today, replaying) for one in agent.transitions if one.state == "firing"]
    assert [(one.at_ms, one.value) for one in fired] == [(NOW + 101, "4")]
    assert {line.t_ns // 1_000_000 for line in fired[0].evidence} == {NOW, NOW + 1, NOW + 100, NOW + 101}


def test_an_agent_whose_backlog_has_ended_holds_nobody_up_and_its_further_old_lines_are_late() -> None:
    own = shard()
    today, replaying = Agent(own, "today"), Agent(own, "replaying")
    today.push(NOW, denied(NOW, NOW + 1))
    replaying.push(NOW, denied(*range(NOW - HOUR_MS, NOW - HOUR_MS + 20_000, 100)))
    today.push(NOW + 100, denied(NOW + 100, NOW + 101))
    for agent in (today, replaying):
        agent.wait_until(NOW + 15_000)
    fired = [one for agent in (today, replaying) for one in agent.transitions if one.state == "firing"]
    assert [(one.at_ms, one.value) for one in fired] == [(NOW + 101, "4")]
    replaying.push(NOW + 16_000, denied(NOW - HOUR_MS + 30_000))
    assert replaying.dropped == {"late": 1}


@pytest.mark.parametrize("seed", range(5))
def test_lines_that_are_disordered_within_the_lateness_give_what_ordered_ones_give(seed: int) -> None:
    draw = random.Random(seed)
    times = sorted(NOW + draw.randrange(120_000) for _ in range(120))
    entries = [LogEntry(t * 1_000_000, f'{{"denied":1,"user":"u{draw.randrange(6)}"}}') for t in times]

    def outcome(lateness_ms: int, jitter_ms: int) -> list[tuple[str, str, int, str]]:
        agent = Agent(shard(), lateness_ms=lateness_ms)
        arriving = sorted(entries, key=lambda entry: entry.t_ns // 1_000_000 + draw.randrange(jitter_ms + 1))
        for first in range(0, len(arriving), 7):
            agent.push(NOW + 120_000, arriving[first : first + 7])
        agent.wait_until(NOW + 200_000)
        assert agent.dropped == {}
        return [(one.labels["user"], one.state, one.at_ms, one.value) for one in agent.transitions]

    assert sorted(outcome(9_000, 8_000)) == sorted(outcome(9_000, 0))


def test_a_line_older_than_what_was_evaluated_is_kept_out_at_the_evaluator_too() -> None:
    own = shard()
    first = [LogStream(STREAM, denied(NOW, NOW + 1))]
    own.step(RuleInput(0, LogBatch("a", 1, 1, NOW + 10_000, NOW, first)))
    old = [LogStream(STREAM, denied(NOW - 5, NOW + 3, NOW + 20_000))]
    result = own.step(RuleInput(0, LogBatch("a", 1, 2, NOW + 30_000, NOW, old)))
    assert result.dropped == {"late": 2}
    assert result.transitions == []
