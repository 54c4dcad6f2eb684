"""Runs rule tests on the very step function that runs live: input becomes batches, time moves from tick to tick.

As in promtool every rule is evaluated at time 0 and then every `evaluation_interval`; an expectation at a time in
between sees the latest evaluation. With `eager` rules are also evaluated at the times of matching events.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.duration import format_ms
from engine.core.expression import EvaluationError, Expression, ExpressionError, Window
from engine.core.group import StepConfig
from engine.core.messages import Batch, LogBatch, LogStream, MetricBatch, RuleInput
from engine.core.rules import AlertRule, Compile, RuleGroup
from engine.core.step import Shard
from engine.ruletest.compare import alert_text, case_result, sample_text
from engine.ruletest.model import AlertCase, CaseResult, ExpressionCase, Test, TestFile

Special = Literal["NaN", "+Inf", "-Inf", "stale"]

_FOREVER_MS = 2**60
EVIDENCE_LIMIT = 1_000


def run_tests(tests: TestFile, groups: Sequence[RuleGroup], languages: Mapping[str, Compile]) -> list[CaseResult]:
    """One result per expectation, alerts of a test by time. `languages` compile the expressions of expression tests."""
    results: list[CaseResult] = []
    for test in tests.tests:
        results += _run_alerts(tests, test, groups) if test.alerts else []
        results += [_run_expression(tests.file, test, case, languages) for case in test.expressions]
    return results


def _run_alerts(tests: TestFile, test: Test, groups: Sequence[RuleGroup]) -> list[CaseResult]:
    interval_ms = tests.evaluation_interval_ms
    config = StepConfig(
        eager_per_s=StepConfig().eager_per_s if tests.eager else 0,
        source_idle_ms=_FOREVER_MS,
        external_labels=test.external_labels,
    )
    shard = Shard([replace(group, interval_ms=interval_ms) for group in groups], config)
    _begin(shard)
    failures: list[str] = []
    results: list[CaseResult] = []
    done_ms = -1
    stops = _stops(test.alerts, interval_ms, eager=tests.eager)
    for stop_ms, next_ms in zip(stops, [*stops[1:], _FOREVER_MS], strict=True):
        for batch in _batches(test, done_ms, stop_ms):
            failed = shard.step(RuleInput(0, batch)).failures
            failures += [f"{f.rule} at {format_ms(f.at_ms)}: {f.reason}" for f in failed]
        done_ms = stop_ms
        due = [case for case in test.alerts if stop_ms <= case.at_ms < next_ms]
        results += [_judge(tests.file, test, case, shard, failures) for case in due]
    return results


def _stops(cases: Sequence[AlertCase], interval_ms: int, *, eager: bool) -> list[int]:
    """The times to move to, one after the other: every evaluation, and with `eager` every time that is asked about."""
    last_ms = max((case.at_ms for case in cases), default=0)
    stops = set(range(0, last_ms + 1, interval_ms))
    if eager:
        stops |= {case.at_ms for case in cases}
    return sorted(stops)


def _begin(shard: Shard) -> None:
    """Let time begin at 0, so that the first evaluation is at 0 as promtool's is."""
    shard.step(RuleInput(0, MetricBatch("metrics", 0, 0, 0, 0)))
    shard.step(RuleInput(0, LogBatch("logs", 0, 0, 0, 0)))


def _batches(test: Test, after_ms: int, until_ms: int) -> Iterator[Batch]:
    """What happens in `(after_ms, until_ms]`, of each kind of input; afterwards both have passed `until_ms`."""
    series: list[Raw] = []
    times: list[int] = []
    values: list[float] = []
    special: dict[str, Special] = {}
    for entry in test.series:
        raw = Raw(label_sets.encode(entry.labels))
        first = max(0, after_ms // test.interval_ms + 1)
        for i in range(first, min(len(entry.points), until_ms // test.interval_ms + 1)):
            point = entry.points[i]
            if point is None:
                continue
            name = "stale" if point == "stale" else _special(float(point))
            if name is not None:
                special[str(len(times))] = name
            series.append(raw)
            times.append(i * test.interval_ms)
            values.append(float(point) if name is None else 0.0)
    streams = []
    for stream in test.streams:
        entries = [e for e in stream.entries if after_ms * 1_000_000 < e.t_ns <= until_ms * 1_000_000]
        if entries:
            streams.append(LogStream(Raw(label_sets.encode(stream.labels)), entries))
    yield MetricBatch("metrics", 1, until_ms, until_ms + 1, 0, series, times, values, special)
    yield LogBatch("logs", 1, until_ms, until_ms + 1, 0, streams)


def _special(value: float) -> Special | None:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return None


def _judge(file: str, test: Test, case: AlertCase, shard: Shard, failures: Sequence[str]) -> CaseResult:
    expected = [alert_text(e.labels, e.annotations, e.lines) for e in case.expected]
    wanted_lines = {label_sets.fingerprint(e.labels): e.lines for e in case.expected}
    got = []
    known = False
    for group in shard.groups:
        for rule, active in zip(group.rules.rules, group.active, strict=True):
            known = known or rule.name == case.alertname
            if rule.name != case.alertname:
                continue
            for alert in active.values():
                if alert.state != "firing":
                    continue
                evidence = rule.expression.evidence(group.windows, case.at_ms, alert.series, EVIDENCE_LIMIT)
                seen = {line.line for line in evidence}
                lines = [line for line in wanted_lines.get(label_sets.fingerprint(alert.labels), ()) if line in seen]
                got.append(alert_text(alert.labels, alert.annotations, lines))
    what = f"alert {case.alertname} at {format_ms(case.at_ms)}"
    notes = [] if known else [f"no rule file has an alert {case.alertname!r}"]
    notes += [f"evaluation failed: {failure}" for failure in failures]
    return case_result(test.name, what, (file, case.line, case.column), (expected, got), notes)


def _run_expression(file: str, test: Test, case: ExpressionCase, languages: Mapping[str, Compile]) -> CaseResult:
    place = (file, case.line, case.column)
    what = f"{case.expression} at {format_ms(case.at_ms)}"
    expected = [sample_text(labels, value) for labels, value in case.expected]
    try:
        expression = languages[case.language](case.expression)
        vector = expression.evaluate(_windows(test, expression, case.at_ms), case.at_ms)
    except ExpressionError as error:
        note = f"the expression is wrong at {error.line}:{error.column}: {error.message}"
        return case_result(test.name, what, place, (expected, []), [note])
    except EvaluationError as error:
        return case_result(test.name, what, place, (expected, []), [f"evaluation failed: {error}"])
    got = [sample_text(labels, value) for labels, value in zip(vector.labels, vector.values.tolist(), strict=True)]
    return case_result(test.name, what, place, (expected, got), [])


def _windows(test: Test, expression: Expression, at_ms: int) -> Mapping[str, Window]:
    """The windows of an expression as a rule with it would have filled them by then."""
    rule = AlertRule("", "", "", expression, 0, 0, {}, {}, "", 0)
    config = StepConfig(eager_per_s=0, source_idle_ms=_FOREVER_MS)
    shard = Shard([RuleGroup("", "", _FOREVER_MS, 0, (rule,))], config)
    _begin(shard)
    for batch in _batches(test, -1, at_ms):
        shard.step(RuleInput(0, batch))
    return shard.groups[0].windows
