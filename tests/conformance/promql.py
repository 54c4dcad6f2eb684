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
from engine.promql.compile import compile as compile_promql
from engine.promql.evaluate import PromQLExpression
from engine.vector.values import Context, InstantVector, sorted_vector
from tests.conformance import promqltest as script

ROOT = Path(__file__).resolve().parents[2]
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
    """What a script has loaded."""

    series: dict[bytes, dict[int, float]] = field(default_factory=dict)
    histograms: list[Labels] = field(default_factory=list)

    def load(self, command: script.Load) -> None:
        """Add the series of a `load`."""
        for series in command.series:
            samples = self.series.setdefault(encode(series.labels), {})
            for i, point in enumerate(series.points):
                if isinstance(point, float):
                    samples[i * command.step_ms] = point
            name = series.labels.get("__name__", "")
            if script.HISTOGRAM in series.points:
                self.histograms.append(series.labels)
            elif command.custom_buckets and name.endswith("_bucket"):
                labels = {n: v for n, v in series.labels.items() if n != "le"}
                self.histograms.append({**labels, "__name__": name.removesuffix("_bucket")})

    def samples(self, matches: MatcherSet) -> list[tuple[int, bytes, float]]:
        """Every sample that a selector wants: time, series, value."""
        return [
            (t, key, value)
            for key, series in self.series.items()
            if series and matches(decode(key))
            for t, value in series.items()
        ]

    def windows(self, expression: PromQLExpression) -> dict[str, Window]:
        """A filled window for each selector."""
        result: dict[str, Window] = {}
        for selector in expression.selectors:
            if any(map(selector.matches, self.histograms)):
                raise SkipError("native histograms")
            window = result[selector.key] = selector.make_window()
            samples = self.samples(selector.matches)
            times = np.array([t for t, _, _ in samples], dtype=np.int64)
            window.append([key for _, key, _ in samples], times, np.array([value for _, _, value in samples]))
        return result


def check(command: script.Eval, data: Data) -> None:
    """Evaluate and compare. Raises `MismatchError` or `SkipError`."""
    try:
        expression = compile_promql(command.expression, any_type=True, delayed_names=True)
    except ExpressionError as error:
        if command.fails:
            return
        raise SkipError(error.message) from error
    windows = data.windows(expression)
    if any(script.HISTOGRAM in series.points for series in command.series):
        raise SkipError("native histograms")
    notes: dict[tuple[str, str], None] = {}
    try:
        results = run(command, expression, windows, notes)
    except EvaluationError as error:
        if command.fails:
            return
        raise MismatchError(f"evaluation failed: {error}") from error
    if command.fails:
        raise MismatchError("was expected to fail")
    compare(command, results)
    check_notes(command, notes)
    if not isinstance(results, str):
        check_streaming(command, expression, windows, data)


def run(
    command: script.Eval,
    expression: PromQLExpression,
    windows: dict[str, Window],
    notes: dict[tuple[str, str], None],
) -> Results | float | str:
    """The result: a scalar or string of an instant eval, or values by series and time, in order."""
    results: Results = {}
    for at_ms in range(command.start_ms, command.end_ms + 1, command.step_ms or 1):
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
            raise SkipError("range vectors as results")
    return results


def check_streaming(
    command: script.Eval, expression: PromQLExpression, complete: dict[str, Window], data: Data
) -> None:
    """The same as a rule sees it: samples arrive in batches in event time, old ones are evicted.

    At every step the answer must equal that of a window holding everything of which nothing later is looked at.
    Raises `MismatchError`.
    """
    windows = {selector.key: selector.make_window() for selector in expression.selectors}
    samples = {s.key: sorted(data.samples(s.matches)) for s in expression.selectors}
    before_ms = min((rows[0][0] for rows in samples.values() if rows), default=0) - 1
    for at_ms in range(command.start_ms, command.end_ms + 1, command.step_ms or 1):
        for selector in expression.selectors:
            batch = [sample for sample in samples[selector.key] if before_ms < sample[0] <= at_ms]
            window = windows[selector.key]
            for part in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                times = np.array([t for t, _, _ in part], dtype=np.int64)
                window.append([key for _, key, _ in part], times, np.array([value for _, _, value in part]))
            window.evict(at_ms - selector.reach_ms)
        before_ms = at_ms
        answers = [outcome(expression, held, at_ms) for held in (windows, complete)]
        if answers[0] != answers[1]:
            raise MismatchError(f"streaming at {at_ms}: {answers[0]}, at once: {answers[1]}")


def outcome(expression: PromQLExpression, windows: dict[str, Window], at_ms: int) -> list[str] | str:
    """The result as a rule has it, as text; or the error."""
    try:
        vector = expression.evaluate(windows, at_ms)
    except EvaluationError as error:
        return str(error)
    return [f"{encode(own).decode()} {value!r}" for own, value in zip(vector.labels, vector.values, strict=True)]


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
        times = range(command.start_ms, command.end_ms + 1, command.step_ms or 1)
        points = {t: p for t, p in zip(times, series.points, strict=False) if isinstance(p, float)}
        expected[encode(series.labels)] = points
    if set(expected) != set(results) or (command.ordered and list(expected) != list(results)):
        raise MismatchError(f"expected {sorted(expected)}, got {sorted(results)}")
    for key, points in expected.items():
        got = results[key]
        if set(points) != set(got) or not all(close(got[t], points[t]) for t in points):
            raise MismatchError(f"{key.decode()}: expected {points}, got {got}")


def check_notes(command: script.Eval, notes: dict[tuple[str, str], None]) -> None:
    """Raises `MismatchError` where warnings and infos are not as expected."""
    given = {severity for severity, _ in notes}
    for severity in command.silent:
        if severity in given:
            raise MismatchError(f"unexpected {severity}: {list(notes)}")
    for severity, detail in command.notes:
        texts = [text for own, text in notes if own == severity]
        kind, _, wanted = _POSITION.sub("", _PREFIX.sub("", detail)).partition(":")
        if kind == "msg" and not any(wanted.strip() in text for text in texts):
            raise MismatchError(f"expected {severity} {wanted.strip()!r}, got {texts}")
        if kind == "regex" and not any(re.search(wanted.strip(), text) for text in texts):
            raise MismatchError(f"expected {severity} matching {wanted.strip()!r}, got {texts}")
        if not texts:
            raise MismatchError(f"expected {severity}, got none")


def close(a: float, b: float) -> bool:
    """Equal but for rounding, as Prometheus's own runner judges."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


def run_file(path: Path, reasons: Counter[str], failures: list[str]) -> Counter[str]:
    """Run one script; how many evals passed, failed, were skipped."""
    tally: Counter[str] = Counter()
    data = Data()
    for command in script.read(path.read_text()):
        if isinstance(command, script.Clear):
            data = Data()
        elif isinstance(command, script.Load):
            data.load(command)
        else:
            try:
                check(command, data)
                tally["passed"] += 1
            except SkipError as skip:
                tally["skipped"] += 1
                reasons[str(skip)] += 1
            except MismatchError as mismatch:
                tally["failed"] += 1
                failures.append(f"{path.name}:{command.line}: {command.expression}\n    {mismatch}")
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
        tally = run_file(path, reasons, failures)
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
