"""How the samples of a batch get into the windows of a shard.

The same series come again and again, most of them in blocks (`core.blocks`). What a block means for this shard is
worked out when it is first seen: which selectors want which of its series, and in which rows of their windows those
stand. After that a block costs one look-up, and the samples of all blocks that go into one window are written at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.core import labels as label_sets
from engine.core.blocks import BLOCK, unpack
from engine.core.caches import RecentCache
from engine.core.expression import Selector, Times, Values
from engine.core.group import Group, times_ms
from engine.core.messages import MetricBatch
from engine.core.series import Mask, Rows
from engine.core.window import MetricWindow

_SERIES_LIMIT, _BLOCK_LIMIT = 500_000, 50_000


@dataclass(frozen=True)
class Columns:
    """Samples in columns: series `keys[rows[i]]` (label bytes) had `values[i]` at `t_ms[i]`; `STALE` marks an end."""

    keys: Sequence[bytes]
    rows: Rows
    t_ms: Times
    values: Values


@dataclass(slots=True)
class _Part:
    """The series of a block that one selector wants: `places` in the block, `keys`, and their `rows` in its window."""

    index: int
    places: Rows
    keys: Sequence[bytes]
    rows: Rows
    version: int = -1

    def rows_in(self, window: MetricWindow) -> Rows:
        """The rows; looked up again when the window has moved any."""
        if self.version != window.version:
            self.rows = window.rows(self.keys)
            self.keys = window.keys(self.rows)  # the window's own objects: a label set is held once
            self.version = window.version
        return self.rows


@dataclass(frozen=True, slots=True)
class _Block:
    count: int
    parts: tuple[_Part, ...]


def _rows(window: MetricWindow, columns: Columns, chosen: Rows) -> Rows:
    """The window's rows of the series of some samples; each series is looked up once."""
    numbers = columns.rows[chosen]
    row_of = np.full(len(columns.keys), -1, dtype=np.intp)
    row_of[numbers] = 0
    named = np.flatnonzero(row_of == 0)
    row_of[named] = window.rows([columns.keys[number] for number in named.tolist()])
    return row_of[numbers]


