"""Conditions that can never have a value of the right type: found when the runbook is loaded, on example scopes.

A condition is tried on every example (`response.example_scopes`). It is refused where some way the world may be leaves
it without a value whatever the SQL rows hold: it would fail then. So is a `decide` or `expect` that is never a truth
value, and an equality that never holds because a text is compared with a number, which CEL itself takes for false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from engine.core.diagnostics import Path
from engine.response.conditions import FUNCTIONS, Condition, TextError, condition
from engine.response.example_scopes import Examples, Scope
from engine.response.reader import Reader
from engine.response.steps import (
    Act,
    Body,
    Decide,
    HttpSource,
    Investigate,
    KubernetesSource,
    ParamTree,
    PostgresSource,
    Runbook,
    Step,
    Value,
    Verify,
    chosen_name,
    kind_of,
    source_kind,
)

Wanted = Literal["truth", "text", "anything"]

_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\d[\w.]*|==|!=|\w+|\s+|.", re.DOTALL)
_LITERAL = re.compile(r"[\"'\d]")
_NO_FUNCTION = re.compile(r"Undefined variable or function: '(\w+)'")
_WANTS: Mapping[Wanted, tuple[type, str]] = {
    "truth": (bool, "true or false"),
    "text": (str, "a text"),
    "anything": (object, ""),
}
_CALLED = {bool: "a truth value", str: "a text", int: "a number", float: "a number", list: "a list", dict: "a map"}


def check_types(reader: Reader, path: Path, places: Mapping[str, Path], runbook: Runbook) -> None:
    """Note every condition of a runbook that cannot be right, whatever happens."""
    if isinstance(runbook.priority, Condition):
        _check(reader, (*path, "priority"), runbook.priority, "text", {})
    bodies = {step.name: step.body for step in runbook.steps}
    for step in runbook.steps:
        for where, found, wanted in _conditions(step):
            _check(reader, (*places[step.name], *where), found, wanted, bodies)


def _check(reader: Reader, path: Path, found: Condition, wanted: Wanted, bodies: Mapping[str, Body]) -> None:
    named = {name: body for name, body in bodies.items() if name in found.names()}
    examples = Examples(found.text, named)
    if "subject" in found.names() or not examples.are_complete:
        return
    said = _mismatch(found, examples) or _unequal(found, examples) or _result(found, examples, wanted)
    if said:
        reader.refuse_inside(path, f"`{found.text}` {said}", (1, 1))


def _mismatch(found: Condition, examples: Examples) -> str:
    """Why a condition has no value in some case, "" if it has one in every."""
    for scopes in examples.cases():
        why = [_error(found, scope, examples) for scope in scopes]
        if all(why):
            return why[0]
    return ""


def _unequal(found: Condition, examples: Examples) -> str:
    """What is wrong with an equality: where `<=` is not defined between its sides they are never equal."""
    for strict in _stricter(found.text):
        if _mismatch(strict, examples):
            return "compares values of different types, which are never equal"
    return ""


def _stricter(text: str) -> Iterator[Condition]:
    """The condition with `<=` in place of one `==` or `!=` that has a text or a number beside it, for each of these."""
    tokens = _TOKEN.findall(text)
    solid = [i for i, token in enumerate(tokens) if token.strip()]
    for at, i in enumerate(solid):
        beside = [tokens[solid[j]] for j in (at - 1, at + 1) if 0 <= j < len(solid)]
        if tokens[i] in ("==", "!=") and any(_LITERAL.match(token) for token in beside):
            try:
                yield condition("".join([*tokens[:i], "<=", *tokens[i + 1 :]]))
            except TextError:  # `a < b == 1` may not be written so
                continue


def _result(found: Condition, examples: Examples, wanted: Wanted) -> str:
    """Why the value is never of the wanted type, "" if it may be."""
    kind, called = _WANTS[wanted]
    values = [value for scopes in examples.cases() for scope in scopes for value in _values(found, scope)]
    if not values or any(isinstance(value, kind) for value in values):
        return ""
    return f"is {_CALLED.get(type(values[0]), 'no value')}, not {called}"


def _values(found: Condition, scope: Scope) -> list[object]:
    try:
        return [found.program.execute(scope)]
    except Exception:  # no value here; whether that is wrong, `_error` says
        return []


def _error(found: Condition, scope: Scope, examples: Examples) -> str:
    """What is wrong with the types in a scope, "" if nothing is; that a row is missing is nothing."""
    try:
        found.program.execute(scope)
    except TypeError:
        return "gives an operator a type that it does not take; labels and alert.value are texts"
    except KeyError as error:
        field = str(error.args[0])
        return f"uses the field {field!r}, which is not there" if field in examples.written else ""
    except RuntimeError as error:
        missing = _NO_FUNCTION.search(str(error))
        if missing and missing[1] in FUNCTIONS:
            return f"gives {missing[1]}() a type that it does not take"
    except Exception:  # division by zero, an index that is not there: right with other data
        return ""
    return ""


def _conditions(step: Step) -> Iterator[tuple[Path, Condition, Wanted]]:
    body = step.body
    if isinstance(body, Decide):
        for i, branch in enumerate(body.branches):
            if branch.condition is not None:
                yield ("decide", i, "if"), branch.condition, "truth"
    elif isinstance(body, Act):
        if body.subject is not None:
            yield (kind_of(body), "subject"), body.subject, "anything"
        for where, found in _of_params(body.params, (kind_of(body), "params")):
            yield where, found, "anything"
    elif isinstance(body, Investigate):
        yield from _of_query(("investigate",), body)
    elif isinstance(body, Verify):
        if body.fresh is not None:
            yield from _of_query(("verify", "investigate"), body.fresh)
        if body.expect is not None:
            yield ("verify", "expect"), body.expect, "truth"


def _of_query(path: Path, body: Investigate) -> Iterator[tuple[Path, Condition, Wanted]]:
    source = body.source
    chosen = chosen_name(source)
    if chosen is not None:
        yield (*path, source_kind(source), chosen[0], "cel"), chosen[1], "text"
    if isinstance(source, PostgresSource):
        for i, param in enumerate(source.params):
            yield (*path, "postgres", "params", i), param, "anything"
    elif not isinstance(source, KubernetesSource):
        bound = source.path if isinstance(source, HttpSource) else source.query
        for name, value in bound.params.items():
            yield (*path, source_kind(source), "params", name), value, "text"


def _of_params(tree: ParamTree, path: Path) -> Iterator[tuple[Path, Condition]]:
    if isinstance(tree, Value):
        yield (*path, "cel"), tree.condition
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _of_params(item, (*path, key))
    elif isinstance(tree, tuple):
        for i, item in enumerate(tree):
            yield from _of_params(item, (*path, i))
