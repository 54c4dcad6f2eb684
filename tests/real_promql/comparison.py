"""Sentinel's answers to the queries that a real Prometheus is asked, and what counts as the same answer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from engine.core.expression import EvaluationError, ExpressionError, Selector, Window
from engine.core.labels import encode
from engine.promql import compile as compile_promql
from engine.promql.evaluate import PromQLExpression
from engine.promql.query import samples
from engine.vector.values import Context, InstantVector, RangeVector, sorted_vector
from tests.parts import Prometheus, require
from tests.real_promql import prometheus
from tests.real_promql.expressions import Generator
from tests.real_promql.mutations import mutated
from tests.real_promql.prometheus import Answer, plain
from tests.real_promql.series import Series, generate
from tests.real_promql.times import times_of

TOLERANCE, NOISE = 1e-9, 1e-15
_LATELY = re.compile("multiple matches for labels|(?:Parameter|Ratio) value is NaN")
"""We refuse these as the newest Prometheus does; older ones let them pass: where a comparison drops all but one of the
elements, and where there is no element."""
_OLD_BUGS = re.compile("unexpected number of samples|unexpected result in StepInvariantExpr")
_SORTS = re.compile(r"(?:sort|sort_desc)\b")
_SORTS_LABELS = re.compile(r"sort_by_label(?:_desc)?\b")
_RANKS = re.compile(r"(?:top|bottom)k\b")
_RANKS_ALL = re.compile(r"(?:top|bottom)k\s*\((?!.*\) (?i:by|without) \([^()]*\)$)")


@dataclass
class Sentinel:
    """The same data in our windows, filled when a selector first asks for them."""

    series: list[Series]
    delayed_names: bool = False
    windows: dict[str, Window] = field(default_factory=dict)

    def ask(self, text: str, times: range) -> Answer:
        """As `prometheus.ask`."""
        try:
            expression = compile_promql(text, any_type=True)
            for selector in expression.selectors:
                if selector.key not in self.windows:
                    self.windows[selector.key] = self._filled(selector)
            return self._answer(expression, times)
        except ExpressionError as error:
            return Answer("error", error=error.message)
        except EvaluationError as error:
            return Answer("error", error=str(error))

    def _answer(self, expression: PromQLExpression, times: range) -> Answer:
        ranged = len(times) > 1
        step_ms = times.step if ranged else 0
        start = Context(self.windows, times[0], times[0], times[-1], step_ms, delayed_names=self.delayed_names)
        answer = Answer("matrix" if ranged else "vector", notes=set())
        for at_ms in times:
            value = expression.evaluate_in(start.at(at_ms))
            if isinstance(value, InstantVector):
                vector = sorted_vector(value)
                for labels, number in zip(vector.labels, vector.values.tolist(), strict=True):
                    answer.series.setdefault(encode(labels), {})[at_ms] = number
            elif isinstance(value, RangeVector):
                if ranged:
                    return Answer("error", error="a range query needs a scalar or an instant vector")
                found = {encode(p.labels): dict(zip(p.t_ms, p.values, strict=True)) for p in samples(value)}
                answer = Answer("matrix", found)
            elif ranged and isinstance(value, str):
                return Answer("error", error="a range query needs a scalar or an instant vector")
            else:
                answer.kind = "matrix" if ranged else "string" if isinstance(value, str) else "scalar"
                answer.series.setdefault(encode({}) if ranged else b"", {})[at_ms] = value
        answer.notes = {plain(text) for _, text in start.notes}
        return answer

    def _filled(self, selector: Selector) -> Window:
        window = selector.make_window()
        for labels, points in self.series:
            if selector.matches(labels) and points:
                times, values = np.array([t for t, _ in points]), np.array([v for _, v in points])
                window.append([encode(labels)] * len(points), times, values)
        return window


@dataclass
class Duel:
    """Sentinel and a Prometheus that hold the same data. `newest` says that it is a Prometheus 3."""

    sentinel: Sentinel
    client: httpx.Client
    newest: bool

    @classmethod
    @contextmanager
    def of(cls, part: str, folder: Path, data_seed: int, delayed_names: bool) -> Iterator[Duel]:
        """Start the Prometheus of that part, and give both the data."""
        newest = prometheus.version(require(part) / "prometheus")[0] >= 3
        series = generate(data_seed, newest=newest)
        flags = prometheus.flags(newest=newest, delayed_names=delayed_names)
        rival = Prometheus(folder, prometheus.CONFIG, flags, part)
        try:
            rival.start()
            with httpx.Client(base_url=rival.url, timeout=30) as client:
                prometheus.write(client, series)
                yield cls(Sentinel(series, delayed_names), client, newest)
        finally:
            rival.stop()

    def draw(self, seed: int, *, mistaken: bool) -> tuple[str, range]:
        """A query, with a mistake in it if so wished, and when to ask it."""
        delayed_names = self.sentinel.delayed_names
        text = Generator(seed, newest=self.newest, delayed_names=delayed_names).expression()
        text = mutated(text, seed) if mistaken else text
        return text, times_of(text, seed, newest=self.newest)

    def difference(self, text: str, times: range) -> str:
        """How the answers to a query differ; empty if they do not."""
        ours, theirs = self.sentinel.ask(text, times), prometheus.ask(self.client, text, times)
        return difference(text, ours, theirs, notes=self.newest)


def difference(text: str, ours: Answer, theirs: Answer, *, notes: bool) -> str:
    """How two answers to a query differ; empty if they do not. With `notes`, warnings and infos count."""
    if _LATELY.match(ours.error) or _OLD_BUGS.match(theirs.error):
        return ""
    if ours.kind != theirs.kind:
        return f"kind {ours.kind} ({ours.error}), not {theirs.kind} ({theirs.error})"
    if ours.kind == "vector" and (_SORTS.match(text) or _RANKS_ALL.match(text)):
        orders = [_sequence(answer) for answer in (ours, theirs)]
        if len(orders[0]) != len(orders[1]) or not all(map(close, *orders)):
            return f"order {orders[0]}, not {orders[1]}"
    if _RANKS.match(text):
        return ""  # of equal values either may be chosen
    if ours.kind == "vector" and _SORTS_LABELS.match(text) and list(ours.series) != list(theirs.series):
        return f"order {list(ours.series)}, not {list(theirs.series)}"
    if ours.series.keys() != theirs.series.keys():
        return f"series {sorted(ours.series)}, not {sorted(theirs.series)}"
    for key, values in ours.series.items():
        others = theirs.series[key]
        if values.keys() != others.keys():
            return f"{key!r} at {sorted(values)}, not {sorted(others)}"
        wrong = next((t for t in values if not close(values[t], others[t])), None)
        if wrong is not None:
            return f"{key!r} at {wrong} is {values[wrong]!r}, not {others[wrong]!r}"
    if notes and ours.kind != "error" and ours.notes != theirs.notes:
        return f"notes {sorted(ours.notes)}, not {sorted(theirs.notes)}"
    return ""


def _sequence(answer: Answer) -> Sequence[float]:
    return [value for points in answer.series.values() for value in points.values()]


def close(a: float | str, b: float | str) -> bool:
    """Equal but for the order in which floats were added."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or math.isinf(b):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= max(NOISE, TOLERANCE * max(abs(a), abs(b)))
