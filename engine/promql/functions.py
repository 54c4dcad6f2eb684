"""The functions of PromQL, each one entry of the table `FUNCTIONS`.

An entry is called with the context and the argument nodes; the parser has already checked their number and types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.core.expression import EvaluationError, Values
from engine.core.labels import Labels
from engine.core.series import NAME, Mask, SeriesSet
from engine.promql import calendar, histograms, ranges
from engine.promql.evaluate import InstantSelector, RangeSelector
from engine.promql.runs import Kernel, Result
from engine.vector import format as fmt
from engine.vector import names, numeric, relabel
from engine.vector.values import (
    Context,
    InstantVector,
    Node,
    Value,
    empty,
    from_rows,
    range_value,
    scalar_value,
    single,
    string_value,
    unique,
    vector_value,
)

Arguments = Sequence[Node]
Function = Callable[[Context, Arguments], Value]


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`."""

    function: Function
    arguments: tuple[Node, ...]

    def evaluate(self, context: Context) -> Value:
        """What the function gives."""
        with np.errstate(all="ignore"):
            return self.function(context, self.arguments)


def _of_range(kernel: Kernel, *, keeps_name: bool = False, rounds: bool = False) -> Function:
    """A function of one range vector.

    One that `rounds` sums, and is never worked out for several times together: how numpy rounds a sum depends on how
    wide the matrix is, and must not depend on which other times are asked for.
    """

    def function(context: Context, arguments: Arguments) -> Value:
        if rounds and context.stretch is not None:
            context = replace(context, stretch=None)
        series, values, present = _reduced(kernel, context, arguments[0])
        return _from_range(series, (values, present), keeps_name=keeps_name)

    return function


def _reduced(kernel: Kernel, context: Context, argument: Node) -> tuple[SeriesSet, Values, Mask]:
    if isinstance(argument, RangeSelector):
        return argument.reduced(kernel, context)
    data = range_value(argument.evaluate(context))
    return data.series, *kernel(data)


def _from_range(series: SeriesSet, result: Result, *, keeps_name: bool = False) -> InstantVector:
    # A name that is kept is kept for good, also that of a subquery whose name was to go.
    return unique(InstantVector(names.kept(series, series) if keeps_name else series.without_name(), *result))


def _of_counter(kernel: Kernel) -> Function:
    """As `_of_range`, with a word to the user about each metric whose name is not that of a counter."""

    def function(context: Context, arguments: Arguments) -> Value:
        series, values, present = _reduced(kernel, context, arguments[0])
        for name, rows in series.memo("not counters", partial(_not_counters, series)).items():
            if present[rows].any():
                suffixes = "_total/_sum/_count/_bucket"
                context.note(
                    "info", f"metric might not be a counter, name does not end in {suffixes}: {fmt.quoted(name)}"
                )
        return _from_range(series, (values, present))

    return function


def _not_counters(series: SeriesSet) -> dict[str, list[int]]:
    """The rows of each metric that is not named as a counter is."""
    rows: dict[str, list[int]] = {}
    for row, labels in enumerate(series.labels):
        name = labels.get(NAME, "")
        if name and not name.endswith(("_total", "_sum", "_count", "_bucket")):
            rows.setdefault(name, []).append(row)
    return rows


def _elementwise(operate: Callable[[Values], Any]) -> Function:
    """A function of each value of a vector."""

    def function(context: Context, arguments: Arguments) -> Value:
        vector = vector_value(arguments[0].evaluate(context))
        return vector.with_values(operate(vector.values))

    return function


def _calendar(part: Callable[[Values], Values]) -> Function:
    """A part of the date of each value, or of now."""

    def function(context: Context, arguments: Arguments) -> Value:
        vector = vector_value(arguments[0].evaluate(context)) if arguments else single(context.at_ms / 1000)
        return vector.with_values(np.where(np.isnan(vector.values), np.nan, part(vector.values)))

    return function


def _scalars(context: Context, arguments: Arguments) -> list[float]:
    return [scalar_value(argument.evaluate(context)) for argument in arguments]


