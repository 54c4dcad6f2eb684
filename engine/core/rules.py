"""Rule files as Prometheus and Loki write them, checked whole and compiled.

`parse_rules` turns the text of one file into `RuleGroup`s or into every problem of the file at once. It knows nothing
about the expression language: the caller hands in the language's `compile`.

The next module in the flow is `core.step`, which evaluates the groups.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from engine.core import duration, gotemplate
from engine.core.diagnostics import Document, Path, Problem, load_yaml
from engine.core.expression import Expression, ExpressionError, Selector
from engine.core.gotemplate import Template

Compile = Callable[[str], Expression]

DEFAULT_INTERVAL_MS = 60_000

_GROUP_KEYS = {"name", "interval", "query_offset", "limit", "labels", "rules"}
_ALERT_KEYS = {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
_RECORD_KEYS = {"record", "expr", "labels"}
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC_NAME = re.compile(r"[^{}\n]+")  # Prometheus 3: any text, but braces are an expression in the wrong place


def _no_language(text: str) -> Expression:
    raise ExpressionError("this rule cannot query")


@dataclass(frozen=True)
class AlertRule:
    """One alerting rule.

    `key` names the rule by its content (group, name, expression, durations, labels), so an unchanged rule keeps its
    state when its file is loaded again. `window_ms` is how far back the expression looks.
    """

    key: str
    name: str
    group: str
    expression: Expression
    for_ms: int
    keep_firing_for_ms: int
    labels: Mapping[str, Template]
    annotations: Mapping[str, Template]
    file: str
    line: int
    asks: tuple[Expression, ...] = ()
    """The queries of its templates, as far as they can be told before an alert: their data is kept."""
    compile: Compile = field(default=_no_language, compare=False)
    """The rule's language, for those queries as they are with an alert's labels."""

    @property
    def window_ms(self) -> int:
        """The longest range the rule's expression reaches back."""
        return max((selector.range_ms for selector in self.expression.selectors), default=0)

    @property
    def selectors(self) -> Sequence[Selector]:
        """What the rule reads, for its templates too."""
        return [selector for one in (self.expression, *self.asks) for selector in one.selectors]


@dataclass(frozen=True)
class RecordRule:
    """One recording rule: the result of its expression becomes series called `name`, with these labels put over."""

    key: str
    name: str
    group: str
    expression: Expression
    labels: Mapping[str, str]
    file: str
    line: int

    @property
    def selectors(self) -> Sequence[Selector]:
        """What the rule reads."""
        return self.expression.selectors


Rule = AlertRule | RecordRule


@dataclass(frozen=True)
class RuleGroup:
    """Rules that are evaluated together, every `interval_ms` and eagerly in between. `key` is unique over all files.

    At time T rules look at the data as it was at `T - query_offset_ms`. `kept` are expressions whose data is held for
    queries though no rule reads it.
    """

    key: str
    name: str
    interval_ms: int
    limit: int
    rules: tuple[Rule, ...]
    query_offset_ms: int = 0
    kept: tuple[Expression, ...] = ()
    file: str = ""

    @property
    def selectors(self) -> list[Selector]:
        """All that the group reads."""
        readers: list[Rule | Expression] = [*self.rules, *self.kept]
        return [selector for reader in readers for selector in reader.selectors]


@dataclass
class _File:
    """What one parse collects."""

    document: Document
    compile: Compile
    namespace: str
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, path: Path, message: str, *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, key=key))


def parse_rules(
    text: str,
    file: str,
    compile_expression: Compile,
    *,
    namespace: str = "",
    default_interval_ms: int = DEFAULT_INTERVAL_MS,
) -> tuple[list[RuleGroup], list[Problem]]:
    """The rule groups of one file, and every problem found. A file with an error yields no groups.

    `namespace` names the file in group keys where its path differs from machine to machine.
    """
    documents, problems = load_yaml(text, file)
    groups: list[RuleGroup] = []
    for document in documents:
        if document.data is None:
            continue
        source = _File(document, compile_expression, namespace or file)
        groups += _parse_document(source, default_interval_ms)
        problems += source.problems
    if any(problem.severity == "error" for problem in problems):
        return [], sorted(problems)
    return groups, sorted(problems)


