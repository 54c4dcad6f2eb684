"""An eval of Loki's scripts as a rule on the stream: `Shard.step`, in batches, disordered within the lateness.

The expression is that of a recording rule whose interval divides every time asked for; what it gives at each of its
ticks is noted as it is, with the labels that Sentinel would not record.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Raw

from engine import logql
from engine.core.expression import EvaluationError, ExpressionError, Selector, Vector, Window
from engine.core.group import StepConfig
from engine.core.labels import Labels
from engine.core.messages import EvidenceLine, LogBatch, LogEntry, LogStream, RuleInput
from engine.core.rules import parse_rules
from engine.core.step import Shard
from engine.logql.evaluate import LogQLExpression
from engine.logql.pipeline import encode_series
from tests.conformance.logqltest import Eval

LATENESS_MS = 2_000
_BATCH = 5
Entries = Sequence[tuple[Labels, LogEntry]]


@dataclass
class Noting:
    """An expression that notes what it gave, by time."""

    inner: LogQLExpression
    given: dict[int, Vector] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.inner.text

    @property
    def selectors(self) -> Sequence[Selector]:
        return self.inner.selectors

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        found = self.given[at_ms] = self.inner.evaluate(windows, at_ms)
        return found

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        return self.inner.evidence(windows, at_ms, labels, limit)


def can_run(command: Eval) -> bool:
    """Whether a rule may ask this: not what looks ahead, or what Loki refuses for a range of times alone."""
    try:
        logql.compile(command.query)
        return not (command.step_ms and logql.compile(command.query, strict=True).instant_only)
    except ExpressionError as error:
        return "looks into the future" not in str(error)


def run(command: Eval, entries: Entries) -> dict[bytes, dict[int, float]]:
    """Values by series and time, series in the order of the result. Raises what the rule would fail with."""
    expression = Noting(logql.compile(command.query, strict=True))
    wanted = range(command.start_ms, command.end_ms + 1, command.step_ms or 1)
    interval_ms = math.gcd(command.start_ms, command.step_ms) or 60_000
    text = (
        f"groups: [{{name: g, interval: {interval_ms}ms, rules: [{{record: x, expr: {json.dumps(command.query)}}}]}}]"
    )
    groups, problems = parse_rules(text, "script.yml", lambda _: expression)
    if problems:
        raise EvaluationError("; ".join(map(str, problems)))
    shard = Shard(groups, StepConfig(eager_per_s=0))
    for batch in stream(entries, command):
        for failure in shard.step(RuleInput(0, batch)).failures:
            if failure.at_ms in wanted and failure.at_ms not in expression.given:
                raise EvaluationError(failure.reason)
    results: dict[bytes, dict[int, float]] = {}
    for at_ms in wanted:
        vector = expression.given[at_ms]
        for labels, value in zip(vector.labels, vector.values.tolist(), strict=True):
            results.setdefault(encode_series(labels), {})[at_ms] = value
    return results


def stream(entries: Entries, command: Eval) -> Iterator[LogBatch]:
    """The lines as they may arrive: each up to the lateness after its time, a few in a batch; at last a heartbeat."""
    draw = random.Random(command.line)  # seeded: the same order every time
    arriving = sorted(entries, key=lambda pair: pair[1].t_ns / 1e6 + draw.random() * LATENESS_MS)
    times_ms = [entry.t_ns // 1_000_000 for _, entry in entries]
    watermark_ms = min([command.start_ms, *times_ms]) - LATENESS_MS - 1
    yield LogBatch("script", 1, 0, watermark_ms, watermark_ms)
    for first in range(0, len(arriving), _BATCH):
        own = arriving[first : first + _BATCH]
        streams: dict[bytes, list[LogEntry]] = {}
        for labels, entry in own:
            streams.setdefault(encode_series(labels), []).append(entry)
            watermark_ms = max(watermark_ms, entry.t_ns // 1_000_000 - LATENESS_MS)
        ordered = [LogStream(Raw(key), sorted(some, key=lambda one: one.t_ns)) for key, some in streams.items()]
        yield LogBatch("script", 1, first + 1, watermark_ms, watermark_ms, ordered)
    end_ms = max([command.end_ms, *times_ms]) + LATENESS_MS
    yield LogBatch("script", 1, len(arriving) + 1, end_ms, end_ms)
