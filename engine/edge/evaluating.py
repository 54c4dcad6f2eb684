"""The evaluator role: `core.step` fed from `rule-inputs`, its small state kept in a Faust table.

Raw windows are not stored. A message is acknowledged only once it has left every window, so the committed offset is
the start of the windows: a worker that starts reads them again from there and finds in the table how far they were
evaluated and which alerts were active. Every rebalance is such a start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from prometheus_client import Histogram

from engine.core.expression import Expression, Selector, Vector, Window
from engine.core.group import FOREVER, NEVER, GroupSnapshot, StepConfig, decode_snapshot, encode_snapshot
from engine.core.labels import Labels
from engine.core.messages import Batch, EvidenceLine, MetricBatch, decode_rule_input, encode
from engine.core.router import by_shard
from engine.core.rules import RuleGroup
from engine.core.step import Shard, StepResult
from engine.edge.faust_app import PoisonError, RoleApp, consume, decoded
from engine.flow import ALERTS, RECORDED, RULE_INPUTS

log = structlog.get_logger(__name__)

SNAPSHOT_EVERY_MS = 1_000


@dataclass(frozen=True)
class _Timed:
    """An expression that notes how long it takes, in all and last time (by the key of its rule)."""

    inner: Expression
    seconds: Histogram
    rule_key: str
    last_s: dict[str, float]

    @property
    def text(self) -> str:
        return self.inner.text

    @property
    def selectors(self) -> Sequence[Selector]:
        return self.inner.selectors

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        start = time.perf_counter()
        try:
            return self.inner.evaluate(windows, at_ms)
        finally:
            self.last_s[self.rule_key] = time.perf_counter() - start
            self.seconds.observe(self.last_s[self.rule_key])

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        return self.inner.evidence(windows, at_ms, labels, limit)


class Evaluator:
    """Evaluates the shards whose partitions this worker has been given."""

    def __init__(self, role: RoleApp, groups: Iterable[RuleGroup], shards: int, config: StepConfig) -> None:
        self._role = role
        self._config = config
        self._shard_count = shards
        self.last_s: dict[str, float] = {}
        self.groups = by_shard([self._timed(group) for group in groups], shards)
        self.shards: dict[int, Shard] = {}
        self._handed_over: dict[str, GroupSnapshot] = {}
        self._held: dict[int, deque[tuple[int, Any]]] = {}
        self._saved_ms: dict[int, int] = {}
        self._safe_ms: dict[int, int] = {}
        self._next_safe_ms: dict[int, int] = {}
        # Types, not a schema of raw bytes: with a schema Faust reads the keys back as JSON, and nothing is found again.
        partitions = role.app.conf.topic_partitions
        self._table = role.app.Table("rule-state", partitions=partitions, key_type=bytes, value_type=bytes)
        self._rebalances = 0
        role.app.on_partitions_revoked.connect(self._forget, weak=False)
        consume(role, [RULE_INPUTS], self._handle, hold=True)

    def _timed(self, group: RuleGroup) -> RuleGroup:
        seconds = self._role.telemetry.rule_evaluation
        rules = tuple(
            replace(rule, expression=_Timed(rule.expression, seconds.labels(name), rule.key, self.last_s))
            for rule in group.rules
            for name in (f"{rule.group}/{rule.name}",)
        )
        return replace(group, rules=rules)

    def reload(self, groups: Iterable[RuleGroup]) -> None:
        """Go on with other rules: an unchanged rule keeps its state, and what both read keeps its data."""
        self.groups = by_shard([self._timed(group) for group in groups], self._shard_count)
        old = dict(self.shards)
        before = [group for shard in old.values() for group in shard.groups]
        for shard in old.values():
            self._handed_over |= shard.snapshots()
        for number, shard in old.items():
            self.shards[number] = self._build(number, self._handed_over)
            self.shards[number].adopt(shard, before)

    def _build(self, number: int, snapshots: Mapping[str, GroupSnapshot]) -> Shard:
        """A shard with what its groups left, and what groups left that are nowhere any more: their alerts end."""
        elsewhere = {group.key for other, owned in self.groups.items() if other != number for group in owned}
        own = {key: snapshot for key, snapshot in snapshots.items() if key not in elsewhere}
        for key in own:
            self._handed_over.pop(key, None)
        return Shard(self.groups.get(number, []), self._config, own)

    async def _forget(self, *_: Any, **__: Any) -> None:
        """Partitions are being given anew: windows are read again from the committed offsets."""
        self._rebalances += 1
        self.shards.clear()
        self._handed_over.clear()
        self._held.clear()
        self._saved_ms.clear()
        self._safe_ms.clear()
        self._next_safe_ms.clear()

    async def _handle(self, event: Any) -> None:
        rebalances = self._rebalances
        message = decoded(decode_rule_input, event.value)
        shard = self.shards.get(message.shard)
        if shard is None:
            shard = self.shards[message.shard] = self._restored(message.shard)
        try:
            result = shard.step(message)
        except Exception as error:  # the step is pure: trying again would only find the batch half taken
            raise PoisonError(f"cannot be evaluated: {type(error).__name__}: {error}") from error
        await self._say(result)
        if rebalances != self._rebalances:
            return  # whoever has the partition now reads this message again, and says the same
        self._save(message.shard, shard, force=bool(result.transitions))
        self._note(message.batch)
        self._release(event, message.batch)

    def _restored(self, number: int) -> Shard:
        kept = self._table.get(str(number).encode())
        snapshots = {**(decode_snapshot(kept) if kept else {}), **self._handed_over}
        active = sum(len(alerts) for snapshot in snapshots.values() for alerts in snapshot.alerts.values())
        log.info("evaluator.shard_started", shard=number, groups=len(self.groups.get(number, [])), active=active)
        return self._build(number, snapshots)

    async def _say(self, result: StepResult) -> None:
        telemetry = self._role.telemetry
        for transition in result.transitions:
            await self._role.send(ALERTS.name, transition.fingerprint.encode(), encode(transition))
            telemetry.transitions.labels(transition.rule, transition.state).inc()
            telemetry.reaction.labels("alert").observe(
                max(0, self._role.clock.now_ms() - transition.received_ms) / 1000
            )
            log.info(
                "alert." + transition.state,
                rule=transition.rule,
                labels=transition.labels,
                at_ms=transition.at_ms,
                value=transition.value,
                cause=transition.cause,
            )
        for recorded in result.recorded:
            await self._role.send(RECORDED.name, recorded.source.encode(), encode(recorded))
        for failure in result.failures:
            telemetry.drops.labels("evaluator", "rule_failed").inc()
            log.error("rule.failed", rule=failure.rule, at_ms=failure.at_ms, reason=failure.reason)
        for reason, count in result.dropped.items():
            telemetry.drops.labels("evaluator", reason).inc(count)

    def _save(self, number: int, shard: Shard, *, force: bool) -> None:
        evaluated_ms = shard.evaluated_ms
        if not force and evaluated_ms < self._saved_ms.get(number, NEVER) + SNAPSHOT_EVERY_MS:
            return
        self._saved_ms[number] = evaluated_ms
        # What was saved the time before has reached the changelog by now: from there on a restart can go on.
        self._safe_ms[number], self._next_safe_ms[number] = self._next_safe_ms.get(number, NEVER), shard.horizon_ms
        self._table[str(number).encode()] = encode_snapshot(shard.snapshots())

    def _note(self, batch: Batch) -> None:
        delay_s = max(0, self._role.clock.now_ms() - batch.watermark_ms) / 1000
        self._role.telemetry.watermark_delay.labels(self._role.role, batch.source).set(delay_s)

    def _release(self, event: Any, batch: Batch) -> None:
        """Hold the message until it has left every window of a restart; acknowledge those that have.

        A restart goes on from the state that was saved, which is a little older than what was evaluated: so the
        windows of *then* must be there to be read again.
        """
        event.message.value = event.value = None  # only its offset is needed from here on
        held = self._held.setdefault(event.message.partition, deque())
        held.append((_newest_ms(batch), event))
        horizon_ms = min((self._safe_ms.get(number, NEVER) for number in self.shards), default=FOREVER)
        while held and held[0][0] < horizon_ms:
            held.popleft()[1].ack()


def _newest_ms(batch: Batch) -> int:
    if isinstance(batch, MetricBatch):
        return max(batch.t_ms, default=NEVER)
    return max((entry.t_ns // 1_000_000 for stream in batch.streams for entry in stream.entries), default=NEVER)
