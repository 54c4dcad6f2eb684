"""Runs rule tests and judges what came of them, expectation by expectation.

As in promtool every rule is evaluated at time 0 and then every `evaluation_interval`; an expectation about alerts at a
time in between sees the latest evaluation, and expressions are asked after the last one: a sample newer than that is
not there yet. With `eager` rules are also evaluated at the times of matching events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.core import labels as label_sets
from engine.core.alert import ActiveAlert
from engine.core.duration import format_ms
from engine.core.expression import EvaluationError, Expression, ExpressionError
from engine.core.group import Group
from engine.core.rules import AlertRule, Compile, RuleGroup
from engine.ruletest.compare import Samples, alert_text, case_result, sample_texts
from engine.ruletest.course import Course
from engine.ruletest.model import AlertCase, CaseResult, ExpressionCase, Test, TestFile

EVIDENCE_LIMIT = 1_000


def run_tests(tests: TestFile, groups: Sequence[RuleGroup], languages: Mapping[str, Compile]) -> list[CaseResult]:
    """One result per expectation, alerts of a test by time, and one for rules that could not be evaluated.

    `languages` compile the expressions of expression tests.
    """
    return [result for test in tests.tests for result in _Trial(tests, test, languages).run(groups)]


@dataclass
class _Trial:
    """One test of a file. `compiled` are its expressions by language and text, or what is wrong with them."""

    tests: TestFile
    test: Test
    languages: Mapping[str, Compile]
    compiled: dict[tuple[str, str], Expression | ExpressionError] = field(default_factory=dict)

    def run(self, groups: Sequence[RuleGroup]) -> Iterator[CaseResult]:
        """Run it."""
        for case in self.test.expressions:
            self._compile(case)
        asked = [found for found in self.compiled.values() if not isinstance(found, ExpressionError)]
        course = Course(self.tests, self.test, groups, asked)
        rules = _by_name(course.groups)
        cases = sorted(self.test.alerts, key=lambda case: case.at_ms)
        for at_ms, next_ms in course.run():
            yield from (self._judge(case, rules) for case in cases if at_ms <= case.at_ms < next_ms)
        yield from (self._ask(case, course) for case in self.test.expressions)
        if course.failures:
            place = (self.tests.file, self.test.line, self.test.column)
            notes = [f"evaluation failed: {failure}" for failure in course.failures]
            yield case_result(self.test.name, "evaluation of the rules", place, ([], []), notes)

    def _judge(self, case: AlertCase, rules: Mapping[str, list[tuple[Group, int]]]) -> CaseResult:
        expected = [alert_text(one.labels, one.annotations, one.lines) for one in case.expected]
        wanted = {label_sets.fingerprint(one.labels): one.lines for one in case.expected if one.lines}
        got = []
        for group, index in rules.get(case.alertname, ()):
            for mark, alert in group.active[index].items():
                if alert.state == "firing":
                    lines = _seen(group, index, alert, case.at_ms, wanted.get(mark, ()))
                    got.append(alert_text(alert.labels, alert.annotations, lines))
        what = f"alert {case.alertname} at {format_ms(case.at_ms)}"
        warning = "" if case.alertname in rules else f"no rule file has an alert {case.alertname!r}"
        place = (self.tests.file, case.line, case.column)
        return case_result(self.test.name, what, place, (expected, got), warning=warning)

    def _compile(self, case: ExpressionCase) -> None:
        key = (case.language, case.expression)
        if key not in self.compiled:
            try:
                self.compiled[key] = self.languages[case.language](case.expression)
            except ExpressionError as error:
                self.compiled[key] = error

    def _ask(self, case: ExpressionCase, course: Course) -> CaseResult:
        expression = self.compiled[case.language, case.expression]
        got: Samples = []
        notes = []
        if isinstance(expression, ExpressionError):
            notes = [f"the expression is wrong at {expression.line}:{expression.column}: {expression.message}"]
        else:
            try:
                vector = course.evaluate(expression, case.at_ms)
                got = list(zip(vector.labels, vector.values.tolist(), strict=True))
            except EvaluationError as error:
                notes = [f"evaluation failed: {error}"]
        what = f"{case.expression} at {format_ms(case.at_ms)}"
        sides = sample_texts(case.expected, got, fuzzy=self.tests.fuzzy)
        return case_result(self.test.name, what, (self.tests.file, case.line, case.column), sides, notes)


def _by_name(groups: Sequence[Group]) -> Mapping[str, list[tuple[Group, int]]]:
    """The alerting rules, each as its group and its place in it."""
    found: dict[str, list[tuple[Group, int]]] = defaultdict(list)
    for group in groups:
        for index, rule in enumerate(group.rules.rules):
            if isinstance(rule, AlertRule):
                found[rule.name].append((group, index))
    return dict(found)


def _seen(group: Group, index: int, alert: ActiveAlert, at_ms: int, wanted: Sequence[str]) -> list[str]:
    """Which of some lines are among the evidence of an alert."""
    if not wanted:
        return []
    expression = group.rules.rules[index].expression
    evidence = expression.evidence(group.windows, at_ms, alert.series, EVIDENCE_LIMIT)
    return [line for line in wanted if line in {one.line for one in evidence}]
