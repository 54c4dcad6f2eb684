"""Reads test files: YAML text to `TestFile`, or to every problem in it at once, with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import promql_parser

from engine.core import duration
from engine.core.diagnostics import Document, Path, Problem, load_yaml
from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.ruletest import notation
from engine.ruletest.model import (
    AlertCase,
    ExpectedAlert,
    ExpressionCase,
    InputSeries,
    InputStream,
    RuleFiles,
    Test,
    TestFile,
)

T = TypeVar("T")

DEFAULT_INTERVAL_MS = 60_000
MOST_LINES = 1_000_000
_FILE_KEYS = {"rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "eager", "tests"}
_OTHER_TESTS = "runbook_tests"
_TEST_KEYS = {
    "name",
    "interval",
    "external_labels",
    "external_url",
    "input_series",
    "input_logs",
    "alert_rule_test",
    "promql_expr_test",
    "logql_expr_test",
}
_REPEAT = re.compile(r"\s*(\S+)\s*x\s*(\d+)\s*")


def read_tests(text: str, file: str) -> tuple[TestFile | None, list[Problem]]:
    """The rule tests of a file, or None if it has none or has problems. `runbook_tests` are somebody else's."""
    documents, problems = load_yaml(text, file)
    return read_document(documents[0]) if documents and not problems else (None, problems)


def read_document(document: Document) -> tuple[TestFile | None, list[Problem]]:
    """As `read_tests`, of a file that is parsed already."""
    if isinstance(document.data, dict) and _OTHER_TESTS in document.data and "tests" not in document.data:
        return None, []
    reader = _Reader(document)
    found = reader.file()
    return (None if reader.problems else found), sorted(reader.problems)


