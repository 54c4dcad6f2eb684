"""Data for PromQL tests, written in Prometheus's own notation: `http_total{job="a"} 0+10x5`."""

from __future__ import annotations

import numpy as np

from engine.core.expression import Window
from engine.core.labels import encode
from engine.promql import compile as compile_promql
from engine.promql.evaluate import PromQLExpression
from engine.vector.format import labels as show_labels
from tests.conformance.promqltest import parse_series

MINUTE_MS = 60_000


def windows_for(expression: PromQLExpression, data: str, step_ms: int = MINUTE_MS) -> dict[str, Window]:
    """Windows for an expression, filled with series; the n-th point stands at the n-th step."""
    windows: dict[str, Window] = {selector.key: selector.make_window() for selector in expression.selectors}
    for line in filter(str.strip, data.splitlines()):
        series = parse_series(line)
        points = [(i * step_ms, p) for i, p in enumerate(series.points) if isinstance(p, float)]
        for selector in expression.selectors:
            if selector.matches(series.labels) and points:
                times, values = np.array([t for t, _ in points]), np.array([v for _, v in points])
                windows[selector.key].append([encode(series.labels)] * len(points), times, values)
    return windows


def evaluate(
    text: str, data: str = "", at_ms: int = 0, step_ms: int = MINUTE_MS, *, delayed_names: bool = False
) -> dict[str, float] | float:
    """The value of an expression as a rule sees it: a number, or numbers by label set, in order."""
    expression = compile_promql(text, delayed_names=delayed_names)
    vector = expression.evaluate(windows_for(expression, data, step_ms), at_ms)
    if vector.is_scalar:
        return float(vector.values[0])
    shown = [
        labels.get("__name__", "") + show_labels({n: v for n, v in labels.items() if n != "__name__"})
        for labels in vector.labels
    ]
    return dict(zip(shown, vector.values.tolist(), strict=True))
