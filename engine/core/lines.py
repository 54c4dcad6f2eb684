"""The log half of a shard's intake: each line is matched once for all rules, and goes into the windows that want it.

Which selectors want a stream depends on its labels only and is remembered; so is, for each set of selectors that some
stream calls for, the matcher that their language makes of them (`Selector.join`). Selectors with one key in several
groups are matched once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.expression import Extract, LineMatcher, LogWindow, MatchedLines, Selector, Times
from engine.core.group import NEVER, Group, times_ms
from engine.core.labels import Labels
from engine.core.messages import LogBatch, LogEntry
from engine.core.series import Rows

_CACHE_LIMIT = 500_000
_NS_PER_MS = 1_000_000


@dataclass
class _Plan:
    """What is done with the lines of a stream: matchers with the selectors they are made of, and their groups.

    `heard` are the sources that the groups already know.
    """

    matchers: list[tuple[LineMatcher, list[int]]]
    groups: list[Group]
    heard: set[str] = field(default_factory=set)


class LineIntake:
    """Puts log batches into the windows of some groups. `drop` counts events that are kept out, by reason."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._selectors: list[Selector] = []
        self._readers: list[list[Group]] = []
        numbers: dict[str, int] = {}
        for group in groups:
            for selector in group.selectors:
                if selector.kind == "logs":
                    number = numbers.setdefault(selector.key, len(numbers))
                    if number == len(self._selectors):
                        self._selectors.append(selector)
                        self._readers.append([])
                    self._readers[number].append(group)
        self._streams: dict[bytes, tuple[Labels, _Plan]] = {}
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def add(self, batch: LogBatch, drop: Callable[[str, int], None]) -> None:
        """Take the lines of a batch that some selector wants."""
        for stream in batch.streams:
            labels, plan = self._plan(stream.labels)
            if not plan.groups or not stream.entries:
                continue
            self._count_late(batch.source, plan, stream.entries, drop)
            for matcher, numbers in plan.matchers:
                for position, matched in matcher(labels, stream.entries):
                    self._append(batch.source, (numbers[position], matched), (labels, stream.entries), drop)
            if batch.source not in plan.heard:  # known from now on, whether or not a line passed
                plan.heard.add(batch.source)
                for group in plan.groups:
                    group.matched(batch.source, "", times_ms([]))

    def _count_late(
        self, source: str, plan: _Plan, entries: Sequence[LogEntry], drop: Callable[[str, int], None]
    ) -> None:
        for group in plan.groups:
            from_ms = group.admits_from_ms(source)
            if from_ms != NEVER and entries[0].t_ns < from_ms * _NS_PER_MS:  # the oldest stands first
                drop("late", sum(entry.t_ns < from_ms * _NS_PER_MS for entry in entries))

    def _append(
        self,
        source: str,
        found: tuple[int, MatchedLines],
        stream: tuple[Labels, Sequence[LogEntry]],
        drop: Callable[[str, int], None],
    ) -> None:
        """Fill the windows of a selector (by number), and say when the lines can be seen whole."""
        (number, matched), (labels, entries) = found, stream
        key = self._selectors[number].key
        lines = [entries[row] for row in matched.rows]
        series, values = matched.series, np.asarray(matched.values, np.float64)
        t_ns, texts = times_ms([entry.t_ns for entry in lines]), [entry.line for entry in lines]
        due_ms = -(-t_ns // _NS_PER_MS)
        for group in self._readers[number]:
            window = cast(LogWindow, group.windows[key])  # `_make_plan` has looked
            rows = _timely(group, source, t_ns)
            if rows is None:
                refused = window.append_lines(series, t_ns, values, texts, labels)
                group.matched(source, key, due_ms)
            else:
                kept = rows.tolist()
                own, own_texts = [series[i] for i in kept], [texts[i] for i in kept]
                refused = window.append_lines(own, t_ns[rows], values[rows], own_texts, labels)
                group.matched(source, key, due_ms[rows])
            drop("too_many_series", refused)

    def _plan(self, raw: Raw) -> tuple[Labels, _Plan]:
        key = bytes(raw)
        known = self._streams.get(key)
        if known is None:
            if len(self._streams) >= _CACHE_LIMIT:
                self._streams.clear()
            labels = label_sets.decode(key)
            wanted = tuple(i for i, selector in enumerate(self._selectors) if selector.matches(labels))
            if wanted not in self._plans:
                self._plans[wanted] = self._make_plan(wanted)
            known = self._streams[key] = (labels, self._plans[wanted])
        return known

    def _make_plan(self, wanted: tuple[int, ...]) -> _Plan:
        joined: dict[Callable[[Sequence[Extract]], LineMatcher], list[int]] = {}
        groups: dict[int, Group] = {}
        for number in wanted:
            selector = self._selectors[number]
            if selector.join is None:
                raise TypeError(f"log selector {selector.key} has no matcher")
            joined.setdefault(selector.join, []).append(number)
            for group in self._readers[number]:
                groups[id(group)] = group
                if not isinstance(group.windows[selector.key], LogWindow):
                    raise TypeError(f"log selector {selector.key} has a window that takes no lines")
        matchers = [(join(self._pipelines(numbers)), numbers) for join, numbers in joined.items()]
        return _Plan(matchers, list(groups.values()))

    def _pipelines(self, numbers: Sequence[int]) -> list[Extract]:
        found = [self._selectors[number].extract for number in numbers]
        return [extract for extract in found if extract is not None]


def _timely(group: Group, source: str, t_ns: Times) -> Rows | None:
    """Which lines a group still takes; None for all."""
    from_ms = group.admits_from_ms(source)
    if from_ms == NEVER or t_ns.min() >= from_ms * _NS_PER_MS:
        return None
    return np.flatnonzero(t_ns >= from_ms * _NS_PER_MS)