class _Reader:
    """Walks one document and gathers its problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def refuse(self, path: Path, message: str, *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, key=key))

    def file(self) -> TestFile | None:
        data = self.document.data
        if not isinstance(data, dict):
            self.refuse((), "a test file is a mapping with `rule_files` and `tests`")
            return None
        self._known((), data, _FILE_KEYS | {_OTHER_TESTS}, "a test file")
        rule_files = [
            RuleFiles(self._text(("rule_files", i), item), *self.document.at(("rule_files", i)))
            for i, item in self._list(("rule_files",), data)
        ]
        interval_ms = self._duration(("evaluation_interval",), data.get("evaluation_interval"), DEFAULT_INTERVAL_MS)
        interval_ms = interval_ms or DEFAULT_INTERVAL_MS
        tests = [self._test(("tests", i), item, i, interval_ms) for i, item in self._list(("tests",), data)]
        if not tests and not self.problems:
            self.refuse(("tests",), "a test file needs a list under `tests`")
        return TestFile(
            self.document.file,
            tuple(rule_files),
            interval_ms,
            self._group_order(data),
            self._flag("fuzzy_compare", data),
            self._flag("eager", data),
            _kept(tests),
        )

    def _group_order(self, data: dict[str, Any]) -> tuple[str, ...]:
        names: list[str] = []
        for i, item in self._list(("group_eval_order",), data):
            name = self._text(("group_eval_order", i), item)
            if name in names:
                self.refuse(("group_eval_order", i), f"group {name!r} stands twice in the evaluation order")
            names.append(name)
        return tuple(names)

    def _flag(self, key: str, data: dict[str, Any]) -> bool:
        value = data.get(key, False)
        if not isinstance(value, bool):
            self.refuse((key,), f"`{key}` is true or false")
        return value is True

    def _test(self, path: Path, item: Any, number: int, interval_ms: int) -> Test | None:
        if not isinstance(item, dict):
            self.refuse(path, "a test is a mapping")
            return None
        self._known(path, item, _TEST_KEYS, "a test")
        series = [self._series(p, entry) for p, entry in self._items((*path, "input_series"), item)]
        streams = [self._stream(p, entry) for p, entry in self._items((*path, "input_logs"), item)]
        alerts = [self._alert(p, entry) for p, entry in self._items((*path, "alert_rule_test"), item)]
        promql = [self._expression(p, e, "promql") for p, e in self._items((*path, "promql_expr_test"), item)]
        logql = [self._expression(p, e, "logql") for p, e in self._items((*path, "logql_expr_test"), item)]
        return Test(
            str(item.get("name") or f"test {number + 1}"),
            self._duration((*path, "interval"), item.get("interval"), interval_ms) or interval_ms,
            self._labels((*path, "external_labels"), item.get("external_labels")),
            self.document.text((*path, "external_url")) or "",
            _kept(series),
            _kept(streams),
            _kept(alerts),
            (*_kept(promql), *_kept(logql)),
            *self.document.at(path),
        )

    def _series(self, path: Path, item: dict[str, Any]) -> InputSeries | None:
        self._known(path, item, {"series", "values"}, "a series")
        labels = self._selector((*path, "series"), item.get("series"))
        values = self.document.text((*path, "values")) or ""
        points = self._try((*path, "values"), lambda: notation.expand(values))
        return None if labels is None or points is None else InputSeries(labels, points)

    def _stream(self, path: Path, item: dict[str, Any]) -> InputStream | None:
        self._known(path, item, {"stream", "lines"}, "a log stream")
        labels = self._selector((*path, "stream"), item.get("stream"))
        entries = [e for p, line in self._items((*path, "lines"), item) for e in self._lines(p, line)]
        return None if labels is None else InputStream(labels, tuple(sorted(entries, key=lambda entry: entry.t_ns)))

    def _lines(self, path: Path, item: dict[str, Any]) -> Iterator[LogEntry]:
        self._known(path, item, {"at", "line", "repeat", "metadata"}, "a line")
        at_ms = self._duration((*path, "at"), item.get("at"), 0)
        line = self._text((*path, "line"), item.get("line"))
        metadata = self._labels((*path, "metadata"), item.get("metadata"))
        step_ms, count = 0, 1
        if "repeat" in item:
            match = _REPEAT.fullmatch(str(item["repeat"]))
            if match is None or int(match[2]) > MOST_LINES:
                self.refuse((*path, "repeat"), "`repeat` is an interval and a number of lines in all, like 5s x 12")
            else:
                step_ms, count = self._duration((*path, "repeat"), match[1], 0), int(match[2])
        for i in range(count):
            yield LogEntry((at_ms + i * step_ms) * 1_000_000, line, metadata)

    def _alert(self, path: Path, item: dict[str, Any]) -> AlertCase | None:
        self._known(path, item, {"eval_time", "alertname", "exp_alerts"}, "an alert test")
        name = self._text((*path, "alertname"), item.get("alertname"))
        expected = [self._expected(p, entry, name) for p, entry in self._items((*path, "exp_alerts"), item)]
        line, column = self.document.at(path)
        return AlertCase(
            name, self._duration((*path, "eval_time"), item.get("eval_time"), 0), _kept(expected), line, column
        )

    def _expected(self, path: Path, item: dict[str, Any], alertname: str) -> ExpectedAlert:
        self._known(path, item, {"exp_labels", "exp_annotations", "exp_lines"}, "an expected alert")
        labels = self._labels((*path, "exp_labels"), item.get("exp_labels"))
        annotations = self._labels((*path, "exp_annotations"), item.get("exp_annotations"))
        lines = [self._text((*path, "exp_lines", i), line) for i, line in self._list((*path, "exp_lines"), item)]
        return ExpectedAlert({**labels, "alertname": alertname}, annotations, tuple(lines))

    def _expression(
        self, path: Path, item: dict[str, Any], language: Literal["promql", "logql"]
    ) -> ExpressionCase | None:
        self._known(path, item, {"expr", "eval_time", "exp_samples"}, "an expression test")
        at_ms = self._duration((*path, "eval_time"), item.get("eval_time"), 0)
        samples = []
        for sample_path, sample in self._items((*path, "exp_samples"), item):
            self._known(sample_path, sample, {"labels", "value", "histogram"}, "an expected sample")
            if sample.get("histogram"):
                self.refuse((*sample_path, "histogram"), "native histograms are not supported", key=True)
            labels = self._selector((*sample_path, "labels"), sample.get("labels") or "{}")
            value = self._number((*sample_path, "value"), sample.get("value"))
            if labels is not None and value is not None:
                samples.append((labels, value))
        line, column = self.document.at(path)
        expression = self._text((*path, "expr"), item.get("expr"))
        return ExpressionCase(language, expression, at_ms, tuple(samples), line, column)

    def _selector(self, path: Path, text: Any) -> Labels | None:
        """The labels of a series or stream, written as a selector of equalities."""
        if not isinstance(text, str):
            self.refuse(path, 'labels are written like up{job="api"}')
            return None
        if not text.strip().strip("{}").strip():
            return {}
        return self._try(path, lambda: _equalities(text))

    def _labels(self, path: Path, item: Any) -> Labels:
        if item is None:
            return {}
        if not isinstance(item, dict) or any(isinstance(value, dict | list) for value in item.values()):
            self.refuse(path, "labels are a mapping of names to text")
            return {}
        return {name: self.document.text((*path, name)) or "" for name in item}

    def _list(self, path: Path, parent: dict[str, Any]) -> Iterable[tuple[int, Any]]:
        value = parent.get(str(path[-1]))
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(path, f"`{path[-1]}` is a list")
            return []
        return enumerate(value)

    def _items(self, path: Path, parent: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
        for i, item in self._list(path, parent):
            if isinstance(item, dict):
                yield (*path, i), item
            else:
                self.refuse((*path, i), f"an entry of `{path[-1]}` is a mapping")

    def _text(self, path: Path, value: Any) -> str:
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        self.refuse(path, f"`{path[-1]}` needs a text")
        return ""

    def _duration(self, path: Path, value: Any, default_ms: int) -> int:
        if value is None:
            return default_ms
        return self._try(path, lambda: duration.parse_ms(str(value))) or 0

    def _number(self, path: Path, value: Any) -> float | None:
        try:
            return 0.0 if value is None else float(value)
        except (TypeError, ValueError):
            self.refuse(path, "`value` is a number")
            return None

    def _try(self, path: Path, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ValueError as error:
            self.refuse(path, str(error))
            return None

    def _known(self, path: Path, item: dict[str, Any], known: set[str], what: str) -> None:
        for key in item:
            if key not in known:
                self.refuse(
                    (*path, key), f"unknown key {key!r} in {what} (known: {', '.join(sorted(known))})", key=True
                )


def _equalities(text: str) -> Labels:
    tree = promql_parser.parse(text)
    if not isinstance(tree, promql_parser.VectorSelector):
        raise ValueError(f'not a series: {text!r} (write it like up{{job="api"}})')
    labels = {"__name__": tree.name} if tree.name else {}
    for matcher in tree.matchers.matchers:
        if matcher.op != promql_parser.MatchOp.Equal:
            raise ValueError(f"a series has only name=value labels: {text!r}")
        labels[matcher.name] = matcher.value
    return labels


def _kept(items: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(item for item in items if item is not None)
