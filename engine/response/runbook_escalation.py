"""Reading whom to tell: one chain of levels, or one for each priority, in a runbook or as the default for all.

```yaml
escalation: [{to: on-call}, {to: manager@example.org, after: 1h}]     # whatever the priority
escalation:
  P0: [{to: [on-call, manager@example.org]}]
  default: [{to: team-lead}, {to: on-call, after: 4h}]                # the priorities that have none of their own
```

`defaults: {escalation: ...}` stands once, in one of the files that are loaded together, beside `runbooks` or alone; it
is for every runbook that has no `escalation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from engine.core.diagnostics import Path, Problem
from engine.response.reader import Reader
from engine.response.steps import NOBODY, Chain, Escalation, EscalationLevel, Priority, Runbook

_PRIORITIES: tuple[Priority, ...] = get_args(Priority)
_NEEDS_LEVEL = "`escalation` is a list with at least one level, e.g. [{to: on-call}], or one for each priority"


@dataclass(frozen=True)
class Defaults:
    """A `defaults` block, and where it stands."""

    escalation: Escalation
    file: str
    line: int
    column: int


def read_defaults(reader: Reader, path: Path, item: object) -> Defaults:
    """What holds for every runbook that does not say otherwise."""
    data = reader.mapping(path, item, "`defaults`", ("escalation",))
    escalation = read_escalation(reader, (*path, "escalation"), data.get("escalation"))
    return Defaults(escalation, reader.document.file, *reader.document.at_key(path))


def read_escalation(reader: Reader, path: Path, item: object) -> Escalation:
    """An `escalation`; the receivers that it names are kept with it."""
    before = len(reader.names)
    if isinstance(item, dict):
        data = reader.mapping(path, item, "`escalation`", (*_PRIORITIES, "default"))
        chains = {one: _read_chain(reader, (*path, one), data[one]) for one in _PRIORITIES if one in data}
        default = _read_chain(reader, (*path, "default"), data["default"]) if "default" in data else ()
        missing = ", ".join(one for one in _PRIORITIES if one not in data)
        if missing and "default" not in data:
            reader.refuse(path, f"`escalation` per priority needs a `default`, or a chain for {missing}")
        found = Escalation(default, chains)
    else:
        found = Escalation(_read_chain(reader, path, item))
    names = (replace(named, file=reader.document.file) for named in reader.names[before:])
    return replace(found, names=tuple(names))


def _read_chain(reader: Reader, path: Path, item: object) -> Chain:
    if not isinstance(item, list) or not item:
        reader.refuse(path, _NEEDS_LEVEL)
        return ()
    levels = []
    for i, part in enumerate(item):
        where = (*path, i)
        data = reader.mapping(where, part, "a level of `escalation`", ("to", "after"))
        if i and "after" not in data:
            reader.refuse(where, "a later level of `escalation` says `after` how long without acknowledgement")
        if not i and "after" in data:
            reader.refuse((*where, "after"), "the first level of `escalation` is told at once", key=True)
        to = reader.receivers((*where, "to"), data.get("to"))
        levels.append(EscalationLevel(to, reader.duration_ms((*where, "after"), data.get("after"), 0)))
    return tuple(levels)


def with_defaults(runbooks: Iterable[Runbook], defaults: Sequence[Defaults]) -> tuple[list[Runbook], list[Problem]]:
    """The runbooks of all files together, those without an `escalation` with the default one; and what is wrong."""
    problems = [
        Problem(one.file, one.line, one.column, f"`defaults` stands in {defaults[0].file} already")
        for one in defaults[1:]
    ]
    out = []
    for runbook in runbooks:
        if runbook.escalation is not NOBODY:
            out.append(runbook)
        elif defaults:
            default = defaults[0].escalation
            out.append(replace(runbook, escalation=default, names=(*runbook.names, *default.names)))
        else:
            text = f"runbook {runbook.name!r} has no `escalation`, and no file loaded with it has one in `defaults`"
            problems.append(Problem(runbook.file, runbook.line, 1, text))
    return out, problems
