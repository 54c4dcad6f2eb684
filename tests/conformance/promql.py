"""Runs Prometheus's own test scripts against our PromQL: `python -m tests.conformance.promql FILE...`.

Without a file, every script in `$SENTINEL_CONFORMANCE/promql` is run (default: `../shared/conformance` beside the
checkout). Prints a line per file and a total; exit 1 if anything failed. What is refused by name at load, or reads
native histograms, is skipped and counted by its reason.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.core.expression import EvaluationError, ExpressionError, Window
from engine.core.labels import Labels, MatcherSet, decode, encode
from engine.core.messages import MetricBatch
from engine.promql.compile import compile as compile_promql
from engine.promql.evaluate import PromQLExpression, RangeSelector, Subquery, Text
from engine.vector.values import Context, InstantVector, RangeVector, sorted_vector
from tests.conformance import promqltest as script
from tests.conformance import streaming

ROOT = Path(__file__).resolve().parents[2]
BATCH_SIZES = (7, 100_000)
"""Streamed data is cut into batches of so many samples."""
_TOLERANCE = 1e-6
_PREFIX = re.compile(r"PromQL (warning|info): ")
_POSITION = re.compile(r"( \.\*)? \\?\((\d+:\d+|\[0-9\]\+:\[0-9\]\+)\\?\)$")  # our notes carry no position
Results = dict[bytes, dict[int, float]]


class MismatchError(Exception):
    """The result is not what the script expects."""


class SkipError(Exception):
    """The eval cannot be judged; the message is the reason."""


@dataclass
class Data:
    """What a script has loaded. `unreadable` are the series that cannot be judged, with the reason."""

    series: dict[bytes, dict[int, float]] = field(default_factory=dict)
    unreadable: list[tuple[Labels, str]] = field(default_factory=list)
    _batches: dict[int, list[MetricBatch]] = field(default_factory=dict)

    def load(self, command: script.Load) -> None:
        """Add the series of a `load`."""
        self._batches.clear()
        for series in command.series:
            samples = self.series.setdefault(encode(series.labels), {})
            for i, point in enumerate(series.points):
                if isinstance(point, float):
                    samples[i * command.step_ms] = point
            name = series.labels.get("__name__", "")
            if script.HISTOGRAM in series.points:
                self.unreadable.append((series.labels, "native histograms"))
            elif command.custom_buckets and name.endswith("_bucket"):
                labels = {n: v for n, v in series.labels.items() if n != "le"}
                self.unreadable.append(({**labels, "__name__": name.removesuffix("_bucket")}, "native histograms"))
            if series.has_start_times:
                self.unreadable.append((series.labels, "start times of counters"))

    def refuse(self, matches: MatcherSet) -> None:
        """Raises `SkipError` if a selector would read a series that cannot be judged."""
        for labels, reason in self.unreadable:
            if matches(labels):
                raise SkipError(reason)

    def windows(self, expression: PromQLExpression) -> dict[str, Window]:
        """A filled window for each selector."""
        result: dict[str, Window] = {}
        for selector in expression.selectors:
            self.refuse(selector.matches)
            window = result[selector.key] = selector.make_window()
            samples = [
                (t, key, value)
                for key, series in self.series.items()
                if series and selector.matches(decode(key))
                for t, value in series.items()
            ]
            times = np.array([t for t, _, _ in samples], dtype=np.int64)
            window.append([key for _, key, _ in samples], times, np.array([value for _, _, value in samples]))
        return result

    def batches(self, size: int) -> list[MetricBatch]:
        """All samples in event time, so many to a batch."""
        if size not in self._batches:
            samples = sorted((t, key, value) for key, series in self.series.items() for t, value in series.items())
            self._batches[size] = streaming.batches(samples, size)
        return self._batches[size]


def check(command: script.Eval, data: Data) -> None:
    """Evaluate and compare. Raises `MismatchError` or `SkipError`."""
    if any(script.HISTOGRAM in series.points for series in command.series):
        raise SkipError("native histograms")
    try:
        expression = compile_promql(command.expression, any_type=True, delayed_names=True)
    except ExpressionError as error:
        if "not supported" in error.message:
            raise SkipError(error.message) from error
        if command.fails:
            return
        raise MismatchError(f"refused: {error.message}") from error
    windows = data.windows(expression)
    notes: dict[tuple[str, str], None] = {}
    try:
        results = run(command, expression, windows, notes)
    except EvaluationError as error:
        if not command.fails:
            raise MismatchError(f"evaluation failed: {error}") from error
        if not says(command.failure, str(error)):
            raise MismatchError(f"expected failure {command.failure!r}, got {str(error)!r}") from error
    else:
        if command.fails:
            raise MismatchError("was expected to fail")
        compare(command, results)
        check_notes(command, notes)
    check_streaming(command, expression, windows, data)


def run(
    command: script.Eval,
    expression: PromQLExpression,
    windows: dict[str, Window],
    notes: dict[tuple[str, str], None],
) -> Results | float | str:
    """The result: a scalar or string of an instant eval, or values by series and time, in order."""
    results: Results = {}
    for at_ms in command.times:
        context = Context(
            windows, at_ms, command.start_ms, command.end_ms, command.step_ms, notes=notes, delayed_names=True
        )
        value = expression.evaluate_in(context)
        if isinstance(value, str) or (isinstance(value, float) and not command.step_ms):
            return value
        if isinstance(value, float):
            results.setdefault(encode({}), {})[at_ms] = value
        elif isinstance(value, InstantVector):
            vector = sorted_vector(value)
            for labels, number in zip(vector.labels, vector.values, strict=True):
                results.setdefault(encode(labels), {})[at_ms] = float(number)
        else:
            return samples_of(value)
    return results


def samples_of(vector: RangeVector) -> Results:
    """The samples of a range vector, of the series that have any."""
    results: Results = {}
    for row, labels in enumerate(vector.series.labels):
        part = slice(int(vector.first[row]), int(vector.stop[row]))
        if part.stop > part.start:
            points = zip(vector.times[row, part].tolist(), vector.values[row, part].tolist(), strict=True)
            results.setdefault(encode(labels), {}).update(points)
    return results


def check_streaming(
    command: script.Eval, expression: PromQLExpression, complete: dict[str, Window], data: Data
) -> None:
    """The same as a rule sees it, on the real streaming path; raises `MismatchError`.

    At every step the answer must equal that of windows holding everything, of which nothing later is looked at.
    """
    if isinstance(expression.root, Text | RangeSelector | Subquery):
        return  # no rule can be that
    for size in BATCH_SIZES:
        outcomes = streaming.stream(expression, data.batches(size), command.times)
        for at_ms in command.times:
            at_once = streaming.outcome(expression, complete, at_ms)
            if outcomes.get(at_ms) != at_once:
                raise MismatchError(
                    f"streaming in batches of {size} at {at_ms}: {outcomes.get(at_ms)}, at once: {at_once}"
                )


def compare(command: script.Eval, results: Results | float | str) -> None:
    """Raises `MismatchError` where the result differs from what is expected."""
    if command.text is not None or isinstance(results, str):
        if results != command.text:
            raise MismatchError(f"expected {command.text!r}, got {results!r}")
        return
    if isinstance(results, float) or command.scalar is not None:
        if not (isinstance(results, float) and command.scalar is not None and close(results, command.scalar)):
            raise MismatchError(f"expected {command.scalar}, got {results}")
        return
    expected: Results = {}
    for series in command.series:
        points = zip(command.expected_times, series.points, strict=False)
        expected[encode(series.labels)] = {t: p for t, p in points if isinstance(p, float)}
    if set(expected) != set(results) or (command.ordered and list(expected) != list(results)):
        raise MismatchError(f"expected {list(expected)}, got {list(results)}")
    for key, values in expected.items():
        got = results[key]
        if set(values) != set(got) or not all(close(got[t], values[t]) for t in values):
            raise MismatchError(f"{key.decode()}: expected {values}, got {got}")


def check_notes(command: script.Eval, notes: dict[tuple[str, str], None]) -> None:
    """Raises `MismatchError` where warnings and infos are not as expected."""
    for severity in command.silent:
        if any(own == severity for own, _ in notes):
            raise MismatchError(f"unexpected {severity}: {list(notes)}")
    for severity in {severity for severity, _ in command.notes}:
        texts = [text for own, text in notes if own == severity]
        wanted = [detail for own, detail in command.notes if own == severity]
        unmet = [detail for detail in wanted if not any(says(detail, text) for text in texts)]
        surplus = [text for text in texts if not any(says(detail, text) for detail in wanted)]
        if unmet or surplus:
            raise MismatchError(f"expected {severity} {wanted}, got {texts}")


def says(wanted: str, text: str) -> bool:
    """Whether a message is the expected one; ours carries no position."""
    kind, _, pattern = wanted.partition(":")
    pattern = _POSITION.sub("", _PREFIX.sub("", pattern.strip()))
    if kind == "msg":
        return pattern == text.strip()
    return kind == "" or re.search(pattern, text) is not None


def close(a: float, b: float) -> bool:
    """Equal but for rounding, as Prometheus's own runner judges."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


