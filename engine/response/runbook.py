"""Runbook files (YAML), checked whole: the runbooks, or every problem of the file at once.

```yaml
runbooks:
  - name: PolicyViolationSpike
    match: ['alertname="PolicyViolationSpike"']     # as an Alertmanager route; all must hold
    priority: P2                                    # or {critical: P0, default: P2}, or a CEL text
    group_by: [namespace]                           # one incident per runbook and group
    limits: {cooldown: 10m, budget_per_hour: 5, stabilisation: 30s, reopen: 10m}
    escalation: [{to: on-call}, {to: manager@example.org, after: 15m}]   # see `response.runbook_escalation`
    explains:                                       # as Alertmanager's inhibit rules
      - {match: ['alertname="HighLatency"'], equal: [namespace]}
    summary: "Policy violations in {{ labels.namespace }}"
    follow_up: ["Review the rate limits per user"]
    steps: [...]                                    # see `response.runbook_steps`
```

Texts are Jinja, conditions CEL (`response.conditions`). What is not supported yet is refused, not ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.core.diagnostics import Path, Problem, load_yaml
from engine.core.labels import MatcherSet, parse_matcher
from engine.response.conditions import Condition
from engine.response.reader import NAME, CheckQuery, Reader
from engine.response.runbook_check import check_runbook
from engine.response.runbook_escalation import Defaults, read_defaults, read_escalation, with_defaults
from engine.response.runbook_steps import read_steps
from engine.response.steps import NOBODY, Actions, Escalation, Explains, Limits, Priority, Runbook

__all__ = ["Runbook", "RunbookFile", "load_runbooks", "read_runbooks"]

_KEYS = ("name", "match", "priority", "group_by", "limits", "escalation", "explains", "summary", "follow_up", "steps")
_LIMITS = ("cooldown", "budget_per_hour", "stabilisation", "reopen")
_PRIORITIES: tuple[Priority, ...] = ("P0", "P1", "P2", "P3")


@dataclass
class RunbookFile:
    """What stands in a runbook file, and every problem found. A file with an error yields no runbooks."""

    runbooks: list[Runbook] = field(default_factory=list)
    defaults: list[Defaults] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load_runbooks(
    text: str, file: str, *, actions: Actions, check_query: CheckQuery | None = None
) -> tuple[list[Runbook], list[Problem]]:
    """The runbooks of a file that stands for itself, and every problem, sorted; no runbooks if there is an error.

    `actions` are the declarations of the actions that there are, by name (`engine.actions.load_actions()`);
    `check_query` parses queries (`engine.loading.check_query`), without it they are taken as they are.
    """
    found = read_runbooks(text, file, actions=actions, check_query=check_query)
    runbooks, problems = with_defaults(found.runbooks, found.defaults)
    return ([] if problems else runbooks), sorted([*found.problems, *problems])


def read_runbooks(text: str, file: str, *, actions: Actions, check_query: CheckQuery | None = None) -> RunbookFile:
    """A file among others: `with_defaults` makes its runbooks whole when all are read."""
    documents, problems = load_yaml(text, file)
    found = RunbookFile()
    for document in documents:
        if document.data is None:
            continue
        reader = Reader(document, actions, check_query)
        _read_document(reader, found)
        problems += reader.problems
    found.problems = sorted(set(problems))
    if any(problem.severity == "error" for problem in problems):
        found.runbooks.clear()
    return found


def _read_document(reader: Reader, found: RunbookFile) -> None:
    data = reader.document.data
    if not isinstance(data, dict) or not data.keys() & {"runbooks", "defaults"}:
        reader.refuse((), "a runbook file is a mapping with a list under `runbooks`, or with `defaults`")
        return
    reader.mapping((), data, "a runbook file", ("runbooks", "defaults"))
    if "defaults" in data:
        found.defaults.append(read_defaults(reader, ("defaults",), data["defaults"]))
    items = data.get("runbooks", [])
    if not isinstance(items, list):
        reader.refuse(("runbooks",), "`runbooks` is a list of runbooks")
        return
    names: set[str] = set()
    for i, item in enumerate(items):
        path: Path = ("runbooks", i)
        runbook = _read_runbook(reader, path, item)
        if runbook.name in names:
            reader.refuse((*path, "name"), f"runbook {runbook.name!r} stands in this file twice")
        names.add(runbook.name)
        check_runbook(reader, path, runbook)
        found.runbooks.append(runbook)


def _read_runbook(reader: Reader, path: Path, item: object) -> Runbook:
    data = reader.mapping(path, item, "a runbook", _KEYS)
    name = reader.string((*path, "name"), data.get("name"), "`name` of a runbook")
    follow_up = data.get("follow_up", [])
    if not isinstance(follow_up, list):
        reader.refuse((*path, "follow_up"), "`follow_up` is a list of texts")
        follow_up = []
    summary = data.get("summary", "{{ alert.name }}")
    reader.names.clear()
    runbook = Runbook(
        name=name,
        match=_read_match(reader, (*path, "match"), data.get("match")),
        priority=_read_priority(reader, (*path, "priority"), data.get("priority")),
        group_by=_read_names(reader, (*path, "group_by"), data.get("group_by", []), "`group_by`"),
        limits=_read_limits(reader, (*path, "limits"), data.get("limits", {})),
        escalation=_escalation(reader, path, data),
        summary=reader.text((*path, "summary"), summary, "`summary`"),
        follow_up=tuple(
            reader.text((*path, "follow_up", i), part, "an item of `follow_up`") for i, part in enumerate(follow_up)
        ),
        steps=read_steps(reader, (*path, "steps"), data.get("steps")),
        file=reader.document.file,
        line=reader.document.at(path)[0],
        explains=_read_explains(reader, (*path, "explains"), data.get("explains", [])),
    )
    return replace(runbook, names=tuple(reader.names))


def _escalation(reader: Reader, path: Path, data: Mapping[str, object]) -> Escalation:
    """A runbook's own; without one, that of the `defaults` takes its place when all files are read."""
    return read_escalation(reader, (*path, "escalation"), data["escalation"]) if "escalation" in data else NOBODY


