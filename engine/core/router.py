"""The router: which rule shards want which part of a batch.

`Router.route` keeps of a batch what some rule's selector asks for and addresses it to the shard that owns the rule. A
shard that reads this kind of event but wants nothing of this batch still gets it, emptied: its watermark must move.
A sample that no rule asks for goes no further; that is counted, since it is the expected fate of most samples.

The next module in the flow is `core.step`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.expression import Selector
from engine.core.messages import Batch, LogBatch, LogStream, MetricBatch, RuleInput
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


class Router:
    """Routes batches for a set of rule groups."""

    def __init__(self, groups: Iterable[RuleGroup], shards: int) -> None:
        owned = by_shard(groups, shards)
        self._metrics = _selectors(owned, "metrics")
        self._logs = _selectors(owned, "logs")
        self._series_cache: dict[bytes, tuple[int, ...]] = {}
        self._stream_cache: dict[bytes, tuple[int, ...]] = {}

    def route(self, batch: Batch) -> list[RuleInput]:
        """One message for every shard that reads this kind of event, in shard order."""
        if isinstance(batch, MetricBatch):
            return self._route_metrics(batch)
        return self._route_logs(batch)

    def _route_metrics(self, batch: MetricBatch) -> list[RuleInput]:
        rows: dict[int, list[int]] = {shard: [] for shard in self._metrics}
        for row, raw in enumerate(batch.series):
            for shard in _wanted(bytes(raw), self._metrics, self._series_cache):
                rows[shard].append(row)
        return [RuleInput(shard, _pick(batch, chosen)) for shard, chosen in rows.items()]

    def _route_logs(self, batch: LogBatch) -> list[RuleInput]:
        streams: dict[int, list[LogStream]] = {shard: [] for shard in self._logs}
        for stream in batch.streams:
            for shard in _wanted(bytes(stream.labels), self._logs, self._stream_cache):
                streams[shard].append(stream)
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


def _wanted(
    key: bytes, selectors: Mapping[int, Sequence[Selector]], cache: dict[bytes, tuple[int, ...]]
) -> tuple[int, ...]:
    shards = cache.get(key)
    if shards is None:
        if len(cache) >= _CACHE_LIMIT:
            cache.clear()
        labels = label_sets.decode(key)
        shards = cache[key] = tuple(
            shard for shard, wanted in selectors.items() if any(selector.matches(labels) for selector in wanted)
        )
    return shards


def _pick(batch: MetricBatch, rows: Sequence[int]) -> MetricBatch:
    """A batch with only these rows (raw label bytes untouched)."""
    if len(rows) == len(batch.series):
        return batch
    series: list[Raw] = [batch.series[row] for row in rows]
    special = batch.special
    if special:
        special = {str(new): special[str(old)] for new, old in enumerate(rows) if str(old) in special}
    return msgspec.structs.replace(
        batch,
        series=series,
        t_ms=[batch.t_ms[row] for row in rows],
        values=[batch.values[row] for row in rows],
        special=special,
    )