def _parse_document(source: _File, default_interval_ms: int) -> list[RuleGroup]:
    data = source.document.data
    if not isinstance(data, dict) or not isinstance(data.get("groups"), list):
        source.refuse((), "a rule file is a mapping with a list under `groups`")
        return []
    for key in data:
        if key != "groups":
            source.refuse((key,), f"unknown key {key!r} in a rule file (only `groups`)", key=True)
    seen: set[str] = set()
    groups = []
    for i, item in enumerate(data["groups"]):
        group = _parse_group(source, ("groups", i), item, default_interval_ms)
        if group is None:
            continue
        if group.name in seen:
            source.refuse(("groups", i, "name"), f"group {group.name!r} stands in this file twice")
        seen.add(group.name)
        groups.append(group)
    return groups


def _parse_group(source: _File, path: Path, item: object, default_interval_ms: int) -> RuleGroup | None:
    if not isinstance(item, dict):
        source.refuse(path, "a group is a mapping with `name` and `rules`")
        return None
    _refuse_unknown(source, path, item, _GROUP_KEYS, "a group")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        source.refuse((*path, "name"), "a group needs a `name`")
        name = ""
    interval_ms = _duration(source, (*path, "interval"), item.get("interval")) or default_interval_ms
    limit = item.get("limit", 0)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        source.refuse((*path, "limit"), "`limit` is a whole number of alerts, 0 for no limit")
        limit = 0
    offset_ms = _duration(source, (*path, "query_offset"), item.get("query_offset"))
    common = _templates(source, (*path, "labels"), item.get("labels"), "label")
    rules = item.get("rules") or []  # Prometheus takes a group without rules, too
    if not isinstance(rules, list):
        source.refuse((*path, "rules"), "a group needs a list under `rules`")
        rules = []
    parsed = [_parse_rule(source, (*path, "rules", i), rule, (name, common)) for i, rule in enumerate(rules)]
    key = f"{source.namespace};{name}"
    kept = tuple(rule for rule in parsed if rule is not None)
    return RuleGroup(key, name, interval_ms, limit, kept, offset_ms, file=source.document.file)


def _parse_rule(source: _File, path: Path, item: object, group: tuple[str, Mapping[str, Template]]) -> Rule | None:
    if not isinstance(item, dict):
        source.refuse(path, "a rule is a mapping with `alert` or `record`, and `expr`")
        return None
    if "record" in item and "alert" in item:
        source.refuse((*path, "record"), "a rule has either `alert` or `record`", key=True)
        return None
    if "record" in item:
        return _parse_record(source, path, item, group)
    return _parse_alert(source, path, item, group)


def _parse_record(
    source: _File, path: Path, item: Mapping[str, object], group: tuple[str, Mapping[str, Template]]
) -> RecordRule | None:
    _refuse_unknown(source, path, item, _RECORD_KEYS, "a recording rule")
    name = item["record"]
    if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
        source.refuse((*path, "record"), f"{name!r} is not a valid metric name")
        name = ""
    own = _templates(source, (*path, "labels"), item.get("labels"), "label")
    labels = {label: text.source for label, text in {**group[1], **own}.items()}  # as they stand: not templates here
    expression = _expression(source, (*path, "expr"), item.get("expr"))
    if expression is None:
        return None
    key = _key([group[0], name, expression.text, "record", {k: labels[k] for k in sorted(labels)}])
    line, _ = source.document.at(path)
    return RecordRule(key, name, group[0], expression, labels, source.document.file, line)


