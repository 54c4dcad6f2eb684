"""Runs Loki's own test scripts against our LogQL: `python -m tests.conformance.logql FILE...`.

Without a file, every script in `$SENTINEL_CONFORMANCE/logql` is run (default: `../shared/conformance` beside the
checkout). Each eval is answered twice, and both answers must be as expected: from windows filled with all lines, and by
a rule on the stream (`logql_stream`). What no rule may do (look ahead, or look at a time before 0) is answered once. A
part of a script that cannot be read counts as a failure. Prints a line per file and a total; exit 1 if anything failed.

Queries are compiled `strict`: a line that fails in the pipeline fails the query, as in Loki. (A running rule leaves
such lines out instead; `engine.logql.evaluate.LogQLExpression` says why.)
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.core.expression import EvaluationError, ExpressionError, Selector, Window
from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql.compile import compile as compile_logql
from engine.logql.evaluate import LogQLExpression
from engine.logql.pipeline import encode_series
from engine.logql.window import LogWindow
from tests.conformance import logql_stream
from tests.conformance import logqltest as script

ROOT = Path(__file__).resolve().parents[2]
_TOLERANCE = 1e-6  # as Prometheus's own runner of such scripts allows
_BATCH = 7  # lines of a stream come in batches of this size, as they would on the wire
Entries = list[tuple[Labels, LogEntry]]
Results = dict[bytes, dict[int, float]]


class Mismatch(Exception):  # noqa: N818  # it is a verdict, not an error
    """The result is not what the script expects."""


Answer = Callable[[script.Eval, Entries], Results]


def check(command: script.Eval, entries: Entries, answer: Answer) -> None:
    """Evaluate and compare. Raises `Mismatch`."""
    try:
        results = answer(command, entries)
    except (ExpressionError, EvaluationError) as error:
        if not command.fails:
            raise Mismatch(f"failed: {error}") from error
        if command.fail_part not in str(error):
            raise Mismatch(f"expected a failure with {command.fail_part!r}, got {error}") from error
        if command.fail_regex and not re.search(command.fail_regex, str(error)):
            raise Mismatch(f"expected a failure matching {command.fail_regex!r}, got {error}") from error
        return
    if command.fails:
        raise Mismatch("was expected to fail")
    compare(command, results)


def run(command: script.Eval, entries: Entries) -> Results:
    """Values by series and time, series in the order of the result."""
    expression = compile_logql(command.query, strict=True)
    if command.step_ms and expression.instant_only:
        raise EvaluationError(expression.instant_only)
    windows = fill(expression, entries)
    results: Results = {}
    for at_ms in range(command.start_ms, command.end_ms + 1, command.step_ms or 1):
        vector = expression.evaluate(windows, at_ms)
        for labels, value in zip(vector.labels, vector.values.tolist(), strict=True):
            results.setdefault(encode_series(labels), {})[at_ms] = value
    return results


def fill(expression: LogQLExpression, entries: Entries) -> dict[str, Window]:
    """A filled window for each selector."""
    windows: dict[str, Window] = {}
    for selector in expression.selectors:
        window = windows[selector.key] = LogWindow()
        for labels, batch in _batches(entries):
            if selector.matches(labels):
                _extract(selector, window, labels, batch)
    return windows


def _batches(entries: Entries) -> list[tuple[Labels, list[LogEntry]]]:
    streams: dict[bytes, tuple[Labels, list[LogEntry]]] = {}
    for labels, entry in sorted(entries, key=lambda pair: pair[1].t_ns):
        streams.setdefault(encode_series(labels), (labels, []))[1].append(entry)
    return [(labels, own[i : i + _BATCH]) for labels, own in streams.values() for i in range(0, len(own), _BATCH)]


def _extract(selector: Selector, window: LogWindow, labels: Labels, batch: Sequence[LogEntry]) -> None:
    if selector.extract is None:
        raise TypeError("a log selector has a pipeline")
    kept = [(found, entry) for entry in batch if (found := selector.extract(labels, entry)) is not None]
    window.append_lines(
        [found[0] for found, _ in kept],
        np.array([entry.t_ns for _, entry in kept], np.int64),
        np.array([found[1] for found, _ in kept]),
        [entry.line for _, entry in kept],
        labels,
    )


def compare(command: script.Eval, results: Results) -> None:
    """Raises `Mismatch` where the result differs from what is expected."""
    times = range(command.start_ms, command.end_ms + 1, command.step_ms or 1)
    expected: Results = {}
    for labels, points in command.series:
        pairs = zip(times, points, strict=True)
        expected[encode_series(labels)] = {at_ms: point for at_ms, point in pairs if point is not None}
    if set(expected) != set(results) or (command.ordered and list(expected) != list(results)):
        raise Mismatch(f"expected series {list(expected)}, got {list(results)}")
    for key, wanted in expected.items():
        got = results[key]
        if set(wanted) != set(got) or not all(close(got[at_ms], wanted[at_ms]) for at_ms in wanted):
            raise Mismatch(f"{key.decode()}: expected {wanted}, got {got}")


def close(a: float, b: float) -> bool:
    """Equal but for rounding."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


WAYS: dict[str, Answer] = {"windows": run, "stream": logql_stream.run}


def _problem(command: script.Eval, entries: Entries, name: str, way: Answer) -> str:
    if name == "stream" and not logql_stream.can_run(command):
        return ""
    try:
        check(command, entries, way)
    except Mismatch as mismatch:
        return f"({name}) {mismatch}"
    except Exception as error:  # a crash is a failure of this eval, and the others are still to be run
        return f"({name}) crashed: {type(error).__name__}: {error}"
    return ""


def run_file(path: Path, failures: list[str]) -> Counter[str]:
    """Run one script; how many evals passed and failed."""
    tally: Counter[str] = Counter()
    entries: Entries = []
    for command in script.read(path.read_text(encoding="utf-8")):
        if isinstance(command, script.Unreadable):
            tally["failed"] += 1
            failures.append(f"{path.name}:{command.line}: {command.reason}")
        elif isinstance(command, script.Clear):
            entries = []
        elif isinstance(command, script.Load):
            entries = [*entries, *command.entries]
        else:
            problems = [problem for name, way in WAYS.items() if (problem := _problem(command, entries, name, way))]
            tally["failed" if problems else "passed"] += 1
            failures += [f"{path.name}:{command.line}: {command.query}\n    {problem}" for problem in problems]
    return tally


def main(arguments: list[str]) -> int:
    """Run the named scripts, or all; the exit code."""
    folder = Path(os.environ.get("SENTINEL_CONFORMANCE", ROOT.parent / "shared" / "conformance")) / "logql"
    paths = [Path(a) if Path(a).exists() else folder / a for a in arguments] or sorted(folder.glob("*.logqltest"))
    if not paths:
        print(f"no scripts in {folder}; set SENTINEL_CONFORMANCE")
        return 0
    failures: list[str] = []
    total: Counter[str] = Counter()
    for path in paths:
        tally = run_file(path, failures)
        total += tally
        print(f"{path.name}: {_line(tally)}")
    for failure in failures:
        print(failure)
    print(_line(total))
    return 1 if total["failed"] else 0


def _line(tally: Counter[str]) -> str:
    return f"{tally['passed']} passed, {tally['failed']} failed, {tally['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
