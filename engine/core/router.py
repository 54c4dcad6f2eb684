"""The router: which rule shards want which part of a batch.

`Router.route` keeps of a batch what some rule's selector asks for and addresses it to the shard that owns the rule. A
shard that reads this kind of event but wants nothing of this batch still gets it, emptied: its watermark must move.
A sample that no rule asks for goes no further; that is counted, since it is the expected fate of most samples. Only a
block of series is not taken apart when the greater part of it is wanted: the rest goes along, and the step leaves it.

The next module in the flow is `core.step`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from engine.core import labels as label_sets
from engine.core.blocks import is_block, unpack
from engine.core.caches import RecentCache
from engine.core.expression import Selector
from engine.core.messages import Batch, LogBatch, LogStream, MetricBatch, RuleInput, pack
from engine.core.recording import together
from engine.core.rules import RuleGroup

_CACHE_LIMIT = 1_000_000


def shard_of(group_key: str, shards: int) -> int:
    """The shard that owns a rule group that keeps no company: a hash of its key, so that every process agrees."""
    return zlib.crc32(group_key.encode()) % shards


def by_shard(groups: Iterable[RuleGroup], shards: int) -> dict[int, list[RuleGroup]]:
    """The rule groups of every shard that has any; groups that read each other's records share one."""
    given = list(groups)
    company = together(given)
    out: dict[int, list[RuleGroup]] = {}
    for group in given:
        out.setdefault(shard_of(company[group.key], shards), []).append(group)
    return out


class _Known(Struct, frozen=True):
    """A series or a block: how many series, how many no shard wants, and which of them each shard gets (None: all)."""

    count: int
    unwanted: int
    labels: tuple[bytes, ...]
    wanted: dict[int, tuple[int, ...] | None]


class _Pick:
    """What one shard gets of a batch, as it is gathered; `rows` are indexes of values."""

    def __init__(self) -> None:
        self.series: list[Raw] = []
        self.t_ms: list[int] = []
        self.rows: list[int] = []

    def take(self, series: Iterable[Raw], t_ms: int, rows: Sequence[int]) -> None:
        """Some samples of one time; a block counts as one series with several rows."""
        before = len(self.series)
        self.series += series
        self.t_ms += [t_ms] * (len(self.series) - before)
        self.rows += rows


class Router:
    """Routes batches for a set of rule groups."""

    def __init__(self, groups: Iterable[RuleGroup], shards: int) -> None:
        owned = by_shard(groups, shards)
        self._metrics = _selectors(owned, "metrics")
        self._logs = _selectors(owned, "logs")
        self._known: RecentCache[bytes, _Known] = RecentCache(_CACHE_LIMIT)
        self._singles: dict[tuple[int, ...], _Known] = {}
        self._streams: RecentCache[bytes, tuple[int, ...]] = RecentCache(_CACHE_LIMIT)
        self.unwanted = 0
        """How many samples and lines so far no rule asked for."""

    def route(self, batch: Batch) -> list[RuleInput]:
        """One message for every shard that reads this kind of event, in shard order.

        Where a shard wants all of a batch, its message carries that very object. Raises `ValueError` for a batch whose
        blocks do not hold as many series as there are values.
        """
        if isinstance(batch, MetricBatch):
            return self._route_metrics(batch)
        return self._route_logs(batch)

    def _route_metrics(self, batch: MetricBatch) -> list[RuleInput]:
        known = self._known.get
        elements = [known(element) or self._learn(element) for element in map(bytes, batch.series)]
        series = sum(element.count for element in elements)
        if series != batch.count:
            raise ValueError(f"{series} series and {batch.count} values")
        self.unwanted += sum(element.unwanted for element in elements)
        return [RuleInput(shard, _part(batch, elements, shard)) for shard in self._metrics]

    def _learn(self, element: bytes) -> _Known:
        known = self._block(element) if is_block(element) else self._single(element)
        self._known.put(element, known)
        return known

    def _single(self, element: bytes) -> _Known:
        wanted = _shards(element, self._metrics)
        return self._singles.setdefault(wanted, _Known(1, not wanted, (), dict.fromkeys(wanted)))

    def _block(self, element: bytes) -> _Known:
        labels = [label_sets.encode(one) for one in unpack(element)]
        found: dict[int, list[int]] = {}
        for i, key in enumerate(labels):
            for shard in _shards(key, self._metrics):
                found.setdefault(shard, []).append(i)
        # A block of which a shard wants the greater part goes to it whole: that is cheaper than taking it apart.
        wanted = {shard: None if len(rows) * 2 > len(labels) else tuple(rows) for shard, rows in found.items()}
        in_part = any(rows is not None for rows in wanted.values())
        unwanted = len(labels) - len({i for rows in found.values() for i in rows})
        return _Known(len(labels), unwanted, tuple(labels) if in_part else (), wanted)

    def _route_logs(self, batch: LogBatch) -> list[RuleInput]:
        streams: dict[int, list[LogStream]] = {shard: [] for shard in self._logs}
        for stream in batch.streams:
            labels = bytes(stream.labels)
            wanted = self._streams.get(labels)
            if wanted is None:
                wanted = _shards(labels, self._logs)
                self._streams.put(labels, wanted)
            for shard in wanted:
                streams[shard].append(stream)
            self.unwanted += 0 if wanted else len(stream.entries)
        return [RuleInput(shard, msgspec.structs.replace(batch, streams=chosen)) for shard, chosen in streams.items()]


def _selectors(owned: Mapping[int, Sequence[RuleGroup]], kind: str) -> dict[int, list[Selector]]:
    out: dict[int, list[Selector]] = {}
    for shard in sorted(owned):
        found = {
            selector.key: selector for group in owned[shard] for selector in group.selectors if selector.kind == kind
        }
        if found:
            out[shard] = list(found.values())
    return out


def _shards(key: bytes, selectors: Mapping[int, Sequence[Selector]]) -> tuple[int, ...]:
    labels = label_sets.decode(key)
    return tuple(shard for shard, wanted in selectors.items() if any(one.matches(labels) for one in wanted))


def _part(batch: MetricBatch, elements: Sequence[_Known], shard: int) -> MetricBatch:
    """What a shard gets of a batch: that itself if all, else a copy of a part (raw label bytes untouched)."""
    wanted = [element.wanted.get(shard, ()) for element in elements]
    if all(rows is None for rows in wanted):
        return batch
    pick, row = _Pick(), 0
    for raw, t_ms, element, rows in zip(batch.series, batch.t_ms, elements, wanted, strict=True):
        if rows is None:
            pick.take((raw,), t_ms, range(row, row + element.count))
        elif rows:
            pick.take((Raw(element.labels[i]) for i in rows), t_ms, [row + i for i in rows])
        row += element.count
    values = pack(batch.numbers[pick.rows])
    return msgspec.structs.replace(batch, series=pick.series, t_ms=pick.t_ms, values=values)