def _read_explains(reader: Reader, path: Path, item: object) -> tuple[Explains, ...]:
    if not isinstance(item, list):
        reader.refuse(path, "`explains` is a list, e.g. [{match: ['alertname=\"HighLatency\"'], equal: [namespace]}]")
        return ()
    out = []
    for i, part in enumerate(item):
        where = (*path, i)
        data = reader.mapping(where, part, "an item of `explains`", ("match", "equal"))
        match = _read_match(reader, (*where, "match"), data.get("match"))
        out.append(Explains(match, _read_names(reader, (*where, "equal"), data.get("equal", []), "`equal`")))
    return tuple(out)


def _read_match(reader: Reader, path: Path, item: object) -> MatcherSet:
    matchers = []
    texts = reader.strings(path, item, "`match`")
    if not texts and isinstance(item, list):
        reader.refuse(path, '`match` needs a matcher; to take every alert write alertname=~".+"')
    for i, text in enumerate(texts):
        where = (*path, i) if isinstance(item, list) else path
        try:
            matcher = parse_matcher(text)
            MatcherSet([matcher])
            matchers.append(matcher)
        except ValueError as error:
            reader.refuse(where, str(error))
    return MatcherSet(matchers)


def _read_priority(reader: Reader, path: Path, item: object) -> Priority | Mapping[str, Priority] | Condition:
    if isinstance(item, dict):
        out = {key: _priority(reader, (*path, key), value) for key, value in item.items()}
        if "default" not in out:
            reader.refuse(path, "`priority` per severity needs a `default`")
        return out
    if isinstance(item, str) and item not in _PRIORITIES and not re.fullmatch(r"P\w*", item):
        return reader.condition(path, item, "`priority`") or "P2"
    return _priority(reader, path, item)


def _priority(reader: Reader, path: Path, item: object) -> Priority:
    for known in _PRIORITIES:
        if item == known:
            return known
    reader.refuse(path, f"a priority is P0, P1, P2 or P3 (or per severity, or CEL), not {item!r}")
    return "P2"


def _read_names(reader: Reader, path: Path, item: object, what: str) -> tuple[str, ...]:
    names = reader.strings(path, item, what)
    for i, name in enumerate(names):
        if name and not NAME.fullmatch(name):
            reader.refuse((*path, i), f"{name!r} is not the name of a label")
    return names


def _read_limits(reader: Reader, path: Path, item: object) -> Limits:
    data = reader.mapping(path, item, "`limits`", _LIMITS)
    given = Limits()
    return Limits(
        cooldown_ms=reader.duration_ms((*path, "cooldown"), data.get("cooldown"), given.cooldown_ms),
        budget_per_hour=reader.count((*path, "budget_per_hour"), data.get("budget_per_hour"), given.budget_per_hour),
        stabilisation_ms=reader.duration_ms(
            (*path, "stabilisation"), data.get("stabilisation"), given.stabilisation_ms
        ),
        reopen_ms=reader.duration_ms((*path, "reopen"), data.get("reopen"), given.reopen_ms),
    )
