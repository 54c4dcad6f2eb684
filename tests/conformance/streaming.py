"""An expression as a rule of the real evaluator: data comes in batches through `Shard.step`, ticks are evaluated.

What the rule's expression gave at each wanted tick is recorded, to be compared with the same expression over
everything at once. It must not matter how the data was cut, that old samples were evicted on the way, or that a
batch held samples later than the tick.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Raw

from engine.core.expression import EvaluationError, Expression, Selector, Vector, Window
from engine.core.labels import Labels, encode
from engine.core.messages import EvidenceLine, MetricBatch, RuleInput, pack
from engine.core.rules import AlertRule, RuleGroup
from engine.core.step import Shard, StepConfig

Sample = tuple[int, bytes, float]
"""Time, series, value."""

Outcome = list[str] | str
_MINUTE_MS = 60_000


@dataclass
class Recorded:
    """An expression that notes what it gives at the wanted times, and raises no alerts."""

    inner: Expression
    wanted: Sequence[int]
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The inner expression's."""
        return self.inner.text

    @property
    def selectors(self) -> Sequence[Selector]:
        """The inner expression's."""
        return self.inner.selectors

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        """Nothing; the inner result is noted."""
        if at_ms in self.wanted:
            self.outcomes[at_ms] = outcome(self.inner, windows, at_ms)
        return Vector([], np.zeros(0))

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """Nothing."""
        return []


def outcome(expression: Expression, windows: Mapping[str, Window], at_ms: int) -> Outcome:
    """The result as a rule has it, as text; or the error."""
    try:
        vector = expression.evaluate(windows, at_ms)
    except EvaluationError as error:
        return str(error)
    return [f"{encode(own).decode()} {value!r}" for own, value in zip(vector.labels, vector.values, strict=True)]


def batches(samples: Sequence[Sample], size: int) -> list[MetricBatch]:
    """The samples, sorted by time, as the batches of one source; numbers begin at 1."""
    result: list[MetricBatch] = []
    for at in range(0, len(samples), size):
        part = samples[at : at + size]
        rest = samples[at + size :]
        result.append(_batch(len(result) + 1, rest[0][0] if rest else part[-1][0] + 1, part))
    return result


def _batch(seq: int, watermark_ms: int, samples: Sequence[Sample] = ()) -> MetricBatch:
    return MetricBatch(
        source="script",
        epoch=1,
        seq=seq,
        watermark_ms=watermark_ms,
        received_ms=watermark_ms,
        series=[Raw(series) for _, series, _ in samples],
        t_ms=[t_ms for t_ms, _, _ in samples],
        values=pack([value for _, _, value in samples]),
    )


def stream(expression: Expression, sent: Sequence[MetricBatch], times: range) -> dict[int, Outcome]:
    """What a rule with this expression gives at the times, while the batches come in."""
    recorded = Recorded(expression, times)
    interval_ms = math.gcd(times.start, times.step if len(times) > 1 else 0) or _MINUTE_MS
    rule = AlertRule("rule", "rule", "group", recorded, 0, 0, {}, {}, "script", 1)
    shard = Shard([RuleGroup("group", "group", interval_ms, 0, (rule,))], StepConfig(eager_per_s=0))
    for message in _framed(sent, times):
        shard.step(RuleInput(0, message))
    return recorded.outcomes


def _framed(sent: Sequence[MetricBatch], times: range) -> Iterator[MetricBatch]:
    """The batches between a heartbeat from before all of them, so that no tick is missed, and one from after."""
    first = min([times[0], *(batch.t_ms[0] for batch in sent)])
    last = max([times[-1], *(batch.t_ms[-1] for batch in sent)])
    yield _batch(0, first - 1)
    yield from sent
    yield _batch(len(sent) + 1, last + 1)
