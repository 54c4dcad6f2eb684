"""Expression tests: what an expression gives at a time, on all that a test put in and its rules recorded.

As in promtool they are asked after the last evaluation: a sample newer than that is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.core import labels as label_sets
from engine.core.duration import format_ms
from engine.core.expression import EvaluationError, Expression, ExpressionError, Selector, Vector, Window
from engine.core.group import StepConfig
from engine.core.labels import Labels
from engine.core.messages import LogBatch, RuleInput
from engine.core.rules import AlertRule, Compile, RuleGroup
from engine.core.step import Shard
from engine.ruletest.compare import case_result, sample_texts
from engine.ruletest.feed import Samples
from engine.ruletest.model import CaseResult, ExpressionCase

_FOREVER_MS = 2**60


class Archive:
    """What a test has stored. Windows are filled once for each selector that is asked for and serve all times."""

    def __init__(self, samples: Samples, logs: LogBatch) -> None:
        self._samples = samples
        self._logs = logs
        self._labels = [label_sets.decode(key) for key in samples.keys]
        self._windows: dict[str, Window] = {}

    def evaluate(self, expression: Expression, at_ms: int) -> Vector:
        """The value of an expression at a time. Raises `EvaluationError`."""
        return expression.evaluate({one.key: self._window(one, expression) for one in expression.selectors}, at_ms)

    def _window(self, selector: Selector, expression: Expression) -> Window:
        if selector.key not in self._windows:
            fill = self._of_samples if selector.kind == "metrics" else self._of_lines
            self._windows[selector.key] = fill(selector, expression)
        return self._windows[selector.key]

    def _of_samples(self, selector: Selector, _: Expression) -> Window:
        window, samples = selector.make_window(), self._samples
        wanted = np.array([selector.matches(labels) for labels in self._labels], np.bool_)
        chosen = np.flatnonzero(wanted[samples.rows]) if len(wanted) else samples.rows
        series = [samples.keys[row] for row in samples.rows[chosen].tolist()]
        window.append(series, samples.t_ms[chosen], samples.values[chosen])
        return window

    def _of_lines(self, selector: Selector, expression: Expression) -> Window:
        """Lines go through the pipeline of a rule with this expression, which is never due."""
        rule = AlertRule("", "", "", expression, 0, 0, {}, {}, "", 0)
        shard = Shard([RuleGroup("", "", _FOREVER_MS, 0, (rule,))], StepConfig(eager_per_s=0))
        shard.step(RuleInput(0, self._logs))
        return shard.groups[0].windows[selector.key]


def ask(
    case: ExpressionCase, archive: Archive, compile_expression: Compile, names: tuple[str, str], *, fuzzy: bool
) -> CaseResult:
    """The verdict on one expression test; `names` are those of the file and the test."""
    place = (names[0], case.line, case.column)
    what = f"{case.expression} at {format_ms(case.at_ms)}"
    got: Sequence[tuple[Labels, float]] = []
    notes = []
    try:
        vector = archive.evaluate(compile_expression(case.expression), case.at_ms)
        got = list(zip(vector.labels, vector.values.tolist(), strict=True))
    except ExpressionError as error:
        notes = [f"the expression is wrong at {error.line}:{error.column}: {error.message}"]
    except EvaluationError as error:
        notes = [f"evaluation failed: {error}"]
    return case_result(names[1], what, place, sample_texts(case.expected, got, fuzzy=fuzzy), notes)


def compilers(languages: Mapping[str, Compile]) -> Mapping[str, Compile]:
    """The languages, each remembering what it compiled: a test asks the same at many times."""
    known: dict[tuple[str, str], Expression] = {}

    def remembering(language: str) -> Compile:
        def compile_once(text: str) -> Expression:
            if (language, text) not in known:
                known[language, text] = languages[language](text)
            return known[language, text]

        return compile_once

    return {language: remembering(language) for language in languages}