def _parse_alert(
    source: _File, path: Path, item: Mapping[str, object], group: tuple[str, Mapping[str, Template]]
) -> AlertRule | None:
    _refuse_unknown(source, path, item, _ALERT_KEYS, "an alerting rule")
    name = item.get("alert")
    if not isinstance(name, str) or not name:
        source.refuse((*path, "alert"), "an alerting rule needs a name under `alert`")
        name = ""
    for_ms = _duration(source, (*path, "for"), item.get("for"))
    keep_ms = _duration(source, (*path, "keep_firing_for"), item.get("keep_firing_for"))
    labels = {**group[1], **_templates(source, (*path, "labels"), item.get("labels"), "label")}
    annotations = _templates(source, (*path, "annotations"), item.get("annotations"), "annotation")
    expression = _expression(source, (*path, "expr"), item.get("expr"))
    if expression is None:
        return None
    key = _key([group[0], name, expression.text, for_ms, keep_ms, {k: labels[k].source for k in sorted(labels)}])
    line, _ = source.document.at(path)
    asks = _queries(source, (*path, "labels"), labels) + _queries(source, (*path, "annotations"), annotations)
    head = (key, name, group[0], expression, for_ms, keep_ms, labels, annotations)
    return AlertRule(*head, source.document.file, line, asks, source.compile)


def _queries(source: _File, path: Path, templates: Mapping[str, Template]) -> tuple[Expression, ...]:
    """The queries that templates ask; one that cannot be told, or is wrong, is a warning: the alert comes anyway."""
    found = []
    for name, template in templates.items():
        notices = [(notice.line, notice.column, notice.message) for notice in template.notices]
        for text in template.queries:
            try:
                found.append(source.compile(text))
            except ExpressionError as error:
                notices.append((1, 1, f"the query {text!r} of this template: {error.message}"))
        for line, column, message in notices:
            place = source.document.inside((*path, name), line, column)
            source.problems.append(Problem(source.document.file, *place, message, "warning"))
    return tuple(found)


def _key(identity: list[object]) -> str:
    return hashlib.blake2b(msgspec.json.encode(identity), digest_size=8).hexdigest()


def _expression(source: _File, path: Path, text: object) -> Expression | None:
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)  # YAML reads `expr: 1` as a number
    if not isinstance(text, str) or not text.strip():
        source.refuse(path, "a rule needs an expression under `expr`")
        return None
    try:
        return source.compile(text)
    except ExpressionError as error:
        line, column = source.document.inside(path, error.line, error.column)
        source.problems.append(Problem(source.document.file, line, column, error.message))
        return None


def _templates(source: _File, path: Path, item: object, what: str) -> dict[str, Template]:
    if item is None:
        return {}
    if not isinstance(item, dict):
        source.refuse(path, f"{what}s are a mapping of names to text")
        return {}
    out: dict[str, Template] = {}
    for name, value in item.items():
        where = (*path, name)
        if not _LABEL_NAME.fullmatch(name) or name == "__name__":
            source.refuse(where, f"{name!r} is not a valid {what} name", key=True)
        elif not isinstance(value, str | int | float) or isinstance(value, bool):
            source.refuse(where, f"the value of {what} {name!r} must be text (put it in quotes)")
        else:
            try:
                out[name] = gotemplate.compile_template(str(value))
            except ExpressionError as error:
                line, column = source.document.inside(where, error.line, error.column)
                source.problems.append(Problem(source.document.file, line, column, error.message))
    return out


def _duration(source: _File, path: Path, value: object) -> int:
    if value is None:
        return 0
    try:
        return duration.parse_ms(str(value))
    except ValueError as error:
        source.refuse(path, str(error))
        return 0


def _refuse_unknown(source: _File, path: Path, item: Mapping[str, object], known: Iterable[str], what: str) -> None:
    for key in item:
        if key not in known:
            expected = ", ".join(sorted(known))
            source.refuse((*path, key), f"unknown key {key!r} in {what} (known: {expected})", key=True)
