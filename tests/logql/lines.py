"""Helpers for LogQL tests: run a query over lines, the way the core does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from engine import logql
from engine.core.expression import Window
from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql.evaluate import LogQLExpression
from engine.logql.pipeline import decode_series
from engine.logql.window import LogWindow

STREAM = {"app": "a"}
Entry = tuple[float, str]
"""Seconds and a line."""


def entry(at_s: float, line: str, **metadata: str) -> LogEntry:
    """A log entry."""
    return LogEntry(round(at_s * 1e9), line, metadata)


def fill(expression: LogQLExpression, entries: Iterable[LogEntry], stream: Labels) -> dict[str, Window]:
    """The windows of an expression after these lines of one stream."""
    windows: dict[str, Window] = {}
    for selector in expression.selectors:
        window = windows[selector.key] = LogWindow()
        assert selector.extract is not None
        for item in entries:
            found = selector.extract(stream, item)
            if found is not None:
                times = np.array([item.t_ns], np.int64)
                window.append_lines([found[0]], times, np.array([found[1]]), [item.line], stream)
    return windows


def ask(
    query: str, entries: Iterable[LogEntry], at_s: float = 60, stream: Labels = STREAM, *, strict: bool = False
) -> dict[str, float]:
    """Values by `name=value,...` of the labels (without `app`)."""
    expression = logql.compile(query, strict=strict)
    vector = expression.evaluate(fill(expression, list(entries), stream), round(at_s * 1000))
    return {show(labels): value for labels, value in zip(vector.labels, vector.values.tolist(), strict=True)}


def show(labels: Mapping[str, str]) -> str:
    """Labels as short text."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "app")


def labels_of(pipeline: str, line: str, stream: Labels = STREAM, **metadata: str) -> dict[str, str] | None:
    """The labels that a line has at the end of a pipeline; None if it is filtered out."""
    selector = logql.compile(f'count_over_time({{app="a"}} {pipeline} [1m])').selectors[0]
    assert selector.extract is not None
    found = selector.extract(stream, entry(1, line, **metadata))
    if found is None:
        return None
    return {name: value for name, value in decode_series(found[0]).items() if stream.get(name) != value}
