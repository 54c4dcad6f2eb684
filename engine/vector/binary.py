"""Operators between two operands: arithmetic, comparison, and set operators, with Prometheus's vector matching.

Which rows of two vectors *could* match depends on their labels only and is worked out once per pair of series sets;
each evaluation then looks at which of them are present. Reference: Prometheus `promql/engine.go` (VectorBinop).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from engine.core.expression import EvaluationError, Values
from engine.core.labels import Labels
from engine.core.series import NAME, Mask, Rows, SeriesSet, number
from engine.vector import format as fmt
from engine.vector import names
from engine.vector.values import Context, InstantVector, Node, Value, empty, unique, vector_value

Operate = Callable[[Any, Any], Any]

ARITHMETIC: dict[str, Operate] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.float_power,
    "atan2": np.arctan2,
}
COMPARISONS: dict[str, Operate] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
SET_OPERATORS = ("and", "or", "unless")
OPERATORS = {*ARITHMETIC, *COMPARISONS, *SET_OPERATORS}


@dataclass(frozen=True, slots=True)
class Matching:
    """How elements of two vectors find each other.

    `on` tells `on (labels)` from `ignoring (labels)`. `group` names the *many* side ("left", "right") or is None for
    one-to-one; `include` are labels taken over from the *one* side. `fill_left`, `fill_right` stand in for a missing
    element of that side.
    """

    labels: tuple[str, ...] = ()
    on: bool = False
    group: Literal["left", "right"] | None = None
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator [bool] [matching] right`."""

    operator: str
    left: Node
    right: Node
    matching: Matching
    return_bool: bool

    def evaluate(self, context: Context) -> Value:
        """A scalar between scalars, else a vector."""
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        with np.errstate(all="ignore"):
            if isinstance(left, float) and isinstance(right, float):
                operate = ARITHMETIC.get(self.operator) or COMPARISONS[self.operator]
                return float(operate(left, right))
            if isinstance(left, float):
                return self._with_scalar(vector_value(right), left, vector_value(right).values)
            if isinstance(right, float):
                return self._with_scalar(vector_value(left), vector_value(left).values, right)
            if self.operator in SET_OPERATORS:
                return self._sets(vector_value(left), vector_value(right))
            return self._vectors(vector_value(left), vector_value(right))

    def _with_scalar(self, vector: InstantVector, left: Values | float, right: Values | float) -> Value:
        if self.operator in ARITHMETIC:
            return vector.with_values(ARITHMETIC[self.operator](left, right))
        held = COMPARISONS[self.operator](left, right)
        if self.return_bool:
            return vector.with_values(held.astype(np.float64))
        return InstantVector(vector.series, vector.values, vector.present & held, vector.order)

    def _sets(self, left: InstantVector, right: InstantVector) -> InstantVector:
        left_ids, right_ids, count = signatures(left.series, right.series, self.matching)
        if self.operator == "or":
            known = _members(left_ids[left.present], count)
            extra = right.present & ~known[right_ids]
            return unique(
                InstantVector(
                    names.joined(left.series, right.series),
                    np.concatenate([left.values, right.values]),
                    np.concatenate([left.present, extra]),
                )
            )
        known = _members(right_ids[right.present], count)
        wanted = known[left_ids] if self.operator == "and" else ~known[left_ids]
        return InstantVector(left.series, left.values, left.present & wanted, left.order)

    def _vectors(self, left: InstantVector, right: InstantVector) -> InstantVector:
        fills = self.matching.fill_left is not None or self.matching.fill_right is not None
        if not fills and not (left.present.any() and right.present.any()):
            return empty()  # also where the elements of the other side could not be told apart
        many, one = (right, left) if self.matching.group == "right" else (left, right)
        many_ids, one_ids, count = signatures(many.series, one.series, self.matching)
        side = "right" if one is right else "left"
        partner_of = _single_rows(one, one_ids, count, side, self.matching)
        partner = partner_of[many_ids] if len(many_ids) else np.zeros(0, dtype=np.intp)
        matched = many.present & (partner >= 0)
        # As in Prometheus: with `group_right`, the left fill value stands in on the *many* side too.
        fill_many, fill_one = self.matching.fill_left, self.matching.fill_right
        if fill_one is not None:
            matched = many.present
        partner_values = np.full(len(partner), np.nan if fill_one is None else fill_one)
        found = partner >= 0
        partner_values[found] = one.values[partner[found]]
        values, kept = self._operate(many.values, partner_values, swapped=many is right)
        present = matched & kept
        series = self._result_series(many.series, one.series, np.where(matched, partner, -1))
        self._check_matches(InstantVector(series, values, matched), many_ids)
        result = InstantVector(series, values, present)
        if fill_many is not None:
            taken = _members(many_ids[many.present], count)
            result = self._filled(result, one, one.present & ~taken[one_ids], fill_many, many is right)
        marks = np.full(len(result.series), self.return_bool)
        return unique(replace(result, series=names.like(result.series, [left.series, right.series], marks)))

    def _check_matches(self, matched: InstantVector, ids: Rows) -> None:
        """Raises `EvaluationError` where an element of the *one* side has two results that nothing tells apart.

        That is so also where a comparison then keeps only one of them.
        """
        if self.matching.group is None:
            if len(np.unique(ids[matched.present])) != matched.present.sum():
                raise EvaluationError(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                )
        elif not matched.series.distinct:
            pairs = np.stack([ids, matched.series.ids])[:, matched.present]
            if np.unique(pairs, axis=1).shape[1] != pairs.shape[1]:
                raise EvaluationError("multiple matches for labels: grouping labels must ensure unique matches")

    def _operate(self, many: Values, one: Values, *, swapped: bool) -> tuple[Values, Mask]:
        left, right = (one, many) if swapped else (many, one)
        every = np.ones(len(many), dtype=np.bool_)
        if self.operator in ARITHMETIC:
            return ARITHMETIC[self.operator](left, right), every
        held = COMPARISONS[self.operator](left, right)
        return (held.astype(np.float64), every) if self.return_bool else (left, held)

    def _filled(
        self, result: InstantVector, one: InstantVector, lonely: Mask, fill: float, swapped: bool
    ) -> InstantVector:
        """The result with the elements of the *one* side that nothing matched, against the fill value."""
        values, kept = self._operate(np.full(len(one.values), fill), one.values, swapped=swapped)
        itself = np.where(lonely, np.arange(len(lonely)), -1)
        bare = self._bare_series(one.series)
        series = self._result_series(bare, one.series, itself)
        return InstantVector(
            names.joined(result.series, series),
            np.concatenate([result.values, values]),
            np.concatenate([result.present, lonely & kept]),
        )

    def _bare_series(self, series: SeriesSet) -> SeriesSet:
        """An element of the *one* side as the missing *many* side would be labelled: by its matching labels only."""
        keep, on = self.matching.labels, self.matching.on

        def change(labels: Labels) -> Labels:
            return {n: v for n, v in labels.items() if (n in keep) == on and (on or n != NAME)}

        return series.mapped(("bare", keep, on), change)

    def _result_series(self, many: SeriesSet, one: SeriesSet, partner: Rows) -> SeriesSet:
        if self.matching.include:
            key = ("included", self.matching.include, self.operator in ARITHMETIC, self.return_bool)
            known = many.memo_with(key, one, lambda: [(partner, self._included(many, one, partner))])
            if not np.array_equal(known[0][0], partner):
                known[0] = (partner, self._included(many, one, partner))
            return known[0][1]
        if self.matching.group is not None:
            return self._renamed(many)
        keep, on = self.matching.labels, self.matching.on

        def change(labels: Labels) -> Labels:
            return {n: v for n, v in labels.items() if (n in keep) == on}

        return self._renamed(many.mapped(("matching", keep, on), change) if keep or on else many)

    def _renamed(self, series: SeriesSet) -> SeriesSet:
        """The series without their names where these go; arithmetic between vectors never delays that."""
        if self.operator in ARITHMETIC:
            return SeriesSet.without_name(series)
        return series.without_name() if self.return_bool else series

    def _included(self, many: SeriesSet, one: SeriesSet, partner: Rows) -> SeriesSet:
        base = self._renamed(many)
        result: list[Labels] = []
        for labels, row in zip(base.labels, partner, strict=True):
            given = one.labels[row] if row >= 0 else {}
            taken = {name: given.get(name, "") for name in self.matching.include}
            result.append({n: v for n, v in {**labels, **taken}.items() if v})
        return SeriesSet(result)