def run_script(name: str, text: str, reasons: Counter[str], failures: list[str]) -> Counter[str]:
    """Run one script; how many evals passed, failed, were skipped."""
    tally: Counter[str] = Counter()
    data = Data()
    for command in script.read(text):
        if isinstance(command, script.Clear):
            data = Data()
        elif isinstance(command, script.Load):
            data.load(command)
        elif isinstance(command, script.Unreadable):
            tally["failed"] += 1
            failures.append(f"{name}:{command.line}: {command.text}\n    not understood: {command.reason}")
        else:
            try:
                check(command, data)
                tally["passed"] += 1
            except SkipError as skip:
                tally["skipped"] += 1
                reasons[str(skip)] += 1
            except Exception as error:
                tally["failed"] += 1
                what = str(error) if isinstance(error, MismatchError) else f"{type(error).__name__}: {error}"
                failures.append(f"{name}:{command.line}: {command.expression}\n    {what}")
    return tally


def main(arguments: list[str]) -> int:
    """Run the named scripts, or all; the exit code."""
    folder = Path(os.environ.get("SENTINEL_CONFORMANCE", ROOT.parent / "shared" / "conformance")) / "promql"
    paths = [Path(a) if Path(a).exists() else folder / a for a in arguments] or sorted(folder.glob("*.test"))
    if not paths:
        print(f"no scripts in {folder}; set SENTINEL_CONFORMANCE")
        return 0
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    total: Counter[str] = Counter()
    for path in paths:
        tally = run_script(path.name, path.read_text(), reasons, failures)
        total += tally
        print(f"{path.name}: {_line(tally)}")
    for reason, count in reasons.most_common():
        print(f"skipped {count}: {reason}")
    for failure in failures:
        print(failure)
    print(_line(total))
    return 1 if total["failed"] else 0


def _line(tally: Counter[str]) -> str:
    return f"{tally['passed']} passed, {tally['failed']} failed, {tally['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
