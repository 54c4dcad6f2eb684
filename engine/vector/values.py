"""What expressions evaluate to, and the context they are evaluated in.

A scalar is a `float`, a string a `str`. The two vector types are columnar: row `i` of every array belongs to
`series.labels[i]`, and a row that has no value at this time is masked, not removed, so that what is derived from the
labels stays valid from one evaluation to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from engine.core.columns import NEVER_MS
from engine.core.expression import EvaluationError, Times, Values, Vector, Window
from engine.core.series import Mask, Rows, SeriesSet
from engine.core.window import RangeView

LOOKBACK_MS = 300_000


@dataclass(frozen=True, slots=True)
class InstantVector:
    """One value per series; `order` lists the present rows where the expression sorts."""

    series: SeriesSet
    values: Values
    present: Mask
    order: Rows | None = None

    def with_values(self, values: Values) -> InstantVector:
        """Other values for the same series, without the metric name."""
        return unique(InstantVector(self.series.without_name(), values, self.present))


RangeVector = RangeView
Value = float | str | InstantVector | RangeVector


class Node(Protocol):
    """A compiled part of an expression."""

    def evaluate(self, context: Context) -> Value:
        """Its value at `context.at_ms`. Raises `EvaluationError`."""


@dataclass(frozen=True)
class Context:
    """When and on what an expression is evaluated.

    `start_ms`, `end_ms` and `step_ms` are those of a range query (all the same time and 0 for an instant one).
    No sample later than `horizon_ms` is seen, if it is set. Warnings and infos for the user are gathered in `notes`.
    With `delayed_names`, metric names go at the end of the evaluation (`engine.vector.names`). `stretch` holds what is
    worked out for several times together (`engine.promql.stretch`).
    """

    windows: Mapping[str, Window]
    at_ms: int
    start_ms: int
    end_ms: int
    step_ms: int = 0
    horizon_ms: int | None = None
    notes: dict[tuple[str, str], None] = field(default_factory=dict)
    delayed_names: bool = False
    stretch: Any = None

    def at(self, at_ms: int) -> Context:
        """The same context at another time."""
        return self if at_ms == self.at_ms else replace(self, at_ms=at_ms)

    def visible_ms(self, at_ms: int) -> int:
        """The given time, or the horizon if that is earlier."""
        return at_ms if self.horizon_ms is None else min(at_ms, self.horizon_ms)

    def note(self, severity: str, message: str) -> None:
        """Tell the user something ("warn" or "info") about this evaluation, once."""
        self.notes[severity, message] = None


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or a duration in seconds."""

    value: float

    def evaluate(self, _: Context) -> float:
        """The number."""
        return self.value


def unique(vector: InstantVector) -> InstantVector:
    """The vector itself; raises `EvaluationError` if two present rows have equal labels."""
    if not vector.series.distinct:
        ids = vector.series.ids[vector.present]
        if len(np.unique(ids)) != len(ids):
            raise EvaluationError("vector cannot contain metrics with the same labelset")
    return vector


def from_rows(series: SeriesSet, values: Values) -> InstantVector:
    """A vector of which every row is present."""
    return InstantVector(series, values, np.ones(len(series), dtype=np.bool_))


ONE = SeriesSet([{}], distinct=True)
_NOTHING = SeriesSet([], distinct=True)


def empty() -> InstantVector:
    """A vector without elements."""
    return from_rows(_NOTHING, np.zeros(0))


def single(value: float) -> InstantVector:
    """A vector of one element without labels."""
    return from_rows(ONE, np.array([value]))


def range_of_columns(
    series: SeriesSet, times: Times, columns: Values, present: Mask, bounds: tuple[int, int]
) -> RangeVector:
    """A range vector from a value per series (row) and time (column), as a subquery makes it."""
    counts = present.sum(axis=1)
    order = np.argsort(~present, axis=1, kind="stable")  # what is there moves to the left, in time order
    values = np.take_along_axis(columns, order, axis=1)
    matrix = np.take_along_axis(np.broadcast_to(times, columns.shape), order, axis=1)
    first = np.zeros(len(series), dtype=np.intp)
    drops = np.where(counts > 0, np.iinfo(np.int64).max, NEVER_MS)  # unknown: look at every sample
    return RangeVector(series, matrix, values, first, counts.astype(np.intp), drops, bounds[0], bounds[1])


def scalar_value(value: Value) -> float:
    """A value that the parser has checked to be a scalar."""
    if isinstance(value, float):
        return value
    raise EvaluationError(f"expected a scalar, got {type(value).__name__}")


def string_value(value: Value) -> str:
    """A value that the parser has checked to be a string."""
    if isinstance(value, str):
        return value
    raise EvaluationError(f"expected a string, got {type(value).__name__}")


def vector_value(value: Value) -> InstantVector:
    """A value that the parser has checked to be an instant vector."""
    if isinstance(value, InstantVector):
        return value
    raise EvaluationError(f"expected an instant vector, got {type(value).__name__}")


def range_value(value: Value) -> RangeVector:
    """A value that the parser has checked to be a range vector."""
    if isinstance(value, RangeVector):
        return value
    raise EvaluationError(f"expected a range vector, got {type(value).__name__}")


def sorted_vector(vector: InstantVector) -> Vector:
    """The present elements in the order of the expression, or by label set if it has none."""
    if vector.order is not None:
        rows = vector.order[vector.present[vector.order]]
    else:
        rows = np.flatnonzero(vector.present)
        rows = vector.series.ordered(rows) if len(rows) > 1 else rows
    return Vector([vector.series.labels[row] for row in rows], vector.values[rows])