def signatures(left: SeriesSet, right: SeriesSet, matching: Matching) -> tuple[Rows, Rows, int]:
    """A number for the matching labels of each row of both sides (equal labels, equal number), and how many."""

    def build() -> tuple[Rows, Rows, int]:
        keys = left.signatures(matching.labels, by=matching.on)
        if left is right:
            ids, distinct = number(keys)
            return ids, ids, len(distinct)
        ids, distinct = number(keys + right.signatures(matching.labels, by=matching.on))
        return ids[: len(left)], ids[len(left) :], len(distinct)

    return left.memo_with(("signatures", matching.labels, matching.on), right, build)


def _members(ids: Rows, count: int) -> Mask:
    known = np.zeros(count, dtype=np.bool_)
    known[ids] = True
    return known


def _single_rows(one: InstantVector, ids: Rows, count: int, side: str, matching: Matching) -> Rows:
    """The present row of each signature on the *one* side, -1 for none. Raises if there are two."""
    rows = np.flatnonzero(one.present)
    result = np.full(count, -1, dtype=np.intp)
    result[ids[rows]] = rows
    if (result[ids[rows]] != rows).any():
        raise EvaluationError(_duplicates(one.series, rows, ids, side, matching))
    return result


def _duplicates(series: SeriesSet, rows: Rows, ids: Rows, side: str, matching: Matching) -> str:
    """What is said of the first two rows, in label order, that cannot be told apart."""
    first: dict[int, int] = {}
    ordered = series.ordered(rows).tolist()
    again = next(row for row in ordered if first.setdefault(int(ids[row]), row) != row)
    labels, earlier = series.labels[again], series.labels[first[int(ids[again])]]
    on, known = matching.on, matching.labels
    group = {n: v for n, v in labels.items() if (n in known) == on and (on or n != NAME)}
    return (
        f"found duplicate series for the match group {fmt.labels(group)} on the {side} hand-side of the "
        f"operation: [{fmt.labels(earlier)}, {fmt.labels(labels)}];many-to-many matching not allowed: "
        "matching labels must be unique on one side"
    )
