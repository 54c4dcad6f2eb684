"""What a test file says, as plain data, and what came of running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.ruletest.notation import Point


@dataclass(frozen=True)
class InputSeries:
    """A metric series; the n-th point stands at n times the test's interval."""

    labels: Labels
    points: tuple[Point, ...]


@dataclass(frozen=True)
class InputStream:
    """Lines of one log stream."""

    labels: Labels
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True)
class ExpectedAlert:
    """One firing alert with all its labels and annotations, as in promtool; `lines` must be among its evidence."""

    labels: Labels
    annotations: Labels
    lines: tuple[str, ...]


@dataclass(frozen=True)
class AlertCase:
    """Which alerts of one name fire at a time."""

    alertname: str
    at_ms: int
    expected: tuple[ExpectedAlert, ...]
    line: int
    column: int


@dataclass(frozen=True)
class ExpressionCase:
    """What an expression gives at a time: label sets (with `__name__`) and values."""

    language: Literal["promql", "logql"]
    expression: str
    at_ms: int
    expected: tuple[tuple[Labels, float], ...]
    line: int
    column: int


@dataclass(frozen=True)
class Test:
    """One test: its own data, and what is to come of it."""

    name: str
    interval_ms: int
    external_labels: Labels
    series: tuple[InputSeries, ...]
    streams: tuple[InputStream, ...]
    alerts: tuple[AlertCase, ...]
    expressions: tuple[ExpressionCase, ...]


@dataclass(frozen=True)
class TestFile:
    """A test file. `rule_files` are paths relative to it, as written."""

    file: str
    rule_files: tuple[str, ...]
    evaluation_interval_ms: int
    eager: bool
    tests: tuple[Test, ...]


class CaseResult(Struct, frozen=True):
    """What came of one expectation; `diff` is empty if it was met. `expected` and `got` are one text per element."""

    test: str
    what: str
    file: str
    line: int
    column: int
    passed: bool
    expected: list[str]
    got: list[str]
    diff: str = ""
