"""Replay: run recorded input through the same router and step as live, and compare what comes out.

It has no broker, no database, no executor and no clock: it cannot act. "Identical" means that every decision was made
again: same rule, labels, state, event time, cause, value and evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from engine.bundle import Recorded
from engine.core.group import RuleFailure, StepConfig
from engine.core.messages import Batch, MetricBatch, Transition, decode_batch, decode_transition
from engine.core.router import Router, by_shard
from engine.core.rules import RuleGroup
from engine.core.step import Shard, StepResult
from engine.flow import ALERTS, LOGS, METRICS


class Pipeline:
    """Router and evaluator without anything between them: batches in, transitions out."""

    def __init__(self, groups: Iterable[RuleGroup], shards: int, config: StepConfig) -> None:
        groups = list(groups)
        self._router = Router(groups, shards)
        self.shards = {number: Shard(owned, config) for number, owned in by_shard(groups, shards).items()}

    def feed(self, batch: Batch) -> StepResult:
        """Run one batch through the shards that read it."""
        total = StepResult()
        for message in self._router.route(batch):
            result = self.shards[message.shard].step(message)
            total.transitions += result.transitions
            total.failures += result.failures
            total.recorded += result.recorded
            for reason, count in result.dropped.items():
                total.drop(reason, count)
        return total


@dataclass
class Comparison:
    """How the transitions of a replay differ from those recorded. `gone`: then, not now; `added`: the reverse."""

    identical: list[Transition] = field(default_factory=list)
    gone: list[Transition] = field(default_factory=list)
    added: list[Transition] = field(default_factory=list)
    failures: list[RuleFailure] = field(default_factory=list)
    samples: int = 0
    lines: int = 0
    messages: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether every decision was made again, and no other."""
        return not self.gone and not self.added


def replay(
    messages: Iterable[Recorded],
    groups: Sequence[RuleGroup],
    shards: int,
    config: StepConfig,
) -> Comparison:
    """Run recorded messages (in recorded order) through `groups` and compare with the recorded transitions.

    A recorded transition of a rule that was evaluated from input before the recording began cannot come out again;
    it is reported as gone like any other difference.
    """
    outcome = Comparison()
    then: dict[str, Transition] = {}
    now: dict[str, Transition] = {}
    pipeline = Pipeline(groups, shards, config)
    for message in messages:
        outcome.messages += 1
        try:
            if message.topic in (METRICS.name, LOGS.name):
                _feed(pipeline, decode_batch(message.content), outcome, now)
            elif message.topic == ALERTS.name:
                transition = decode_transition(message.content)
                then[transition.id] = transition
        except (msgspec.DecodeError, UnicodeDecodeError):  # live, it went to the dead-letter topic
            outcome.dropped["not_decodable"] = outcome.dropped.get("not_decodable", 0) + 1
    outcome.identical = [now[key] for key in then if _same(then[key], now.get(key))]
    outcome.gone = [then[key] for key in then if not _same(then[key], now.get(key))]
    outcome.added = [now[key] for key in now if not _same(now[key], then.get(key))]
    return outcome


def _same(one: Transition, other: Transition | None) -> bool:
    """Whether two transitions are one decision: everything but when its cause reached a connector."""
    return other is not None and msgspec.structs.replace(one, received_ms=0) == msgspec.structs.replace(
        other, received_ms=0
    )


def _feed(pipeline: Pipeline, batch: Batch, outcome: Comparison, now: dict[str, Transition]) -> None:
    if isinstance(batch, MetricBatch):
        outcome.samples += batch.count
    else:
        outcome.lines += sum(len(stream.entries) for stream in batch.streams)
    result = pipeline.feed(batch)
    outcome.failures += result.failures
    for reason, count in result.dropped.items():
        outcome.dropped[reason] = outcome.dropped.get(reason, 0) + count
    now.update((transition.id, transition) for transition in result.transitions)
