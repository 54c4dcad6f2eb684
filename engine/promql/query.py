"""Instant and range queries in PromQL over what is held (`engine.core.query`), as Prometheus's HTTP API defines them.

A range query is worked through step by step, so that its caller can do other things in between: the windows may move
on meanwhile. Newer steps than what is complete are left out, as there is no data for them yet; so are steps that look
at what is not held any more, which a warning says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engine.core.expression import EvaluationError
from engine.core.group import Group
from engine.core.labels import Labels
from engine.core.query import Reading, read, selector_text
from engine.core.series import SeriesSet, sort_key
from engine.core.view import NotHeldError
from engine.promql.evaluate import PromQLExpression
from engine.vector.values import Context, InstantVector, RangeVector, Value

STEP_SAMPLES = 10_000_000
"""How many samples one step may look at: about a fifth of a second, in which nothing else happens."""
RESULT_POINTS = 500_000

Notes = dict[tuple[str, str], None]


@dataclass
class Points:
    """One series of a range query's result: its value at some of the steps."""

    labels: Labels
    t_ms: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def instant(groups: Iterable[Group], expression: PromQLExpression, at_ms: int) -> tuple[int, Value, Notes]:
    """The value of an expression, of any type, the time it is of, and notes by severity ("warn" or "info") and text.

    The time is `at_ms`, or the newest of which everything is here if that is earlier. Raises `EvaluationError`.
    """
    reading = read(groups, expression.selectors, at_ms, STEP_SAMPLES)
    at_ms = at_ms if reading.complete_ms is None else min(at_ms, reading.complete_ms)
    context = Context(reading.windows, at_ms, at_ms, at_ms, horizon_ms=reading.complete_ms)
    try:
        return at_ms, expression.evaluate_in(context), context.notes
    except NotHeldError as error:
        raise EvaluationError(f"{_forgotten(expression)} ({error})") from error


def samples(value: RangeVector) -> list[Points]:
    """The series of a range vector that have any sample, sorted by label set. Raises `EvaluationError` if too many."""
    _require_few(int((value.stop - value.first).sum()))
    found = [
        Points(labels, value.times[row, first:stop].tolist(), value.values[row, first:stop].tolist())
        for row, (labels, first, stop) in enumerate(
            zip(value.series.labels, value.first.tolist(), value.stop.tolist(), strict=True)
        )
        if stop > first
    ]
    return sorted(found, key=lambda points: sort_key(points.labels))


class RangeQuery:
    """An expression at `start_ms`, `start_ms + step_ms`, ... up to `end_ms`. Raises `EvaluationError`."""

    def __init__(
        self, groups: Iterable[Group], expression: PromQLExpression, start_ms: int, end_ms: int, step_ms: int
    ) -> None:
        self._expression = expression
        self._times = range(start_ms, end_ms + 1, step_ms)
        self._reading: Reading = read(groups, expression.selectors, start_ms, STEP_SAMPLES)
        horizon_ms = self._reading.complete_ms
        self._context = Context(self._reading.windows, start_ms, start_ms, end_ms, step_ms, horizon_ms)
        self._found: dict[tuple[tuple[str, str], ...], Points] = {}
        self._set: SeriesSet | None = None
        self._points_of: list[Points] = []
        self._count = 0

    @property
    def notes(self) -> Notes:
        """What the user should know, by severity ("warn" or "info") and text."""
        return self._context.notes

    def steps(self) -> Iterator[int]:
        """Evaluate one step at each turn, and say its time. Raises `EvaluationError`."""
        for t_ms in self._times:
            if self._context.horizon_ms is not None and t_ms > self._context.horizon_ms:
                return
            self._reading.budget.left = STEP_SAMPLES
            try:
                self._take(t_ms, self._expression.evaluate_in(self._context.at(t_ms)))
            except NotHeldError:
                self._context.note("warn", f"the oldest steps are left out: {_forgotten(self._expression)}")
            yield t_ms

    def result(self) -> list[Points]:
        """The series found so far, sorted by label set."""
        return [self._found[key] for key in sorted(self._found) if self._found[key].t_ms]

    def _take(self, t_ms: int, value: Value) -> None:
        if isinstance(value, float):
            self._add(t_ms, [self._points({})], [value])
        elif isinstance(value, InstantVector):
            rows = np.flatnonzero(value.present)
            points_of = self._rows(value.series)
            self._add(t_ms, [points_of[row] for row in rows.tolist()], value.values[rows].tolist())
        else:
            raise EvaluationError("a range query needs a scalar or an instant vector")

    def _add(self, t_ms: int, points_of: list[Points], values: list[float]) -> None:
        self._count += len(values)
        _require_few(self._count)
        for points, value in zip(points_of, values, strict=True):
            points.t_ms.append(t_ms)
            points.values.append(value)

    def _rows(self, series: SeriesSet) -> list[Points]:
        """Where each row's values go. From step to step the series are mostly the very same."""
        if series is not self._set:
            self._set = series
            self._points_of = [self._points(labels) for labels in series.labels]
        return self._points_of

    def _points(self, labels: Labels) -> Points:
        key = sort_key(labels)
        if key not in self._found:
            self._found[key] = Points(labels)
        return self._found[key]


def _require_few(points: int) -> None:
    if points > RESULT_POINTS:
        raise EvaluationError(f"the result has more than {RESULT_POINTS} points; ask for fewer series or a longer step")


def _forgotten(expression: PromQLExpression) -> str:
    read_from = ", ".join(selector_text(selector) for selector in expression.selectors)
    return f"the query looks at samples of {read_from} that are not kept that long; see the setting rules.keep"
