"""Reading an `investigate` step: one source, and `timeout`, `max_rows`, `on_failure`.

- `postgres: {database, query, params}`: `params` is a list, the values of $1, $2, ...;
  `database`, as `host` below, is a name of the settings, or `{cel: ...}` that chooses one of them;
- `promql: {query, params}`, `logql: {query, params, since, limit}`: `params` is a mapping, the texts of `$name`s;
- `kubernetes: {read, target, tail}`;
- `http: {host, path, params}`.

A query and a path are literal: what varies is bound as a parameter (`response.binding`), never written into them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from engine.core.diagnostics import Path
from engine.response.binding import Bound, Style, is_log_query
from engine.response.conditions import Condition
from engine.response.reader import Reader
from engine.response.steps import (
    READS,
    HttpSource,
    Investigate,
    KubernetesSource,
    LogqlSource,
    Name,
    PostgresSource,
    PromqlSource,
    Source,
    Value,
)

DEFAULT_ROWS, MAX_ROWS = 100, 1_000
_DEFAULT_TIMEOUT_MS, _MAX_TIMEOUT_MS = 5_000, 60_000
_DEFAULT_SINCE_MS = 3_600_000
_NUMBERED = re.compile(r"\$(\d+)")
_PATH = re.compile(r"/(?!/)[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*")


def read_investigate(reader: Reader, path: Path, item: object) -> Investigate | None:
    """The body of an `investigate` step, also of the one within `verify`."""
    known = (*SOURCES, "timeout", "max_rows", "on_failure")
    data = reader.mapping(path, item, "`investigate`", known)
    sources = [kind for kind in SOURCES if kind in data]
    if len(sources) != 1:
        reader.refuse(path, f"`investigate` asks exactly one of {', '.join(SOURCES)}")
        return None
    timeout_ms = reader.duration_ms((*path, "timeout"), data.get("timeout"), _DEFAULT_TIMEOUT_MS)
    if not 0 < timeout_ms <= _MAX_TIMEOUT_MS:
        reader.refuse((*path, "timeout"), f"`timeout` is from 1ms to {_MAX_TIMEOUT_MS // 1000}s")
    source = SOURCES[sources[0]](reader, (*path, sources[0]), data[sources[0]])
    if source is None:
        return None
    return Investigate(
        source=source,
        timeout_ms=timeout_ms,
        max_rows=reader.count((*path, "max_rows"), data.get("max_rows"), DEFAULT_ROWS, MAX_ROWS),
        on_failure=reader.optional(path, data, "on_failure"),
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
    used = {int(number) for number in _NUMBERED.findall(query)}
    numbers = set(range(1, len(given) + 1))
    if used != numbers:
        reader.refuse((*path, "query"), f"the query uses {_named(used)}, `params` gives {_named(numbers)}")
    return PostgresSource(_name(reader, path, data, "database"), query, tuple(params))


def _name(reader: Reader, path: Path, data: Mapping[str, object], key: str) -> Name:
    """A name of the settings; what CEL gives is looked up there when it is known."""
    where, item = (*path, key), data.get(key)
    if not isinstance(item, dict):
        return _literal(reader, where, item, "{cel: ...}")
    inner = reader.mapping(where, item, f"`{key}`", ("cel",))
    found = reader.condition((*where, "cel"), inner.get("cel"), "`cel`")
    return Value(found) if found is not None else ""


def _named(names: set[int] | set[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names)) or "no parameter"


def _promql(reader: Reader, path: Path, item: object) -> Source:
    data = reader.mapping(path, item, "`promql`", ("query", "params"))
    query = _bound(reader, path, data, "query", "label")
    reader.query((*path, "query"), "promql", query)
    return PromqlSource(query)


def _logql(reader: Reader, path: Path, item: object) -> Source:
    data = reader.mapping(path, item, "`logql`", ("query", "params", "since", "limit"))
    query = _bound(reader, path, data, "query", "label")
    is_lines = is_log_query(query.text)
    reader.query((*path, "query"), "lines" if is_lines else "logql", query)
    for key in ("since", "limit"):
        if key in data and not is_lines:
            reader.refuse(
                (*path, key), f"`{key}` is for lines; how far back a metric query looks stands in it", key=True
            )
    since_ms = reader.duration_ms((*path, "since"), data.get("since"), _DEFAULT_SINCE_MS)
    if since_ms <= 0:
        reader.refuse((*path, "since"), "`since` is a duration longer than nothing, e.g. 15m")
    limit = reader.count((*path, "limit"), data.get("limit"), DEFAULT_ROWS, MAX_ROWS)
    return LogqlSource(query, is_lines, since_ms, limit)


def _kubernetes(reader: Reader, path: Path, item: object) -> Source | None:
    data = reader.mapping(path, item, "`kubernetes`", ("read", "target", "tail"))
    target = reader.text((*path, "target"), data.get("target"), "`target`")
    read = next((known for known in READS if known == data.get("read")), None)
    if read is None:
        reader.refuse((*path, "read"), f"`read` is one of {', '.join(READS)}, not {data.get('read')!r}")
        return None
    reader.object_name((*path, "target"), target, f"what has {read}", READS[read])
    if "tail" in data and read != "logs":
        reader.refuse((*path, "tail"), "`tail` is how many lines of each log; it is for `read: logs`", key=True)
    return KubernetesSource(read, target, reader.count((*path, "tail"), data.get("tail"), DEFAULT_ROWS, MAX_ROWS))


def _http(reader: Reader, path: Path, item: object) -> Source:
    data = reader.mapping(path, item, "`http`", ("host", "path", "params"))
    host = _name(reader, path, data, "host")
    where = _bound(reader, path, data, "path", "segment")
    if where.text and (not _PATH.fullmatch(where.text) or ".." in where.text):
        reader.refuse((*path, "path"), f"{where.text!r} is not a path: it starts with one / and never holds ..")
    return HttpSource(host, where)


def _bound(reader: Reader, path: Path, data: Mapping[str, object], key: str, style: Style) -> Bound:
    """A query or path whose `$names` are those of `params`, each where only a value can stand."""
    where, given = (*path, key), data.get("params", {})
    if not isinstance(given, dict):
        reader.refuse((*path, "params"), "`params` is a mapping of names to CEL expressions")
        given = {}
    read = {str(name): reader.condition((*path, "params", name), item, "a parameter") for name, item in given.items()}
    params = {name: value for name, value in read.items() if value is not None}
    bound = Bound(_literal(reader, where, data.get(key), "a parameter ($name and `params`)"), params, style)
    places = bound.placeholders()
    used = {place.name for place in places}
    if used != set(read):
        reader.refuse(where, f"the {key} uses {_named(used)}, `params` gives {_named(set(read))}")
    for place in places:
        if not place.is_value:
            before = bound.text[: place.offset]
            at = before.count("\n") + 1, place.offset - before.rfind("\n")
            reader.refuse_inside(
                where, f"${place.name} stands only where a label's value does, after = or != in braces, or after |=", at
            )
    return bound


def _literal(reader: Reader, path: Path, item: object, instead: str) -> str:
    text = reader.string(path, item, f"`{path[-1]}`")
    if any(sign in text for sign in ("{{", "{%", "{#")):
        reader.refuse(path, f"`{path[-1]}` is taken literally, so it holds no template; use {instead}")
    return text


SOURCES: Mapping[str, Callable[[Reader, Path, object], Source | None]] = {
    "postgres": _postgres,
    "promql": _promql,
    "logql": _logql,
    "kubernetes": _kubernetes,
    "http": _http,
}
