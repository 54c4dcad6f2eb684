"""What a test file says, as plain data, and what came of running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.ruletest.notation import Points


@dataclass(frozen=True)
class InputSeries:
    """A metric series; the n-th point stands at n times the test's interval."""

    labels: Labels
    points: Points


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
    """One test: its own data, and what is to come of it. `line` and `column` are where it stands."""

    name: str
    interval_ms: int
    external_labels: Labels
    external_url: str
    series: tuple[InputSeries, ...]
    streams: tuple[InputStream, ...]
    alerts: tuple[AlertCase, ...]
    expressions: tuple[ExpressionCase, ...]
    line: int
    column: int

    @property
    def asked_ms(self) -> set[int]:
        """The times that are asked about."""
        return {case.at_ms for case in self.alerts} | {case.at_ms for case in self.expressions}

    @property
    def end_ms(self) -> int:
        """The latest of them: the test goes on until then."""
        return max(self.asked_ms, default=0)


@dataclass(frozen=True)
class RuleFiles:
    """One entry of `rule_files`: a path or a pattern like `rules/*.yml`, and where it stands."""

    pattern: str
    line: int
    column: int


@dataclass(frozen=True)
class TestFile:
    """A test file.

    `rule_files` are paths relative to it, as written. `group_order` names the groups to evaluate first, in order.
    `fuzzy` lets values differ in the last bit.
    """

    file: str
    rule_files: tuple[RuleFiles, ...]
    evaluation_interval_ms: int
    group_order: tuple[str, ...]
    fuzzy: bool
    eager: bool
    tests: tuple[Test, ...]


class CaseResult(Struct, frozen=True):
    """What came of one expectation; `diff` is empty if it was met. `expected` and `got` are one text per element.

    `warning` is something the author of the test should know although it passed.
    """

    test: str
    what: str
    file: str
    line: int
    column: int
    passed: bool
    expected: list[str]
    got: list[str]
    diff: str = ""
    warning: str = ""
