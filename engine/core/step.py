"""The evaluator's step: (state of a rule shard, one message from `rule-inputs`) -> transitions.

Live agents, replay, backtests, rule unit tests and simulation all call `Shard.step` and nothing else. There is no
clock, no I/O and no Kafka in here; what time it is, is what the messages say.

The outputs go to the topic `alerts`; the next module in the flow is `response.incident`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from engine.core.alert import ActiveAlert, removed
from engine.core.expression import Selector
from engine.core.group import (
    FOREVER,
    NEVER,
    Advance,
    Group,
    GroupSnapshot,
    RuleFailure,
    SourceMark,
    StepConfig,
)
from engine.core.intake import Columns, MetricIntake
from engine.core.lines import LineIntake
from engine.core.messages import Batch, MetricBatch, RuleInput, Transition
from engine.core.query import answer
from engine.core.recording import connect, in_order
from engine.core.rules import RuleGroup

_CACHE_LIMIT = 500_000


@dataclass
class StepResult:
    """What one message led to. `dropped` counts events kept out, by reason; `recorded` is what rules recorded."""

    transitions: list[Transition] = field(default_factory=list)
    recorded: list[MetricBatch] = field(default_factory=list)
    failures: list[RuleFailure] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, advance: Advance) -> None:
        """Add what the move of a group led to."""
        self.transitions += advance.transitions
        self.failures += advance.failures
        self.recorded += advance.recorded

    def drop(self, reason: str, count: int) -> None:
        """Count events that were kept out."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


class Shard:
    """The rule groups of one shard and their state. `snapshots` (by group key) is what an earlier run left.

    Groups that read what others record must be in one shard with them (`router.by_shard` sees to it). They are worked
    through producers first, or, for rule tests that name an order, as `given_order` has them.
    """

    def __init__(
        self,
        groups: Iterable[RuleGroup],
        config: StepConfig | None = None,
        snapshots: Mapping[str, GroupSnapshot] | None = None,
        *,
        given_order: bool = False,
    ) -> None:
        self._config = config or StepConfig()
        listed = list(groups)
        order = [(group, frozenset[str]()) for group in listed] if given_order else in_order(listed)
        self.groups = self._build(order, snapshots or {})
        self._orphans = _orphans(snapshots or {}, {group.rules.key for group in self.groups})
        self._marks: dict[str, SourceMark] = {}
        self._kinds: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._intake = MetricIntake(self._selectors("metrics"))
        self._lines = LineIntake(self.groups)

    def step(self, message: RuleInput, columns: Columns | None = None) -> StepResult:
        """Take one batch: fill the windows, move the watermarks, evaluate what is due.

        `columns` are the samples of a metric batch for a caller who has them as columns and leaves its lists empty.
        """
        result = StepResult()
        batch = message.batch
        if self._is_repetition(batch):
            result.drop("repeated_batch", 1)
            return result
        if columns is not None:
            result.drop("late", self._intake.add_columns(batch.source, columns))
        elif isinstance(batch, MetricBatch):
            result.drop("late", self._intake.add(batch))
        else:
            self._lines.add(batch, result.drop)
        self._note(batch)
        result.transitions += [removed(*orphan, batch.received_ms) for orphan in self._orphans]
        self._orphans.clear()
        for group in self.groups:
            group.progress(self._marks, self._others_ms(group))
            result.add(group.advance(batch.received_ms))
        return result

    def adopt(self, old: Shard, groups: Iterable[Group]) -> None:
        """Go on from a shard of the same number whose rules were loaded again; `groups` are those of all old shards."""
        self._marks, self._kinds, self._seen = old._marks, old._kinds, old._seen
        before = {group.rules.key: group for group in groups}
        for group in self.groups:
            if group.rules.key in before:
                group.adopt(before[group.rules.key])
        self._intake = MetricIntake(self._selectors("metrics"))  # of the windows that were taken over

    def _build(self, order: list[tuple[RuleGroup, frozenset[str]]], kept: Mapping[str, GroupSnapshot]) -> list[Group]:
        built: dict[str, Group] = {}
        for rules, waits_for in order:
            producers = [built[key] for key in sorted(waits_for)]
            built[rules.key] = Group(rules, self._config, kept.get(rules.key), producers)
        connect(built.values())
        for group in built.values():
            group.answer = partial(answer, [group])
            group.restore()
        return list(built.values())

    @property
    def horizon_ms(self) -> int:
        """Nothing older than this is in any window any more: input before it need not be read again after a restart."""
        return min((group.horizon_ms for group in self.groups if group.watermark_ms != NEVER), default=FOREVER)

    @property
    def evaluated_ms(self) -> int:
        """The newest time that every group which has data was evaluated for."""
        return min((group.evaluated_ms for group in self.groups if group.watermark_ms != NEVER), default=NEVER)

    def snapshots(self) -> dict[str, GroupSnapshot]:
        """The state to keep, by group key."""
        return {group.rules.key: group.snapshot() for group in self.groups}

    def _note(self, batch: Batch) -> None:
        mark = self._marks.setdefault(batch.source, SourceMark(NEVER, NEVER))
        mark.watermark_ms = max(mark.watermark_ms, batch.watermark_ms)
        mark.heard_ms = max(mark.heard_ms, batch.received_ms)
        self._kinds[batch.source] = "metrics" if isinstance(batch, MetricBatch) else "logs"

    def _others_ms(self, group: Group) -> int:
        """How far all live sources are that send the kinds of events a group reads."""
        heard_ms = max(mark.heard_ms for mark in self._marks.values()) - self._config.source_idle_ms
        return min(
            (
                mark.watermark_ms
                for source, mark in self._marks.items()
                if mark.heard_ms >= heard_ms and (not group.kinds or self._kinds[source] in group.kinds)
            ),
            default=NEVER,
        )

    def _is_repetition(self, batch: Batch) -> bool:
        number = (batch.epoch, batch.seq)
        if number <= self._seen.get(batch.source, (-1, -1)):
            return True
        self._seen[batch.source] = number
        return False

    def _selectors(self, kind: str) -> list[tuple[Group, Selector]]:
        found: dict[tuple[int, str], tuple[Group, Selector]] = {}
        for position, group in enumerate(self.groups):
            for selector in group.selectors:
                if selector.kind == kind:
                    found.setdefault((position, selector.key), (group, selector))
        return list(found.values())


def _orphans(snapshots: Mapping[str, GroupSnapshot], known: Container[str]) -> list[tuple[str, ActiveAlert, int]]:
    """Alerts of groups that are no longer there: group name, alert, and when it was last judged."""
    return [
        (key.rpartition(";")[2], alert, snapshot.evaluated_ms)
        for key, snapshot in snapshots.items()
        if key not in known
        for alerts in snapshot.alerts.values()
        for alert in alerts.values()
    ]