def _strings(context: Context, arguments: Arguments) -> list[str]:
    return [string_value(argument.evaluate(context)) for argument in arguments]


def _constant(value: Callable[[Context], float]) -> Function:
    return lambda context, _: float(value(context))


def _absent(context: Context, arguments: Arguments) -> Value:
    vector = vector_value(arguments[0].evaluate(context))
    return _missing(arguments[0], bool(vector.present.any()))


def _absent_over_time(context: Context, arguments: Arguments) -> Value:
    data = range_value(arguments[0].evaluate(context))
    return _missing(arguments[0], bool((data.stop > data.first).any()))


def _missing(argument: Node, present: bool) -> InstantVector:
    if present:
        return empty()
    known = isinstance(argument, InstantSelector | RangeSelector)
    labels = relabel.absent_labels(argument.matchers) if known else {}  # type: ignore[attr-defined]  # `known` says so
    return from_rows(SeriesSet([labels], distinct=True), np.ones(1))


def _timestamp(context: Context, arguments: Arguments) -> Value:
    if isinstance(arguments[0], InstantSelector):
        vector, times = arguments[0].newest(context)
        return vector.with_values(times / 1000)
    vector = vector_value(arguments[0].evaluate(context))
    return vector.with_values(np.full(len(vector.values), context.at_ms / 1000))


def _vector(context: Context, arguments: Arguments) -> Value:
    return single(*_scalars(context, arguments))


def _scalar(context: Context, arguments: Arguments) -> Value:
    vector = vector_value(arguments[0].evaluate(context))
    values = vector.values[vector.present]
    return float(values[0]) if len(values) == 1 else math.nan


def _clamp(context: Context, arguments: Arguments) -> Value:
    lowest, highest = _scalars(context, arguments[1:])
    return _clamped(vector_value(arguments[0].evaluate(context)), lowest, highest)


def _clamp_min(context: Context, arguments: Arguments) -> Value:
    vector = vector_value(arguments[0].evaluate(context))
    return vector.with_values(numeric.larger(vector.values, _scalars(context, arguments[1:])[0]))


def _clamp_max(context: Context, arguments: Arguments) -> Value:
    vector = vector_value(arguments[0].evaluate(context))
    return vector.with_values(numeric.smaller(vector.values, _scalars(context, arguments[1:])[0]))


def _clamped(vector: InstantVector, lowest: float, highest: float) -> InstantVector:
    if highest < lowest:
        return InstantVector(vector.series, vector.values, np.zeros(len(vector.present), dtype=np.bool_))
    return vector.with_values(numeric.larger(numeric.smaller(vector.values, highest), lowest))


def _round(context: Context, arguments: Arguments) -> Value:
    vector = vector_value(arguments[0].evaluate(context))
    nearest = _scalars(context, arguments[1:])[0] if len(arguments) > 1 else 1.0
    inverse = np.float64(1.0) / nearest  # as Prometheus: exact where `nearest` is 0.1
    return vector.with_values(np.floor(vector.values * inverse + 0.5) / inverse)


def _quantile_over_time(context: Context, arguments: Arguments) -> Value:
    q = scalar_value(arguments[0].evaluate(context))
    data = range_value(arguments[1].evaluate(context))
    if (data.stop > data.first).any():
        _check_quantile(context, q)
    return _from_range(data.series, ranges.quantile_over_time(q, data))


def _check_quantile(context: Context, q: float) -> None:
    if not 0 <= q <= 1:
        context.note("warn", f"quantile value should be between 0 and 1, got {fmt.general(q)}")


def _predict_linear(context: Context, arguments: Arguments) -> Value:
    data = range_value(arguments[0].evaluate(context))
    seconds = scalar_value(arguments[1].evaluate(context))
    return _from_range(data.series, ranges.predict_linear(data, seconds, context.at_ms))