@dataclass(slots=True)
class _Picked:
    """What one selector gets of a batch; `at` are places in the batch's values."""

    parts: list[tuple[_Part, int, int]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    t_ms: list[int] = field(default_factory=list)

    def times(self) -> Times:
        """The times of single series, then of parts of blocks."""
        return times_ms([*self.t_ms, *(t_ms for _, _, t_ms in self.parts)])

    def drop_before(self, from_ms: int) -> int:
        """Leave out what is older; how many samples that were."""
        before = len(self.t_ms) + sum(len(part.places) for part, _, _ in self.parts)
        self.parts = [one for one in self.parts if one[2] >= from_ms]
        kept = [i for i, t_ms in enumerate(self.t_ms) if t_ms >= from_ms]
        self.keys, self.at = [self.keys[i] for i in kept], [self.at[i] for i in kept]
        self.t_ms = [self.t_ms[i] for i in kept]
        return before - len(kept) - sum(len(part.places) for part, _, _ in self.parts)


class MetricIntake:
    """Fills the windows of a shard's metric selectors."""

    def __init__(self, selectors: Iterable[tuple[Group, Selector]]) -> None:
        self._targets = [(group, selector, _window(group, selector)) for group, selector in selectors]
        self._series: RecentCache[bytes, tuple[int, ...]] = RecentCache(_SERIES_LIMIT)
        self._blocks: RecentCache[bytes, _Block] = RecentCache(_BLOCK_LIMIT)
        self._asked: tuple[Sequence[bytes], list[Mask]] = ((), [np.zeros(0, dtype=np.bool_) for _ in self._targets])

    def add(self, batch: MetricBatch) -> int:
        """Take a batch; how many samples were kept out as late (counted once for each selector that wanted them).

        Raises `ValueError`, with nothing taken, for a batch whose blocks do not hold as many series as it has values.
        """
        picked = [_Picked() for _ in self._targets]
        place = 0
        for element, t_ms in zip(map(bytes, batch.series), batch.t_ms, strict=True):
            if element[0] == BLOCK:
                block = self._blocks.get(element) or self._learn(element)
                for part in block.parts:
                    picked[part.index].parts.append((part, place, t_ms))
                place += block.count
            else:
                for index in self._wanted(element):
                    target = picked[index]
                    target.keys.append(element)
                    target.at.append(place)
                    target.t_ms.append(t_ms)
                place += 1
        if place != batch.count:
            raise ValueError(f"{place} series and {batch.count} values")
        values = batch.numbers
        return sum(
            self._fill(index, chosen, batch.source, values)
            for index, chosen in enumerate(picked)
            if chosen.parts or chosen.at
        )

    def add_columns(self, source: str, columns: Columns) -> int:
        """Take samples that somebody has as columns; how many were kept out as late, counted as in `add`."""
        if columns.keys is not self._asked[0]:  # mostly they are the same ones again
            wanted = list(map(self._wanted, columns.keys))
            masks = [[index in selectors for selectors in wanted] for index in range(len(self._targets))]
            self._asked = columns.keys, [np.array(mask, dtype=np.bool_) for mask in masks]
        late = 0
        for (group, selector, window), asked in zip(self._targets, self._asked[1], strict=True):
            chosen = np.flatnonzero(asked[columns.rows])
            if not len(chosen):
                continue
            timely = chosen[columns.t_ms[chosen] >= group.admits_from_ms(source)]
            late += len(chosen) - len(timely)
            if len(timely):
                window.append_rows(_rows(window, columns, timely), columns.t_ms[timely], columns.values[timely])
            group.matched(source, selector.key, columns.t_ms[timely])
        return late

    def _fill(self, index: int, picked: _Picked, source: str, values: Values) -> int:
        """Append what is timely, tell the group about it, and return how many samples were late."""
        group, selector, window = self._targets[index]
        from_ms, late = group.admits_from_ms(source), 0
        times = picked.times()
        if times.min() < from_ms:
            late = picked.drop_before(from_ms)
            times = picked.times()
        if len(times):
            parts, starts, _ = zip(*picked.parts, strict=True) if picked.parts else ((), (), ())
            places = [part.places for part in parts]
            lengths, singles = list(map(len, places)), len(picked.at)
            at = np.concatenate([times_ms(picked.at), *places])
            at[singles:] += times_ms(starts).repeat(lengths)
            rows = np.concatenate([window.rows(picked.keys), *(part.rows_in(window) for part in parts)])
            t_ms = np.concatenate([times[:singles], times[singles:].repeat(lengths)])
            window.append_rows(rows, t_ms, values[at], at)
        group.matched(source, selector.key, times)
        return late

    def _wanted(self, key: bytes) -> tuple[int, ...]:
        wanted = self._series.get(key)
        if wanted is None:
            labels = label_sets.decode(key)
            wanted = tuple(i for i, (_, selector, _) in enumerate(self._targets) if selector.matches(labels))
            self._series.put(key, wanted)
        return wanted

    def _learn(self, element: bytes) -> _Block:
        labels = unpack(element)
        keys = [label_sets.encode(one) for one in labels]
        parts = []
        for index, (_, selector, _) in enumerate(self._targets):
            places = [place for place, one in enumerate(labels) if selector.matches(one)]
            if places:
                chosen = np.array(places, np.intp)
                parts.append(_Part(index, chosen, [keys[place] for place in places], chosen))
        block = _Block(len(labels), tuple(parts))
        self._blocks.put(element, block)
        return block


def _window(group: Group, selector: Selector) -> MetricWindow:
    window = group.windows[selector.key]
    if not isinstance(window, MetricWindow):
        raise TypeError(f"metric selector {selector.key} has a window that takes no metrics")
    return window
