"""Label filters: `| level="error" and took > 10ms`.

A value that cannot be read as a number marks the line with `LabelFilterErr`, unless an earlier stage marked it, and the
line stays; a missing label does not match. Addresses are looked for inside the value, as line filters do, and a line
that failed before stays whatever its address (Loki: `log/label_filter.go`, `log/ip.go`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from engine.core.labels import Matcher
from engine.logql import tree as t
from engine.logql import units
from engine.logql.line import Line, Stage
from engine.logql.linefilters import holds_address, parse_range
from engine.logql.regexes import matches_whole

_NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_READERS: dict[str, Callable[[str], float]] = {
    "number": units.number,
    "duration": units.duration_s,
    "bytes": units.size_bytes,
}


def compile_condition(node: t.Condition) -> Stage:
    """The stage of a label filter. Raises `ExpressionError`."""
    if isinstance(node, t.Both):
        left, right = compile_condition(node.left), compile_condition(node.right)
        if node.op == "and":
            return lambda line: left(line) and right(line)
        return lambda line: left(line) or right(line)
    if node.kind == "string":
        return _string(node)
    if node.kind == "ip":
        return _address(node)
    return _numeric(node)


def equal_labels(nodes: Sequence[t.Stage]) -> list[tuple[str, str]]:
    """The labels that must have one value, which is not empty, for a line to pass some label filters."""
    found: list[tuple[str, str]] = []
    waiting = [node.condition for node in nodes if isinstance(node, t.LabelFilter)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, t.Both):
            waiting += [node.left, node.right] if node.op == "and" else []
        elif node.kind == "string" and node.op == "=" and node.value:
            found.append((node.name, str(node.value)))
    return found


def names_in(node: t.Condition) -> set[str]:
    """The labels a condition looks at."""
    if isinstance(node, t.Both):
        return names_in(node.left) | names_in(node.right)
    return {node.name}


def matcher_test(matcher: Matcher, place: t.Place) -> Callable[[str], bool]:
    """Whether a label value fulfils a matcher; regular expressions match whole values."""
    value = matcher.value
    if matcher.op == "=":
        return lambda found: found == value
    if matcher.op == "!=":
        return lambda found: found != value
    matches = matches_whole(value, place)
    return matches if matcher.op == "=~" else lambda found: not matches(found)


def _string(node: t.Compare) -> Stage:
    name, value = node.name, str(node.value)
    if node.op == "=":
        return lambda line: line.labels.get(name, "") == value
    if node.op == "!=":
        return lambda line: line.labels.get(name, "") != value
    matches = matches_whole(value, node.place)
    if node.op == "=~":
        return lambda line: matches(line.labels.get(name, ""))
    return lambda line: not matches(line.labels.get(name, ""))


def _numeric(node: t.Compare) -> Stage:
    name, wanted, compare, read = node.name, float(node.value), _NUMERIC[node.op], _READERS[node.kind]

    def stage(line: Line) -> bool:
        text = line.labels.get(name)
        if text is None:
            return False
        try:
            return compare(read(text), wanted)
        except ValueError as error:
            if not line.error:
                line.fail("LabelFilterErr", str(error))
            return True

    return stage


def _address(node: t.Compare) -> Stage:
    try:
        holds = holds_address(parse_range(str(node.value)))
    except ValueError as error:
        raise node.place.refuse(str(error)) from error
    name, positive = node.name, node.op == "="

    def stage(line: Line) -> bool:
        if line.error:
            return True
        text = line.labels.get(name)
        return text is not None and holds(text) == positive

    return stage