def _double_exponential_smoothing(context: Context, arguments: Arguments) -> Value:
    data = range_value(arguments[0].evaluate(context))
    smoothing, trend = _scalars(context, arguments[1:])
    some = bool((data.stop > data.first).any())
    for name, factor in (("smoothing", smoothing), ("trend", trend)):
        if some and (factor <= 0 or factor >= 1):  # NaN passes, as in Prometheus
            raise EvaluationError(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {fmt.fixed(factor)}")
    return _from_range(data.series, ranges.double_exponential_smoothing(data, smoothing, trend))


def _histogram_quantile(context: Context, arguments: Arguments) -> Value:
    q = scalar_value(arguments[0].evaluate(context))
    vector = vector_value(arguments[1].evaluate(context))
    _check_quantile(context, q)
    series, buckets, present = histograms.collect(vector, context)
    _check_monotonic(context, q, buckets)
    return unique(InstantVector(series, histograms.quantile(q, buckets), present))


def _check_monotonic(context: Context, q: float, buckets: histograms.Buckets) -> None:
    if 0 <= q <= 1 and buckets.repaired.any() and (buckets.repaired & buckets.answerable).any():
        context.note("info", "input to histogram_quantile needed to be fixed for monotonicity")


def _histogram_quantiles(context: Context, arguments: Arguments) -> Value:
    vector = vector_value(arguments[0].evaluate(context))
    name = string_value(arguments[1].evaluate(context))
    series, buckets, present = histograms.collect(vector, context)
    if any(name in labels for labels in vector.series.labels):
        raise EvaluationError(f"histogram_quantiles(): label {name} already exists")
    parts: list[InstantVector] = []
    for q in _scalars(context, arguments[2:]):
        _check_quantile(context, q)
        _check_monotonic(context, q, buckets)
        text = fmt.open_metrics_number(q)
        labelled = series.mapped(("quantile", name, text), partial(_labelled, name, text))
        parts.append(unique(InstantVector(labelled, histograms.quantile(q, buckets), present)))
    joined = SeriesSet([labels for part in parts for labels in part.series.labels])
    joined = names.like(joined, [series], np.ones(len(joined), dtype=np.bool_))
    values = np.concatenate([part.values for part in parts])
    return unique(InstantVector(joined, values, np.concatenate([part.present for part in parts])))


def _labelled(name: str, value: str, labels: Labels) -> Labels:
    return {**labels, name: value}


def _histogram_fraction(context: Context, arguments: Arguments) -> Value:
    lower, upper = _scalars(context, arguments[:2])
    series, buckets, present = histograms.collect(vector_value(arguments[2].evaluate(context)), context)
    return unique(InstantVector(series, histograms.fraction(lower, upper, buckets), present))


def _label_replace(context: Context, arguments: Arguments) -> Value:
    target, template, source, expression = _strings(context, arguments[1:])
    vector = vector_value(arguments[0].evaluate(context))
    return relabel.label_replace(vector, target, template, source, expression)


def _label_join(context: Context, arguments: Arguments) -> Value:
    target, separator, *sources = _strings(context, arguments[1:])
    return relabel.label_join(vector_value(arguments[0].evaluate(context)), target, separator, sources)


def _sort(*, descending: bool) -> Function:
    def function(context: Context, arguments: Arguments) -> Value:
        vector = vector_value(arguments[0].evaluate(context))
        return relabel.ordered_by_value(vector, descending=descending)

    return function


def _sort_by_label(*, descending: bool) -> Function:
    def function(context: Context, arguments: Arguments) -> Value:
        vector = vector_value(arguments[0].evaluate(context))
        return relabel.ordered_by_labels(vector, _strings(context, arguments[1:]), descending=descending)

    return function


def _of_two(choose: Callable[[float, float], Any]) -> Function:
    return lambda context, arguments: float(choose(*_scalars(context, arguments)))


FUNCTIONS: dict[str, Function] = {
    "rate": _of_counter(ranges.rate),
    "increase": _of_counter(ranges.increase),
    "irate": _of_range(ranges.irate),
    "delta": _of_range(ranges.delta),
    "idelta": _of_range(ranges.idelta),
    "deriv": _of_range(ranges.deriv, rounds=True),
    "changes": _of_range(ranges.changes),
    "resets": _of_range(ranges.resets),
    "predict_linear": _predict_linear,
    "double_exponential_smoothing": _double_exponential_smoothing,
    "avg_over_time": _of_range(ranges.avg_over_time, rounds=True),
    "count_over_time": _of_range(ranges.count_over_time),
    "first_over_time": _of_range(ranges.first_over_time, keeps_name=True),
    "last_over_time": _of_range(ranges.last_over_time, keeps_name=True),
    "mad_over_time": _of_range(ranges.mad_over_time),
    "max_over_time": _of_range(ranges.max_over_time),
    "min_over_time": _of_range(ranges.min_over_time),
    "present_over_time": _of_range(ranges.present_over_time),
    "quantile_over_time": _quantile_over_time,
    "stddev_over_time": _of_range(ranges.stddev_over_time, rounds=True),
    "stdvar_over_time": _of_range(ranges.stdvar_over_time, rounds=True),
    "sum_over_time": _of_range(ranges.sum_over_time, rounds=True),
    "ts_of_first_over_time": _of_range(ranges.ts_of_first_over_time),
    "ts_of_last_over_time": _of_range(ranges.ts_of_last_over_time),
    "ts_of_max_over_time": _of_range(ranges.ts_of_max_over_time),
    "ts_of_min_over_time": _of_range(ranges.ts_of_min_over_time),
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    "abs": _elementwise(np.abs),
    "ceil": _elementwise(np.ceil),
    "floor": _elementwise(np.floor),
    "exp": _elementwise(np.exp),
    "ln": _elementwise(np.log),
    "log2": _elementwise(np.log2),
    "log10": _elementwise(np.log10),
    "sqrt": _elementwise(np.sqrt),
    "sgn": _elementwise(np.sign),
    "acos": _elementwise(np.arccos),
    "acosh": _elementwise(np.arccosh),
    "asin": _elementwise(np.arcsin),
    "asinh": _elementwise(np.arcsinh),
    "atan": _elementwise(np.arctan),
    "atanh": _elementwise(np.arctanh),
    "cos": _elementwise(np.cos),
    "cosh": _elementwise(np.cosh),
    "sin": _elementwise(np.sin),
    "sinh": _elementwise(np.sinh),
    "tan": _elementwise(np.tan),
    "tanh": _elementwise(np.tanh),
    "deg": _elementwise(np.degrees),
    "rad": _elementwise(np.radians),
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp_min,
    "round": _round,
    "day_of_month": _calendar(calendar.day_of_month),
    "day_of_week": _calendar(calendar.day_of_week),
    "day_of_year": _calendar(calendar.day_of_year),
    "days_in_month": _calendar(calendar.days_in_month),
    "hour": _calendar(calendar.hour),
    "minute": _calendar(calendar.minute),
    "month": _calendar(calendar.month),
    "year": _calendar(calendar.year),
    "time": _constant(lambda context: context.at_ms / 1000),
    "start": _constant(lambda context: context.start_ms / 1000),
    "end": _constant(lambda context: context.end_ms / 1000),
    "range": _constant(lambda context: (context.end_ms - context.start_ms) / 1000),
    "step": _constant(lambda context: context.step_ms / 1000),
    "pi": _constant(lambda _: math.pi),
    "min_of": _of_two(numeric.smaller),
    "max_of": _of_two(numeric.larger),
    "timestamp": _timestamp,
    "vector": _vector,
    "scalar": _scalar,
    "histogram_quantile": _histogram_quantile,
    "histogram_quantiles": _histogram_quantiles,
    "histogram_fraction": _histogram_fraction,
    "label_replace": _label_replace,
    "label_join": _label_join,
    "sort": _sort(descending=False),
    "sort_desc": _sort(descending=True),
    "sort_by_label": _sort_by_label(descending=False),
    "sort_by_label_desc": _sort_by_label(descending=True),
}
