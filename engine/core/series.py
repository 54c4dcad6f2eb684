"""A fixed set of series, and everything that can be derived from their labels alone.

Evaluating a rule again and again touches the same series with new values. What depends only on labels (grouping,
matching, dropping the name, order) is therefore worked out once per `SeriesSet` and kept in it; values travel beside
it as numpy arrays whose row `i` belongs to `labels[i]`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from engine.core.labels import Labels

Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
T = TypeVar("T")

NAME = "__name__"
METADATA = frozenset({NAME, "__type__", "__unit__"})
"""What a metric is called and measured in: it goes where a value is no longer that of the metric."""


def sort_key(labels: Labels) -> tuple[tuple[str, str], ...]:
    """The order of label sets: by name, then value, pair after pair, as Prometheus sorts series."""
    return tuple(sorted(labels.items()))


class SeriesSet:
    """Label sets in a fixed order. `distinct` says that no two of them are equal.

    `keys`, if given, are distinct and sort the rows: the label bytes of a window, or the set this one comes from.
    """

    def __init__(
        self,
        labels: Sequence[Labels],
        *,
        distinct: bool | None = None,
        keys: Sequence[bytes] | SeriesSet | None = None,
    ) -> None:
        self.labels = labels
        self._distinct = distinct
        self._keys = keys
        self._memo: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def memo(self, key: Hashable, build: Callable[[], T]) -> T:
        """What `build` returned the first time for this key."""
        if key not in self._memo:
            self._memo[key] = build()
        return cast(T, self._memo[key])

    def memo_with(self, key: Hashable, other: SeriesSet, build: Callable[[], T]) -> T:
        """As `memo`, for something that also depends on one other set: only the latest other one is remembered."""
        known = self._memo.get(key)
        if known is None or known[0] is not other:
            known = self._memo[key] = (other, build())
        return cast(T, known[1])

    @property
    def distinct(self) -> bool:
        """Whether no two label sets are equal."""
        if self._distinct is None:
            self._distinct = len(set(map(sort_key, self.labels))) == len(self.labels)
        return self._distinct

    @property
    def ids(self) -> Rows:
        """One number per row; equal label sets have equal numbers."""
        return self.memo("ids", lambda: number(list(map(sort_key, self.labels)))[0])

    @property
    def rank(self) -> Rows:
        """The position of each row in label order."""

        def build() -> Rows:
            order = sorted(range(len(self.labels)), key=list(map(sort_key, self.labels)).__getitem__)
            rank = np.empty(len(order), dtype=np.intp)
            rank[order] = np.arange(len(order))
            return rank

        return self.memo("rank", build)

    @property
    def canonical(self) -> Rows:
        """The rows in an order that does not depend on how they came to be numbered.

        Sums of floats depend on the order of their terms; this is the order to take.
        """
        if isinstance(self._keys, SeriesSet):
            return self._keys.canonical
        keys = self._keys
        if keys is None:
            return self.memo("canonical", lambda: np.argsort(self.rank, kind="stable"))
        return self.memo("canonical", lambda: np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp))

    def ordered(self, rows: Rows) -> Rows:
        """Some rows, sorted by label set."""
        if "rank" in self._memo or len(rows) * 4 > len(self.labels):
            return rows[np.argsort(self.rank[rows], kind="stable")]
        return np.array(sorted(rows, key=lambda row: sort_key(self.labels[row])), dtype=np.intp)

    def agreeing(self, labels: Labels) -> Mask:
        """Which rows agree with some labels on every label name that both have."""
        result = np.ones(len(self.labels), dtype=np.bool_)
        for name, value in labels.items():
            ids, values = self._column(name)
            result &= (ids == values.get("", -1)) | (ids == values.get(value, -1))
        return result

    def _column(self, name: str) -> tuple[Rows, dict[str, int]]:
        """The number of each row's value of a label, and the numbers by value; "" is its absence."""

        def build() -> tuple[Rows, dict[str, int]]:
            ids, values = number([labels.get(name, "") for labels in self.labels])
            return ids, {value: i for i, value in enumerate(values)}

        return self.memo(("column", name), build)

    def without_name(self) -> SeriesSet:
        """The same rows without the metric name (and type and unit, where they are labels)."""

        def build() -> SeriesSet:
            names = {tuple([labels.get(name) for name in METADATA]) for labels in self.labels}
            if all(set(values) == {None} for values in names):
                return self
            bare = [{n: v for n, v in labels.items() if n not in METADATA} for labels in self.labels]
            return SeriesSet(bare, distinct=True if self._distinct and len(names) == 1 else None, keys=self)

        return self.memo("without_name", build)

    def grouped(self, names: tuple[str, ...], *, by: bool) -> tuple[Rows, SeriesSet]:
        """The group of each row, and the label sets of the groups, for `by (names)` or `without (names)`.

        `without` also drops the metric name.
        """

        def build() -> tuple[Rows, SeriesSet]:
            if by and not names:
                return np.zeros(len(self.labels), dtype=np.intp), SeriesSet([{}], distinct=True)
            ids, keys = number(self.signatures(names, by=by))
            if by:
                groups = [{n: v for n, v in zip(names, key, strict=True) if v} for key in keys]
            else:
                groups = [dict(key) for key in keys]
            return ids, SeriesSet(groups, distinct=True)

        return self.memo(("grouped", names, by), build)

    def signatures(self, names: tuple[str, ...], *, by: bool) -> list[Any]:
        """A hashable per row of the labels in `names`, or of all the others but the metric name."""
        if by:
            return [tuple([labels.get(name, "") for name in names]) for labels in self.labels]
        dropped = {*names, NAME}
        return [tuple(sorted([pair for pair in labels.items() if pair[0] not in dropped])) for labels in self.labels]

    def mapped(self, key: Hashable, change: Callable[[Labels], Labels]) -> SeriesSet:
        """The same rows with changed labels; `key` names the change."""
        return self.memo(("mapped", key), lambda: SeriesSet([change(labels) for labels in self.labels], keys=self))

    def joined(self, other: SeriesSet) -> SeriesSet:
        """The rows of this set followed by those of another."""
        return self.memo_with("joined", other, lambda: SeriesSet([*self.labels, *other.labels]))


def number(keys: Sequence[Any]) -> tuple[Rows, list[Any]]:
    """Each key replaced by its number in order of first appearance, and the distinct keys in that order."""
    numbers: dict[Any, int] = {}
    ids = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.intp, count=len(keys))
    return ids, list(numbers)
