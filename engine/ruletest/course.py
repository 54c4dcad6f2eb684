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
from engine.core.messages import EvidenceLine
from engine.core.recording import reads_from
from engine.core.rules import RuleGroup
from engine.core.step import Shard
from engine.ruletest.feed import Feed
from engine.ruletest.model import Test, TestFile

_FOREVER_MS = 2**52
_EVALUATIONS_AT_ONCE = 32


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
            external_url=test.external_url,
        )
        shard = Shard([*ordered, kept], config, given_order=True)
        *self.groups, self._kept = shard.groups
        self.failures: list[str] = []
        self._feed = Feed(test, shard)
        self._test = test
        self._interval_ms = interval_ms
        self._eager = tests.eager
        self._stepwise = tests.eager or _reads_ahead(ordered)

    def run(self) -> Iterator[tuple[int, int]]:
        """Move through the test; yields, after each evaluation that is judged, for which times it counts: from, before.

        Evaluations in between are made in one go where nothing comes of it (`Shard` promises that batching does not
        matter); where a group reads what a later one records, it must be one after the other.
        """
        self._feed.begin()
        done_ms = -1
        for at_ms, next_ms in self._stops():
            stride_ms = self._interval_ms * (1 if self._stepwise else _EVALUATIONS_AT_ONCE)
            for until_ms in (*range(done_ms + stride_ms, at_ms, stride_ms), at_ms):
                for result in self._feed.move(until_ms):
                    self.failures += [f"{one.rule} at {format_ms(one.at_ms)}: {one.reason}" for one in result.failures]
            done_ms = at_ms
            yield at_ms, next_ms
        self._feed.move_lines(self._test.end_ms)  # for metrics the last evaluation is the end, for lines it is not

    def evaluate(self, expression: Expression, at_ms: int) -> Vector:
        """The value of one of the asked expressions. Raises `EvaluationError`."""
        return expression.evaluate(self._kept.windows, at_ms)

    def _stops(self) -> Iterator[tuple[int, int]]:
        """The evaluations that are judged and the last one, each with the time from which a later one counts.

        An expectation is judged by the latest evaluation before it, and with `eager` at its very time.
        """
        asked = {case.at_ms for case in self._test.alerts}
        step_ms = 1 if self._eager else self._interval_ms
        stops = sorted({at_ms // step_ms * step_ms for at_ms in (*asked, self._test.end_ms)})
        yield from zip(stops, [*stops[1:], _FOREVER_MS], strict=True)


def _in_order(groups: Sequence[RuleGroup], names: Sequence[str]) -> list[RuleGroup]:
    """As in promtool: by place in the order, and groups it does not name together with the first."""
    place = {name: i for i, name in enumerate(names)}
    return sorted(groups, key=lambda group: place.get(group.name, 0))


def _reads_ahead(ordered: Sequence[RuleGroup]) -> bool:
    """Whether a group reads what one that is evaluated after it records."""
    place = {group.key: i for i, group in enumerate(ordered)}
    return any(place[producer] > place[key] for key, found in reads_from(ordered).items() for producer in found)
