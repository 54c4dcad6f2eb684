"""Metric names that go at the end of an evaluation instead of at once: Prometheus's *delayed name removal*.

An operation that changes what a value means (`rate`, `* 2`) takes the metric name from its result. With this option the
name stays and is only marked as leaving, so that `label_replace` can still read or keep it and aggregations can group
by it; when the whole expression is evaluated, marked names go, and only then are two equal label sets an error.

The option is a property of the data: a selector marks its series (`delayed`), and every set derived from them carries
the marks on. Reference: Prometheus `promql/engine.go` (`DropName`), also where that forgets a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from engine.core.labels import Labels
from engine.core.series import METADATA, Mask, Rows, SeriesSet
from engine.vector.values import InstantVector, unique


class DelayedNames(SeriesSet):
    """Series of which the names of the rows `leaving` go at the end."""

    def __init__(
        self,
        labels: Sequence[Labels],
        leaving: Mask,
        *,
        distinct: bool | None = None,
        keys: Sequence[bytes] | SeriesSet | None = None,
    ) -> None:
        super().__init__(labels, distinct=distinct, keys=keys)
        self.leaving = leaving

    def without_name(self) -> SeriesSet:
        """The same rows, all names leaving."""
        return self.memo("leaving", lambda: self.marked(np.ones(len(self), dtype=np.bool_)))

    def grouped(self, names: tuple[str, ...], *, by: bool) -> tuple[Rows, SeriesSet]:
        """As `SeriesSet.grouped`; the name of a group leaves if that of any of its rows does."""
        ids, groups = super().grouped(names, by=by)

        def build() -> SeriesSet:
            leaving = np.bincount(ids[self.leaving], minlength=len(groups)) > 0
            return DelayedNames(groups.labels, leaving, distinct=True)

        return ids, self.memo(("delayed groups", names, by), build)

    def mapped(self, key: Hashable, change: Callable[[Labels], Labels]) -> SeriesSet:
        """The same rows with changed labels; `key` names the change."""

        def build() -> SeriesSet:
            return DelayedNames([change(labels) for labels in self.labels], self.leaving, keys=self)

        return self.memo(("delayed mapped", key), build)

    def marked(self, leaving: Mask) -> DelayedNames:
        """The same rows with other marks."""
        return DelayedNames(self.labels, leaving, distinct=self._distinct, keys=self)


def delayed(series: SeriesSet) -> SeriesSet:
    """The series of a selector, with names that are to leave late, and none leaving yet."""
    return series.memo("delayed", lambda: DelayedNames(series.labels, _none(series), distinct=True, keys=series))


def leaving(series: SeriesSet) -> Mask:
    """The rows whose name goes at the end: none where names go at once."""
    return series.leaving if isinstance(series, DelayedNames) else _none(series)


def like(series: SeriesSet, others: Sequence[SeriesSet], marks: Mask) -> SeriesSet:
    """A set made from others: if names go late in any of them, also in it, marked so."""
    if not any(isinstance(other, DelayedNames) for other in others):
        return series
    return DelayedNames(series.labels, marks, distinct=series._distinct, keys=series)


def kept(series: SeriesSet, origin: SeriesSet) -> SeriesSet:
    """A set made from another of which no name leaves, whatever the other's do."""
    return like(series, [origin], _none(series))


def joined(left: SeriesSet, right: SeriesSet) -> SeriesSet:
    """The rows of one set followed by those of another."""
    both = left.joined(right)
    return both.memo("delayed", lambda: like(both, [left, right], np.concatenate([leaving(left), leaving(right)])))


def renamed(before: SeriesSet, after: SeriesSet) -> SeriesSet:
    """A mapped set of which the changed rows have a name of their own choice: that stays."""
    if not isinstance(after, DelayedNames):
        return after
    same = [old is new for old, new in zip(before.labels, after.labels, strict=True)]
    return after.memo("renamed", lambda: after.marked(after.leaving & np.array(same, dtype=np.bool_)))


def without(series: SeriesSet) -> SeriesSet:
    """The set without the names that are leaving."""
    if not isinstance(series, DelayedNames):
        return series

    def build() -> SeriesSet:
        if not series.leaving.any():
            return series
        pairs = zip(series.labels, series.leaving, strict=True)
        bare = [{n: v for n, v in labels.items() if not (go and n in METADATA)} for labels, go in pairs]
        return SeriesSet(bare, keys=series)

    return series.memo("left", build)


def final(vector: InstantVector) -> InstantVector:
    """The result of an evaluation. Raises `EvaluationError` where the leaving names make two label sets equal."""
    return unique(InstantVector(without(vector.series), vector.values, vector.present, vector.order))


def _none(series: SeriesSet) -> Mask:
    return np.zeros(len(series), dtype=np.bool_)
