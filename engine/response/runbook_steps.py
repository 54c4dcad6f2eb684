"""Reading the steps of a runbook. A step is a mapping with `name`, one kind, and where it matters `next`.

- `investigate`: one of `postgres: {database, query, params}`, `promql: {query}`, `http: {host, path}`, and `timeout`,
  `max_rows`, `on_failure`;
- `decide`: a list of `{if: CEL, then: step, because: text}`, the last one `{else: step}`;
- `act`: `action`, `target`, `params`, `subject`, `mode`, `expires`, `on_empty`, `on_failure`;
- `ask`: as `act`, always for a person, with a `question`;
- `wait`: a duration;
- `verify`: `stabilisation`, `investigate`, `expect`, `on_failure`;
- `notify`: `to`, `text`;
- `escalate`: `to`, `text`.

A query and a path are literal: what varies is bound as a parameter, never written into them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from engine.core.diagnostics import Path
from engine.response.conditions import Condition
from engine.response.reader import NAME, Reader
from engine.response.runbook_act import read_act
from engine.response.steps import (
    END,
    Body,
    Branch,
    Decide,
    Escalate,
    HttpSource,
    Investigate,
    Notify,
    PostgresSource,
    PromqlSource,
    Source,
    Step,
    Verify,
    Wait,
)

RESERVED = frozenset({"labels", "alert", "incident", "subject", END})
_DEFAULT_TIMEOUT_MS, _MAX_TIMEOUT_MS = 5_000, 60_000
_DEFAULT_ROWS, _MAX_ROWS = 100, 1_000
_PLACEHOLDER = re.compile(r"\$(\d+)")
_PATH = re.compile(r"/(?!/)[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*")


def read_steps(reader: Reader, path: Path, item: object) -> tuple[Step, ...]:
    """The steps of a runbook in their order."""
    if not isinstance(item, list) or not item:
        reader.refuse(path, "a runbook needs a list of `steps`")
        return ()
    names = [part.get("name") if isinstance(part, dict) else None for part in item]
    steps: list[Step] = []
    for i, part in enumerate(item):
        following = names[i + 1] if i + 1 < len(names) else END
        step = _read_step(reader, (*path, i), part, str(following))
        if step is None:
            continue
        if any(step.name == earlier.name for earlier in steps):
            reader.refuse((*path, i, "name"), f"step {step.name!r} stands in this runbook twice")
        steps.append(step)
    return tuple(steps)


def _read_step(reader: Reader, path: Path, item: object, following: str) -> Step | None:
    if not isinstance(item, dict):
        reader.refuse(path, "a step is a mapping with `name` and one kind of step")
        return None
    name = reader.string((*path, "name"), item.get("name"), "`name` of a step")
    if name and (not NAME.fullmatch(name) or name in RESERVED):
        reader.refuse((*path, "name"), f"{name!r} cannot name a step: letters, digits and _, not {sorted(RESERVED)}")
    kinds = [key for key in item if key not in ("name", "next")]
    unknown = [kind for kind in kinds if kind not in _READ]
    for kind in unknown:
        reader.refuse((*path, kind), f"unknown kind of step {kind!r}; known: {', '.join(sorted(_READ))}", key=True)
    if unknown:
        return None
    if len(kinds) != 1:
        reader.refuse(path, f"a step has exactly one kind ({', '.join(sorted(_READ))}), this one has {len(kinds)}")
        return None
    kind = kinds[0]
    if "next" in item:
        if kind == "decide":
            reader.refuse((*path, "next"), "`decide` says with `then` and `else` where it goes", key=True)
        following = reader.string((*path, "next"), item["next"], "`next`")
    body = _READ[kind](reader, (*path, kind), item[kind])
    return Step(name, body, following) if body is not None else None


def _investigate(reader: Reader, path: Path, item: object) -> Investigate | None:
    known = (*_SOURCES, "timeout", "max_rows", "on_failure")
    data = reader.mapping(path, item, "`investigate`", known)
    sources = [kind for kind in _SOURCES if kind in data]
    if len(sources) != 1:
        reader.refuse(path, f"`investigate` asks exactly one of {', '.join(_SOURCES)}")
        return None
    timeout_ms = reader.duration_ms((*path, "timeout"), data.get("timeout"), _DEFAULT_TIMEOUT_MS)
    if not 0 < timeout_ms <= _MAX_TIMEOUT_MS:
        reader.refuse((*path, "timeout"), f"`timeout` is from 1ms to {_MAX_TIMEOUT_MS // 1000}s")
    source = _SOURCES[sources[0]](reader, (*path, sources[0]), data[sources[0]])
    return Investigate(
        source=source,
        timeout_ms=timeout_ms,
        max_rows=reader.count((*path, "max_rows"), data.get("max_rows"), _DEFAULT_ROWS, _MAX_ROWS),
        on_failure=_step_name(reader, path, data, "on_failure"),
    )


def _postgres(reader: Reader, path: Path, item: object) -> Source:
    data = reader.mapping(path, item, "`postgres`", ("database", "query", "params"))
    query = _literal(reader, (*path, "query"), data.get("query"), "a parameter ($1, $2, ... and `params`)")
    params: list[Condition] = []
    given = data.get("params", [])
    if not isinstance(given, list):
        reader.refuse((*path, "params"), "`params` is a list of CEL expressions, the values of $1, $2, ...")
        given = []
    for i, part in enumerate(given):
        value = reader.condition((*path, "params", i), part, "a parameter")
        if value is not None:
            params.append(value)
    used = {int(number) for number in _PLACEHOLDER.findall(query)}
    if used != set(range(1, len(given) + 1)):
        reader.refuse(
            (*path, "query"), f"the query uses {_named(used)}, `params` gives {_named(set(range(1, len(given) + 1)))}"
        )
    return PostgresSource(reader.string((*path, "database"), data.get("database"), "`database`"), query, tuple(params))


def _named(numbers: set[int]) -> str:
    return ", ".join(f"${number}" for number in sorted(numbers)) or "no parameter"


def _promql(reader: Reader, path: Path, item: object) -> Source:
    data = reader.mapping(path, item, "`promql`", ("query",))
    return PromqlSource(_literal(reader, (*path, "query"), data.get("query"), "a later condition"))


def _http(reader: Reader, path: Path, item: object) -> Source:
    data = reader.mapping(path, item, "`http`", ("host", "path"))
    host = reader.string((*path, "host"), data.get("host"), "`host`")
    where = _literal(reader, (*path, "path"), data.get("path"), "a later condition")
    if where and (not _PATH.fullmatch(where) or ".." in where):
        reader.refuse((*path, "path"), f"{where!r} is not a path: it starts with one / and never holds ..")
    return HttpSource(host, where)


def _literal(reader: Reader, path: Path, item: object, instead: str) -> str:
    text = reader.string(path, item, f"`{path[-1]}`")
    if any(sign in text for sign in ("{{", "{%", "{#")):
        reader.refuse(path, f"`{path[-1]}` is taken literally, so it holds no template; use {instead}")
    return text


def _decide(reader: Reader, path: Path, item: object) -> Decide | None:
    if not isinstance(item, list) or not item:
        reader.refuse(path, "`decide` is a list of `{if: ..., then: ...}` that ends with `{else: ...}`")
        return None
    branches = []
    for i, part in enumerate(item):
        where, last = (*path, i), i == len(item) - 1
        data = reader.mapping(where, part, "a branch of `decide`", ("if", "then", "else", "because"))
        key = "else" if last else "then"
        if last and ("if" in data or "else" not in data):
            reader.refuse(where, "the last branch of `decide` is `else`, so that something is decided in any case")
        elif not last and ("else" in data or "if" not in data):
            reader.refuse(where, "every branch of `decide` but the last has `if` and `then`")
        condition = None if "if" not in data else reader.condition((*where, "if"), data["if"], "`if`")
        because = None
        if "because" in data:
            because = reader.text((*where, "because"), data["because"], "`because`")
        target = reader.string((*where, key), data.get(key), f"`{key}`")
        branches.append(Branch(condition, target, because))
    return Decide(tuple(branches))


def _wait(reader: Reader, path: Path, item: object) -> Wait:
    wait_ms = reader.duration_ms(path, "" if item is None else item, 1)
    if wait_ms <= 0:
        reader.refuse(path, "`wait` is a duration longer than nothing, e.g. 30s")
    return Wait(wait_ms)


def _verify(reader: Reader, path: Path, item: object) -> Verify:
    data = reader.mapping(path, {} if item is None else item, "`verify`", _VERIFY)
    stabilisation_ms = None
    if "stabilisation" in data:
        stabilisation_ms = reader.duration_ms((*path, "stabilisation"), data["stabilisation"], 0)
    fresh = None
    if "investigate" in data:
        fresh = _investigate(reader, (*path, "investigate"), data["investigate"])
        if fresh is not None and fresh.on_failure is not None:
            reader.refuse((*path, "investigate", "on_failure"), "`on_failure` stands beside it, in `verify`", key=True)
    expect = None
    if "expect" in data:
        expect = reader.condition((*path, "expect"), data["expect"], "`expect`")
    return Verify(stabilisation_ms, fresh, expect, _step_name(reader, path, data, "on_failure"))


def _notify(reader: Reader, path: Path, item: object) -> Notify:
    data = reader.mapping(path, item, "`notify`", ("to", "text"))
    text = reader.text((*path, "text"), data.get("text"), "`text`")
    return Notify(text, _receivers(reader, path, data))


def _escalate(reader: Reader, path: Path, item: object) -> Escalate:
    data = reader.mapping(path, item, "`escalate`", ("to", "text"))
    text = reader.text((*path, "text"), data.get("text"), "`text`")
    return Escalate(_receivers(reader, path, data), text)


def _receivers(reader: Reader, path: Path, data: Mapping[str, object]) -> tuple[str, ...]:
    return reader.receivers((*path, "to"), data["to"]) if "to" in data else ()


def _step_name(reader: Reader, path: Path, data: Mapping[str, object], key: str) -> str | None:
    return reader.string((*path, key), data[key], f"`{key}`") if key in data else None


_VERIFY = ("stabilisation", "investigate", "expect", "on_failure")
_SOURCES: Mapping[str, Callable[[Reader, Path, object], Source]] = {
    "postgres": _postgres,
    "promql": _promql,
    "http": _http,
}
_READ: Mapping[str, Callable[[Reader, Path, object], Body | None]] = {
    "investigate": _investigate,
    "decide": _decide,
    "act": lambda reader, path, item: read_act(reader, path, item, ask=False),
    "ask": lambda reader, path, item: read_act(reader, path, item, ask=True),
    "wait": _wait,
    "verify": _verify,
    "notify": _notify,
    "escalate": _escalate,
}
