"""One rule group at work: its windows, its watermark, and its rules evaluated in event time.

A group is the unit of sharding and shares nothing with other groups. The shard puts the matching part of a batch into
the windows; `advance` evaluates, in event-time order, everything that the group's watermark has passed:

    event time ------|----x-----x--------|----x------W=======> not complete yet
    evaluate         tick eager eager    tick eager

The watermark of a group is the smallest of the sources that ever sent it something. A source that nothing was heard
of for `source_idle_ms` does not count (a dead source must not hold the group for ever); if that leaves none, or none
ever sent anything, the group follows the other sources of its shard, so that `absent()` can fire and alerts can end.

A source's own events are never behind its own watermark. Behind the *group's* they are only if the source was given
up: then they are late, counted and kept out. The first events of a source nobody knew are taken, whatever their time;
they are seen by the next evaluations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
from msgspec import Struct

from engine.core.alert import (
    ActiveAlert,
    Change,
    Result,
    Sample,
    advance,
    alert_labels,
    missing,
    removed,
    transition,
)
from engine.core.eager import EagerTimes
from engine.core.expression import Ahead, EvaluationError, Presence, Selector, Times, Vector, Window
from engine.core.gotemplate import Template
from engine.core.gotemplate.values import TemplateError
from engine.core.labels import Labels, fingerprint
from engine.core.messages import MetricBatch, Transition
from engine.core.recording import Recorder, alert_series
from engine.core.rules import AlertRule, RecordRule, Rule, RuleGroup

NEVER, FOREVER = -(2**62), 2**62
Answer = Callable[[AlertRule, str, int], list[tuple[Labels, float]]]
"""Answers a query in a template of a rule at a time. Raises `TemplateError`."""
_EVICTIONS_A_WINDOW = 32


@dataclass(frozen=True)
class StepConfig:
    """Settings of the evaluator that shape its results; the same for live, replay and tests.

    `eager_per_s` 0 turns eager evaluation off, as promtool's rule tests want it.
    """

    eager_per_s: int = 20
    eager_grid_ms: int = 50
    source_idle_ms: int = 300_000
    evidence_limit: int = 10
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""


class SourceMark(Struct):
    """How far a source is (event time), and when its connector last said anything (that connector's wall clock)."""

    watermark_ms: int
    heard_ms: int


class RuleFailure(Struct, frozen=True):
    """A rule whose expression could not be evaluated at a time: its alerts stay as they are."""

    rule: str
    at_ms: int
    reason: str


class GroupSnapshot(Struct):
    """What of a group must survive a restart: how far it was evaluated, and its alerts by rule key and fingerprint."""

    evaluated_ms: int
    alerts: dict[str, dict[str, ActiveAlert]]


@dataclass
class Advance:
    """What one move of a group led to."""

    transitions: list[Transition] = field(default_factory=list)
    failures: list[RuleFailure] = field(default_factory=list)
    recorded: list[MetricBatch] = field(default_factory=list)


class Group:
    """The running state of one rule group.

    `snapshot` is what an earlier run left, or None; `waits_for` are the groups of the shard that it reads from.
    """

    def __init__(
        self,
        group: RuleGroup,
        config: StepConfig,
        snapshot: GroupSnapshot | None = None,
        waits_for: Sequence[Group] = (),
    ) -> None:
        self.rules = group
        self.recorder = Recorder(group.key)
        self.producers: dict[str, list[tuple[Group, Rule]]] = {}  # by selector, the rules that record what it reads
        self.answer: Answer = _no_answer  # the shard gives it: what answers queries stands above this module
        self._ahead: dict[int, Callable[[int], Vector]] = {}  # by rule, while several evaluations are due
        self._config = config
        self._waits_for = waits_for
        self._removed = _removed(group, snapshot)
        self.selectors = list({selector.key: selector for selector in group.selectors}.values())
        self.windows: dict[str, Window] = {one.key: one.make_window() for one in self.selectors}
        self._reach_ms: dict[str, int] = {}
        for selector in group.selectors:
            reach_ms = selector.reach_ms + group.query_offset_ms
            self._reach_ms[selector.key] = max(self._reach_ms.get(selector.key, 0), reach_ms)
        self._held_from_ms = dict.fromkeys(self.windows, NEVER)
        self._readers: dict[str, list[int]] = {}
        self._eager: dict[int, EagerTimes] = {}
        for index, rule in enumerate(group.rules):
            if isinstance(rule, AlertRule) and config.eager_per_s:
                self._eager[index] = EagerTimes(config.eager_per_s, config.eager_grid_ms)
                for key in {selector.key for selector in rule.expression.selectors}:
                    self._readers.setdefault(key, []).append(index)
        self.failed: dict[int, RuleFailure] = {}  # by the rule's index, those whose last evaluation went wrong
        self._sources: set[str] = set()
        self._newcomers: set[str] = set()  # known once their whole first batch is taken, not after a part of it
        self.kinds = {selector.kind for selector in self.selectors}
        self.watermark_ms = NEVER
        self._next_tick_ms: int | None = None
        self._evicted_ms = dict.fromkeys(self.windows, NEVER)
        self.evaluated_ms = snapshot.evaluated_ms if snapshot else NEVER
        kept = snapshot.alerts if snapshot else {}
        self.active: list[dict[str, ActiveAlert]] = [dict(kept.get(rule.key, {})) for rule in group.rules]

    def adopt(self, old: Group) -> None:
        """Go on from where a group of the same key was before its file was loaded again.

        Windows, sources and how far it is are kept; state of alerts and of eager evaluation by rule, where the rule is
        the same. What only the new rules read starts empty.
        """
        self.windows.update({key: window for key, window in old.windows.items() if key in self.windows})
        self._sources, self._newcomers = old._sources, old._newcomers
        self.watermark_ms = old.watermark_ms
        self._held_from_ms = {key: old._held_from_ms.get(key, old.watermark_ms) for key in self.windows}
        if old.rules.interval_ms == self.rules.interval_ms:
            self._next_tick_ms = old._next_tick_ms
        before = {rule.key: index for index, rule in enumerate(old.rules.rules)}
        for index, rule in enumerate(self.rules.rules):
            if before.get(rule.key) in old._eager and index in self._eager:
                self._eager[index] = old._eager[before[rule.key]]
        self.recorder.adopt(old.recorder)

    def produced_by(self, selector: Selector, group: Group, rule: Rule) -> None:
        """Note a rule that records what a selector reads, once."""
        known = self.producers.setdefault(selector.key, [])
        if not any(other is rule for _, other in known):
            known.append((group, rule))

    def snapshot(self) -> GroupSnapshot:
        """The state to keep. Alerts are shared, not copied: encode it before the next step."""
        alerts = {rule.key: active for rule, active in zip(self.rules.rules, self.active, strict=True) if active}
        return GroupSnapshot(self.evaluated_ms, alerts)

    def restore(self) -> None:
        """Let readers see the alerts that were active when the snapshot was made. Call it once all are connected."""
        for index, rule in enumerate(self.rules.rules):
            if isinstance(rule, AlertRule) and self.active[index]:
                self._record_alerts(index, rule, self.evaluated_ms, aloud=False)

    @property
    def horizon_ms(self) -> int:
        """How far back input has to be read again after a restart.

        That is the start of the longest window, and further back as far as readers look at what is recorded here.
        """
        return self.watermark_ms - max(self._reach_ms.values(), default=0) - self.recorder.rebuild_ms

    def reach_ms(self, selector_key: str) -> int:
        """How far back the window of a selector is kept."""
        return self._reach_ms[selector_key]

    def held_from_ms(self, selector_key: str) -> int:
        """The oldest time of which the window of a selector holds everything that came."""
        return self._held_from_ms[selector_key]

    def admits_from_ms(self, source: str) -> int:
        """Events of a source that are older than this are late."""
        return self.watermark_ms if source in self._sources else NEVER

    def matched(self, source: str, selector_key: str, due_ms: Times) -> None:
        """Note that a source sent matching events; `due_ms` are the times at which they can first be seen whole."""
        self._newcomers.add(source)
        self.due(selector_key, due_ms)

    def due(self, selector_key: str, due_ms: Times) -> None:
        """Have the alerting rules that read a selector evaluated at the times of its new events."""
        for index in self._readers.get(selector_key, ()):
            self._eager[index].add(np.maximum(due_ms + self.rules.query_offset_ms, self.watermark_ms))

    def progress(self, marks: Mapping[str, SourceMark], others_ms: int) -> None:
        """Move the watermark; `others_ms` is how far the shard's live sources are that send what the group reads."""
        self._sources |= self._newcomers
        self._newcomers.clear()
        heard_ms = max((mark.heard_ms for mark in marks.values()), default=NEVER)
        own = [marks[source] for source in self._sources if source in marks]
        live = [m.watermark_ms for m in own if m.heard_ms >= heard_ms - self._config.source_idle_ms]
        bounds = [group.watermark_ms for group in self._waits_for]
        if live:
            bounds.append(min(live))
        elif not bounds:
            bounds.append(others_ms)
        self.watermark_ms = max(self.watermark_ms, min(bounds))

    def advance(self, received_ms: int) -> Advance:
        """Evaluate everything that lies before the watermark and was not evaluated yet."""
        result = Advance(self._end_removed(received_ms))
        due = self._due()
        self._ahead = self._look_ahead(due)
        for at_ms, index in due:
            rule = self.rules.rules[index]
            try:
                if isinstance(rule, RecordRule):
                    self._record(index, rule, at_ms)
                elif at_ms > self.evaluated_ms:  # else done before a restart; the windows are being filled again
                    result.transitions += self._judge(index, rule, at_ms, received_ms)
                self.failed.pop(index, None)
            except Exception as error:  # whatever it raises, as the rules are the user's
                reason = str(error) if isinstance(error, EvaluationError) else f"{type(error).__name__}: {error}"
                self.failed[index] = RuleFailure(f"{rule.group}/{rule.name}", at_ms, reason)
                result.failures.append(self.failed[index])
        if self.watermark_ms != NEVER:
            self.evaluated_ms = max(self.evaluated_ms, self.watermark_ms - 1)
        result.recorded = self.recorder.take(self.watermark_ms, received_ms)
        self._evict()
        return result

    def _due(self) -> list[tuple[int, int]]:
        due = {(t_ms, index) for index, eager in self._eager.items() for t_ms in eager.take(self.watermark_ms)}
        due.update((t_ms, index) for t_ms in self._ticks() for index in range(len(self.rules.rules)))
        return sorted(due)

    def _ticks(self) -> range:
        if self.watermark_ms == NEVER:
            return range(0)
        interval_ms = self.rules.interval_ms
        if self._next_tick_ms is None:
            self._next_tick_ms = -(-self.watermark_ms // interval_ms) * interval_ms
        ticks = range(self._next_tick_ms, self.watermark_ms, interval_ms)
        self._next_tick_ms += len(ticks) * interval_ms
        return ticks

    def _look_ahead(self, due: Sequence[tuple[int, int]]) -> dict[int, Callable[[int], Vector]]:
        """The rules that are due several times and read nothing that is recorded meanwhile, by their place."""
        times: defaultdict[int, list[int]] = defaultdict(list)
        for at_ms, index in due:
            times[index].append(at_ms - self.rules.query_offset_ms)
        found: dict[int, Callable[[int], Vector]] = {}
        for index, several in times.items():
            expression = self.rules.rules[index].expression
            recorded = any(self.producers.get(selector.key) for selector in expression.selectors)
            if len(several) > 1 and not recorded and isinstance(expression, Ahead):
                found[index] = expression.ahead(self.windows, several)
        return found

    def _query(self, index: int, rule: Rule, at_ms: int) -> Vector:
        evaluate = self._ahead.get(index) or partial(rule.expression.evaluate, self.windows)
        vector = evaluate(at_ms - self.rules.query_offset_ms)
        if self.rules.limit and len(vector.labels) > self.rules.limit:
            what = "alerts" if isinstance(rule, AlertRule) else "series"
            raise EvaluationError(f"{len(vector.labels)} {what} exceed the group's limit of {self.rules.limit}")
        return vector

    def _record(self, index: int, rule: RecordRule, at_ms: int) -> None:
        vector = self._query(index, rule, at_ms)
        aloud = at_ms > self.evaluated_ms
        self.recorder.record(rule, at_ms - self.rules.query_offset_ms, vector, aloud=aloud)

    def _judge(self, index: int, rule: AlertRule, at_ms: int, received_ms: int) -> list[Transition]:
        # A copy moves, and counts only if all went well: a failing rule keeps its alerts and loses no transition.
        moving = {mark: msgspec.structs.replace(alert) for mark, alert in self.active[index].items()}
        transitions = self._evaluate(index, rule, moving, at_ms, received_ms)
        had, self.active[index] = bool(self.active[index]), moving
        if (had or moving) and (transitions or at_ms % self.rules.interval_ms == 0):
            self._record_alerts(index, rule, at_ms, aloud=True)
        return transitions

    def _record_alerts(self, index: int, rule: AlertRule, at_ms: int, *, aloud: bool) -> None:
        states = [(alert.labels, alert.state, alert.active_since_ms) for alert in self.active[index].values()]
        series, values = alert_series(rule, states)
        self.recorder.write(rule.key, at_ms - self.rules.query_offset_ms, series, values, aloud=aloud)

    def _evaluate(
        self, index: int, rule: AlertRule, active: dict[str, ActiveAlert], at_ms: int, received_ms: int
    ) -> list[Transition]:
        vector = self._query(index, rule, at_ms)
        if not len(vector.labels) and not active:
            return []
        samples = [self._sample(rule, labels, value, at_ms) for labels, value in _elements(vector)]
        present = {fingerprint(sample.labels) for sample in samples}
        gone = missing(active, present)
        no_data = {mark: self._data_vanished(rule, active[mark].series, at_ms) for mark in gone}
        changes = advance(rule, active, Result(at_ms, samples), no_data)
        return [self._transition(rule, change, at_ms, received_ms) for change in changes]

    def _sample(self, rule: AlertRule, series: Labels, value: float, at_ms: int) -> Sample:
        external, url = dict(self._config.external_labels), self._config.external_url
        seen_ms = at_ms - self.rules.query_offset_ms

        def query(text: str) -> list[tuple[Labels, float]]:
            return self.answer(rule, text, seen_ms)

        def expand(template: Template) -> str:
            return template.expand(series, value, external, external_url=url, query=query, now_ms=at_ms)

        annotations = {name: expand(template) for name, template in rule.annotations.items()}
        return Sample(alert_labels(rule, series, expand), series, annotations, value)

    def _transition(self, rule: AlertRule, change: Change, at_ms: int, received_ms: int) -> Transition:
        evidence = []
        if change.alert.state in ("pending", "firing"):
            seen_ms = at_ms - self.rules.query_offset_ms
            evidence = rule.expression.evidence(self.windows, seen_ms, change.alert.series, self._config.evidence_limit)
        return transition(rule, change, at_ms, evidence, received_ms)

    def _data_vanished(self, rule: Rule, series: Labels, at_ms: int, asked: tuple[str, ...] = ()) -> bool:
        """Whether an alert is gone because its data is: then nothing is known about its condition (Safety 5).

        That is so when the series of one selector have ended, or none of the selectors has any. A recorded series
        may also end because the rule that records it said so: then it is that rule's data that counts.
        """
        found: set[Presence] = set()
        for selector in rule.expression.selectors:
            if selector.kind != "metrics":
                continue
            presence = self.windows[selector.key].presence(at_ms - self.rules.query_offset_ms, series)
            producers = [(group, made) for group, made in self.producers.get(selector.key, ()) if made.key not in asked]
            if presence != "live" and producers:
                lost = any(group._data_vanished(made, series, at_ms, (*asked, made.key)) for group, made in producers)
                presence = "vanished" if lost else "live"
            found.add(presence)
        return "vanished" in found or (bool(found) and "live" not in found)

    def _end_removed(self, received_ms: int) -> list[Transition]:
        """Alerts that an earlier run left of rules that are no longer there: they end, and say why."""
        ended, self._removed = self._removed, []
        return [removed(self.rules.name, alert, self.evaluated_ms, received_ms) for alert in ended]

    def _evict(self) -> None:
        for key, window in self.windows.items():
            reach_ms = self._reach_ms[key]
            if self.watermark_ms >= self._evicted_ms[key] + max(1_000, reach_ms // _EVICTIONS_A_WINDOW):
                self._evicted_ms[key] = self.watermark_ms
                window.evict(self.watermark_ms - reach_ms)
                self._held_from_ms[key] = max(self._held_from_ms[key], self.watermark_ms - reach_ms)


def _no_answer(rule: AlertRule, text: str, at_ms: int) -> list[tuple[Labels, float]]:
    raise TemplateError("there is nothing here to query")


def _elements(vector: Vector) -> list[tuple[Labels, float]]:
    return list(zip(vector.labels, vector.values.tolist(), strict=True))


def _removed(group: RuleGroup, snapshot: GroupSnapshot | None) -> list[ActiveAlert]:
    known = {rule.key for rule in group.rules}
    alerts = snapshot.alerts if snapshot else {}
    return [alert for key in sorted(alerts) if key not in known for alert in alerts[key].values()]


encode_snapshot = msgspec.json.Encoder().encode
decode_snapshot = msgspec.json.Decoder(dict[str, GroupSnapshot]).decode


def times_ms(values: Sequence[int]) -> Times:
    """Event times as a column."""
    return np.asarray(values, np.int64)
