"""Recorded series: what recording rules give, and `ALERTS` and `ALERTS_FOR_STATE`, fed back to whoever reads them.

A recorded sample goes straight into the windows of the rules that read it, within the same step, so that a rule sees
what an earlier rule of its group recorded at the very same time, as in Prometheus. Groups that read what another group
records therefore live in one shard (`together`) and are worked through in the order of their dependence (`in_order`);
a reader never moves past the groups it reads from. Groups that read each other in a circle do not wait for each other.

Nothing recorded has to be stored for a restart: raw input is read again from far enough back that the recording rules
make it anew (`Recorder.rebuild_ms`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Raw, Struct

from engine.core import labels as label_sets
from engine.core.batching import Samples, label_sizes, split_samples
from engine.core.expression import EvaluationError, Selector, Times, Values, Vector
from engine.core.labels import Labels
from engine.core.messages import MetricBatch, pack
from engine.core.rules import AlertRule, RecordRule, Rule, RuleGroup
from engine.core.window import STALE

if TYPE_CHECKING:
    from engine.core.group import Group

ALERTS, ALERTS_FOR_STATE = "ALERTS", "ALERTS_FOR_STATE"
SOURCE_PREFIX = "rules/"
CACHE_LIMIT = 200_000


class Output(Struct, frozen=True):
    """The series a rule makes, as far as its text tells: these labels are certain, others may be added."""

    name: str
    labels: Mapping[str, str]


def outputs(rule: Rule) -> tuple[Output, ...]:
    """What a rule records."""
    if isinstance(rule, RecordRule):
        return (Output(rule.name, rule.labels),)
    known = {"alertname": rule.name}
    return (Output(ALERTS, known), Output(ALERTS_FOR_STATE, known))


def may_read(selector: Selector, output: Output) -> bool:
    """Whether a selector can match some series of an output."""
    if selector.kind != "metrics":
        return False
    certain = {"__name__": output.name, **output.labels}
    return selector.matches.matches_known(certain)


def reads_from(groups: Sequence[RuleGroup]) -> dict[str, set[str]]:
    """For every group (by key) the groups whose records it may read, perhaps itself."""
    made: dict[str, list[tuple[str, Output]]] = {}
    for group in groups:
        for rule in group.rules:
            for output in outputs(rule):
                made.setdefault(output.name, []).append((group.key, output))
    found: dict[str, set[str]] = {}
    for group in groups:
        found[group.key] = {
            key
            for selector in group.selectors
            for name in _names(selector, made)
            for key, output in made[name]
            if may_read(selector, output)
        }
    return found


def _names(selector: Selector, made: Mapping[str, object]) -> Iterable[str]:
    """The recorded names that a selector may mean: nearly always the one it asks for."""
    named = next((one.value for one in selector.matches.matchers if one.name == "__name__" and one.op == "="), None)
    if named is None:
        return made
    return (named,) if named in made else ()


def together(groups: Sequence[RuleGroup]) -> dict[str, str]:
    """For every group (by key) the name of the company it must keep: the smallest key of all that are connected."""
    leader = {group.key: group.key for group in groups}

    def find(key: str) -> str:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for key, producers in reads_from(groups).items():
        for producer in producers:
            one, other = sorted((find(key), find(producer)))
            leader[other] = one
    return {key: find(key) for key in leader}


def in_order(groups: Sequence[RuleGroup]) -> list[tuple[RuleGroup, frozenset[str]]]:
    """The groups, producers before readers, each with the groups (by key) that it waits for.

    Where groups read each other in a circle, the one that comes first in the given order does not wait.
    """
    needs = {key: producers - {key} for key, producers in reads_from(groups).items()}
    left = list(groups)
    done: set[str] = set()
    result: list[tuple[RuleGroup, frozenset[str]]] = []
    while left:
        group = next((one for one in left if needs[one.key] <= done), left[0])
        left.remove(group)
        result.append((group, frozenset(needs[group.key] & done)))
        done.add(group.key)
    return result


def circles(groups: Sequence[RuleGroup]) -> list[tuple[RuleGroup, tuple[str, ...]]]:
    """Groups that do not wait for some group they read from, with the keys of those groups."""
    needs = reads_from(groups)
    found = []
    for group, waits_for in in_order(groups):
        ignored = needs[group.key] - {group.key} - waits_for
        if ignored:
            found.append((group, tuple(sorted(ignored))))
    return found


@dataclass
class Recorder:
    """The recorded series of one group: who reads them, and what was recorded since it was last asked."""

    group_key: str
    readers: list[tuple[Group, Selector]] = field(default_factory=list)
    rebuild_ms: int = 0
    """How far back readers, and their readers, look at what this group records."""
    _before: dict[str, dict[bytes, None]] = field(default_factory=dict)
    _wanted: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    _made: dict[tuple[str, int], tuple[Labels, bytes]] = field(default_factory=dict)
    _out: list[tuple[list[bytes], int, Values]] = field(default_factory=list)

    def read_by(self, reader: Group, selector: Selector) -> None:
        """Note a reader, once."""
        if (reader, selector) not in self.readers:
            self.readers.append((reader, selector))

    def write(self, rule_key: str, at_ms: int, series: Sequence[bytes], values: Values, *, aloud: bool) -> None:
        """Record the series of one rule at one time; those it had before and has no more are marked stale.

        What is not said `aloud` fills windows only: it was said before a restart.
        """
        before, now = self._before.get(rule_key, {}), dict.fromkeys(series)
        gone = [key for key in before if key not in now]
        self._before[rule_key] = now
        keys = [*series, *gone]
        if not keys:
            return
        all_values = np.concatenate([values, np.full(len(gone), STALE)])
        self._feed(keys, at_ms, all_values)
        if aloud:
            self._out.append((keys, at_ms, all_values))

    def record(self, rule: RecordRule, at_ms: int, vector: Vector, *, aloud: bool) -> None:
        """Record the result of a recording rule. Raises `EvaluationError` if two series would be one."""
        series = [self._key_of(rule, labels) for labels in vector.labels]
        if len(set(series)) != len(series):
            raise EvaluationError("vector contains metrics with the same labelset after applying rule labels")
        self.write(rule.key, at_ms, series, vector.values, aloud=aloud)

    def _key_of(self, rule: RecordRule, labels: Labels) -> bytes:
        """The label bytes of a recorded series; label sets are the same objects from one evaluation to the next."""
        known = self._made.get((rule.key, id(labels)))
        if known is None or known[0] is not labels:
            if len(self._made) > CACHE_LIMIT:
                self._made.clear()
            key = label_sets.encode({**labels, "__name__": rule.name, **rule.labels})
            known = self._made[rule.key, id(labels)] = (labels, key)
        return known[1]

    def take(self, watermark_ms: int, received_ms: int) -> list[MetricBatch]:
        """What was recorded since the last call, as batches for the topic `recorded`."""
        taken, self._out = self._out, []
        if not taken:
            return []
        samples = Samples(
            [key for keys, _, _ in taken for key in keys],
            np.concatenate([np.full(len(keys), at_ms, np.int64) for keys, at_ms, _ in taken]),
            np.concatenate([values for _, _, values in taken]),
        )
        batches = []
        for number, piece in enumerate(split_samples(samples, label_sizes(samples)), 1):
            head = (SOURCE_PREFIX + self.group_key, watermark_ms, number, watermark_ms, received_ms)
            batches.append(MetricBatch(*head, list(map(Raw, piece.series)), piece.t_ms.tolist(), pack(piece.values)))
        return batches

    def adopt(self, old: Recorder) -> None:
        """Go on from another recorder of the same group."""
        self._before = old._before

    def _feed(self, keys: list[bytes], at_ms: int, values: Values) -> None:
        if not self.readers:
            return
        rows_of: dict[int, list[int]] = {}
        for row, key in enumerate(keys):
            for index in self._match(key):
                rows_of.setdefault(index, []).append(row)
        for index, rows in rows_of.items():
            group, selector = self.readers[index]
            times: Times = np.full(len(rows), at_ms, np.int64)
            group.windows[selector.key].append([keys[row] for row in rows], times, values[rows])
            if group.rules.key != self.group_key:
                group.due(selector.key, times)

    def _match(self, key: bytes) -> tuple[int, ...]:
        wanted = self._wanted.get(key)
        if wanted is None:
            if len(self._wanted) > CACHE_LIMIT:
                self._wanted.clear()
            labels = label_sets.decode(key)
            wanted = tuple(i for i, (_, selector) in enumerate(self.readers) if selector.matches(labels))
            self._wanted[key] = wanted
        return wanted


def connect(groups: Iterable[Group]) -> None:
    """Tell every group's recorder who in the shard reads what it records; groups stand in the order of `in_order`."""
    ordered = list(groups)
    made: dict[str, list[tuple[Group, Rule, Output]]] = {}
    for group in ordered:
        for rule in group.rules.rules:
            for output in outputs(rule):
                made.setdefault(output.name, []).append((group, rule, output))
    for reader in ordered:
        for selector in reader.selectors:
            for name in _names(selector, made):
                for group, rule, output in made[name]:
                    if may_read(selector, output):
                        group.recorder.read_by(reader, selector)
                        reader.produced_by(selector, group, rule)
    for group in reversed(ordered):  # readers first: a producer has to know how far back they look
        if any(isinstance(rule, RecordRule) for rule in group.rules.rules):
            group.recorder.rebuild_ms = max((_looks_back_ms(group, *one) for one in group.recorder.readers), default=0)


def _looks_back_ms(group: Group, reader: Group, selector: Selector) -> int:
    return reader.reach_ms(selector.key) + (0 if reader is group else reader.recorder.rebuild_ms)


def alert_series(rule: AlertRule, states: Iterable[tuple[Mapping[str, str], str, int]]) -> tuple[list[bytes], Values]:
    """`ALERTS` and `ALERTS_FOR_STATE` of a rule's active alerts, given as (labels, state, active since in ms)."""
    keys, values = [], []
    for labels, state, since_ms in states:
        keys.append(label_sets.encode({**labels, "__name__": ALERTS, "alertname": rule.name, "alertstate": state}))
        values.append(1.0)
        keys.append(label_sets.encode({**labels, "__name__": ALERTS_FOR_STATE, "alertname": rule.name}))
        values.append(since_ms // 1000)
    return keys, np.asarray(values, np.float64)
