"""The course of one test: input becomes batches, and time moves from evaluation to evaluation.

Everything goes through the very step function that runs live. Groups are evaluated one after the other in the order
that the test file says, so that a group that reads what a later one records sees its last evaluation, as in promtool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.core.duration import format_ms
from engine.core.expression import Expression, Selector, Vector, Window
from engine.core.group import StepConfig
from engine.core.labels import Labels
from engine.core.messages import EvidenceLine, RuleInput
from engine.core.rules import RuleGroup
from engine.core.step import Shard
from engine.ruletest.feed import Feed
from engine.ruletest.model import Test, TestFile

_FOREVER_MS = 2**52


@dataclass(frozen=True)
class Remembered:
    """An expression of which the windows forget nothing, so that it can be asked for any time of the test."""

    inner: Expression

    @property
    def text(self) -> str:
        """The expression as it was written."""
        return self.inner.text

    @property
    def selectors(self) -> Sequence[Selector]:
        """What it reads, kept for ever."""
        return [replace(selector, reach_ms=_FOREVER_MS) for selector in self.inner.selectors]

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        """Its value at a time. Raises `EvaluationError`."""
        return self.inner.evaluate(windows, at_ms)

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """The lines that counted towards a result series."""
        return self.inner.evidence(windows, at_ms, labels, limit)


class Course:
    """One run of a test's data through rules. `asked` are the expressions that will be evaluated at its end."""

    def __init__(self, tests: TestFile, test: Test, groups: Sequence[RuleGroup], asked: Sequence[Expression]) -> None:
        interval_ms = tests.evaluation_interval_ms
        ordered = [replace(group, interval_ms=interval_ms) for group in _in_order(groups, tests.group_order)]
        kept = RuleGroup("", "", interval_ms, 0, (), kept=tuple(map(Remembered, asked)))
        config = StepConfig(
            eager_per_s=StepConfig().eager_per_s if tests.eager else 0,
            source_idle_ms=_FOREVER_MS,
            external_labels=test.external_labels,
        )
        shard = Shard([*ordered, kept], config, given_order=True)
        *self.groups, self._kept = shard.groups
        self.failures: list[str] = []
        self._shard = shard
        self._feed = Feed(test)
        self._stops = _stops(test, interval_ms, eager=tests.eager)
        self._end_ms = test.end_ms

    def run(self) -> Iterator[tuple[int, int]]:
        """Move from one evaluation to the next; yields after each the times, from and before, for which it counts."""
        for batch in self._feed.heartbeats(-1):  # let time begin at 0: the first evaluation is then at 0
            self._shard.step(RuleInput(0, batch))
        for at_ms, next_ms in zip(self._stops, [*self._stops[1:], _FOREVER_MS], strict=True):
            for batch in self._feed.batches(at_ms):
                failed = self._shard.step(RuleInput(0, batch)).failures
                self.failures += [f"{one.rule} at {format_ms(one.at_ms)}: {one.reason}" for one in failed]
            yield at_ms, next_ms
        _, lines = self._feed.batches(self._end_ms)  # for metrics the last evaluation is the end, for lines it is not
        self._shard.step(RuleInput(0, lines))

    def evaluate(self, expression: Expression, at_ms: int) -> Vector:
        """The value of one of the asked expressions. Raises `EvaluationError`."""
        return expression.evaluate(self._kept.windows, at_ms)


def _in_order(groups: Sequence[RuleGroup], names: Sequence[str]) -> list[RuleGroup]:
    """As in promtool: by place in the order, and groups it does not name together with the first."""
    place = {name: i for i, name in enumerate(names)}
    return sorted(groups, key=lambda group: place.get(group.name, 0))


def _stops(test: Test, interval_ms: int, *, eager: bool) -> list[int]:
    """The times to move to, one after the other: every evaluation, and with `eager` every time that is asked about."""
    stops = set(range(0, test.end_ms + 1, interval_ms))
    if eager:
        stops |= test.asked_ms
    return sorted(stops)
