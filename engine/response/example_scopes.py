"""Examples of what a condition may see, by what is declared about it: CEL has no types before it is evaluated.

What an alert, a query, a cluster or a command tells has known types, and every name that a condition writes is a label
there. The columns of an SQL row may be anything, so each of them is tried as a number, a text and a truth value.

```
vector   [{labels: {...}, value: 0.0}]         pods  [{name: "x", ready: true, restarts: 0, ...}]
sql      [{total: 1}] [{total: "x"}] ...       act   {status: "x", reason: "x"}
```
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from engine.response.steps import (
    Act,
    Body,
    HttpSource,
    Investigate,
    KubernetesSource,
    LogqlSource,
    PostgresSource,
    Read,
    Verify,
)

Scope = dict[str, object]

_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'")
_FIELD = re.compile(r"\.\s*([A-Za-z_]\w*)")
_ANYTHING: tuple[object, ...] = (1, "x", 1.5, True)
_COLUMNS_MAX = 4
_LITERALS_MAX = 4
_FIELDS: Mapping[Read, Mapping[str, object]] = {
    "pods": {
        "name": "x",
        "phase": "x",
        "ready": True,
        "restarts": 1,
        "reason": "x",
        "last_reason": "x",
        "image": "x",
        "started_ms": 1,
    },
    "logs": {"pod": "x", "line": "x"},
    "events": {"at_ms": 1, "reason": "x", "message": "x", "object": "x", "count": 1},
    "revisions": {"revision": 1, "image": "x", "created_ms": 1, "current": True},
}
_WORKLOAD = {"replicas": 1, "ready": 1, "updated": 1, "available": 1, "revision": 1, "image": "x", "paused": True}
_STATUS: Mapping[str, Mapping[str, object]] = {
    "persistentvolumeclaim": {"phase": "x", "requested_bytes": 1, "capacity_bytes": 1, "storage_class": "x"},
    "horizontalpodautoscaler": {"replicas": 1, "desired": 1, "min": 1, "max": 1, "workload": "x"},
}


@dataclass(frozen=True)
class Case:
    """One way the world may be: so many rows, numbers of this size, labels with this text."""

    rows: int
    number: float
    text: str


class Examples:
    """The scopes to try a condition on; `bodies` are the steps whose names it may use, by name."""

    def __init__(self, text: str, bodies: Mapping[str, Body]) -> None:
        bare = _STRING.sub("''", text)
        self._literals = [first or second for first, second in _STRING.findall(text)]
        self._fields = sorted({*_FIELD.findall(bare), *self._literals})
        self._bodies = bodies
        self.written = frozenset(_FIELD.findall(bare))
        self._columns = [name for name in self.written if name not in ("rows", "labels", "truncated")]

    @property
    def are_complete(self) -> bool:
        """Whether nothing is used of which nobody knows what it looks like: an HTTP body, a command's detail."""
        opaque = any(
            "detail" in self.written
            if isinstance(body, Act)
            else "body" in self.written and isinstance(_source(body), HttpSource)
            for body in self._bodies.values()
        )
        return not opaque and not (self._has_sql and len(self._columns) > _COLUMNS_MAX)

    @property
    def _has_sql(self) -> bool:
        return any(isinstance(_source(body), PostgresSource) for body in self._bodies.values())

    def cases(self) -> Iterator[list[Scope]]:
        """For each way the world may be, the scopes that differ in what the columns of SQL rows are."""
        texts = dict.fromkeys(["x", *self._literals[:_LITERALS_MAX]])
        for rows, number, text in product((0, 1, 2), (0.0, 1e9), texts):
            case = Case(rows, number, text)
            columns = self._columns if self._has_sql else []
            yield [
                self._scope(case, dict(zip(columns, values, strict=True)))
                for values in product(_ANYTHING, repeat=len(columns))
            ]

    def _scope(self, case: Case, columns: Mapping[str, object]) -> Scope:
        labels = dict.fromkeys(self._fields, case.text)
        alert = {"name": "x", "severity": case.text, "value": "1", "annotations": labels}
        return {
            "labels": labels,
            "alert": {**alert, "fired_ms": 1, "window_ms": 1, "count": 1},
            "incident": {"id": 1, "priority": case.text, "opened_ms": 1},
            **{name: self._told(body, case, columns) for name, body in self._bodies.items()},
        }

    def _told(self, body: Body, case: Case, columns: Mapping[str, object]) -> Scope:
        if isinstance(body, Act):
            return {"status": case.text, "reason": case.text, "detail": {}}
        if isinstance(_source(body), HttpSource):
            return {"rows": [], "status": 200, "body": {}, "truncated": False}
        row = self._row(body, case, columns)
        return {"rows": [row] * case.rows, "status": None, "body": None, "truncated": False}

    def _row(self, body: Body, case: Case, columns: Mapping[str, object]) -> Scope:
        source, labels = _source(body), dict.fromkeys(self._fields, case.text)
        if isinstance(source, PostgresSource):
            return dict(columns)
        if isinstance(source, LogqlSource) and source.is_lines:
            return {"time_ms": 1, "labels": labels, "line": case.text}
        if isinstance(source, KubernetesSource):
            return {name: _like(value, case) for name, value in _fields_of(source).items()}
        return {"labels": labels, "value": case.number}


def _like(example: object, case: Case) -> object:
    if isinstance(example, bool):
        return case.number == 0.0
    return case.text if isinstance(example, str) else int(case.number)


def _fields_of(source: KubernetesSource) -> Mapping[str, object]:
    if source.read != "status":
        return _FIELDS[source.read]
    kind = next((kind for kind in _STATUS if f"/{kind}/" in source.target.text), "")
    return {"kind": "x", **_STATUS.get(kind, _WORKLOAD)}


def _asked(body: Body) -> Body | None:
    return body.fresh if isinstance(body, Verify) else body


def _source(body: Body) -> object:
    asked = _asked(body)
    return asked.source if isinstance(asked, Investigate) else None
