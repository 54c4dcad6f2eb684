"""Texts that a line must hold to pass line filters, told without running them, so that many rules are tried at once.

Only what is certain counts: a filter of which nothing is certain has no required texts, and lines are then tried on it
one by one. Regular expressions are RE2; of them only plain runs of characters outside groups are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.logql import tree as t
from engine.logql.pattern import parse_pattern

_OPENING, _CLOSING = "([", ")]"
_QUANTIFIERS = "*?{"  # what may leave out the character before it
_ENDS_RUN = ".^$+"
_PUNCTUATION = frozenset("\\.+*?()|[]{}^$-/:\"'`,;=<>@#%&!~ _")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A line that passes holds at least one of `texts`; `whole` if that is all that filter number `filter` asks."""

    texts: tuple[str, ...]
    filter: int
    whole: bool


def requirement(filters: Sequence[t.LineFilter]) -> Requirement | None:
    """The most telling required texts of some line filters: the longest, and of equally long ones the fewest."""
    found = [
        Requirement(texts, number, node.op == "|=")
        for number, node in enumerate(filters)
        if (texts := _required(node)) is not None
    ]
    return max(found, key=lambda one: (min(map(len, one.texts)), -len(one.texts)), default=None)


def _required(node: t.LineFilter) -> tuple[str, ...] | None:
    texts: list[str] = []
    for value, is_ip in node.values:
        if is_ip or not node.op.startswith("|"):
            return None
        own = (value,) if node.op == "|=" else in_regex(value) if node.op == "|~" else _in_pattern(value)
        if own is None:
            return None
        texts += own
    return tuple(dict.fromkeys(texts)) if texts and all(texts) else None


def _in_pattern(value: str) -> tuple[str, ...] | None:
    literals = [part for part in parse_pattern(value).parts if isinstance(part, str)]
    return (max(literals, key=len),) if literals else None


def in_regex(expression: str) -> tuple[str, ...] | None:
    """One text per alternative of a regular expression, at least one of which every match holds; None if unknown."""
    if "(?" in expression.replace("(?:", "").replace("(?P<", "") or "\\Q" in expression:
        return None  # flags may change the meaning of letters
    alternatives = _split(expression)
    if alternatives is None:
        return None
    texts = [max(_runs(one), key=len, default="") for one in alternatives]
    return tuple(texts) if all(texts) else None


def _split(expression: str) -> list[str] | None:
    """The alternatives at the top of an expression; None if its brackets are not understood."""
    parts, begin, depth, at = [], 0, 0, 0
    while at < len(expression):
        character = expression[at]
        if character == "\\":
            at += 1
        elif character == "[":
            end = _class_end(expression, at)
            if end is None:
                return None
            at = end
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            parts.append(expression[begin:at])
            begin = at + 1
        at += 1
    return [*parts, expression[begin:]] if depth == 0 else None


def _class_end(expression: str, at: int) -> int | None:
    """Where the `]` of a character class stands."""
    at += 1
    at += expression.startswith("^", at)
    at += expression.startswith("]", at)
    while at < len(expression):
        if expression[at] == "\\":
            at += 1
        elif expression.startswith("[:", at):
            at = max(at, expression.find(":]", at) + 1)
        elif expression[at] == "]":
            return at
        at += 1
    return None


def _runs(expression: str) -> list[str]:
    """The plain runs of characters of an alternative that stand in every match."""
    runs, run, at = [], "", 0
    while at < len(expression):
        character = expression[at]
        if character in _OPENING:
            runs.append(run)
            run, at = "", _group_end(expression, at)
        elif character in _QUANTIFIERS:
            runs.append(run[:-1])
            run = ""
            if character == "{":
                at = max(at, expression.find("}", at))
        elif character in _ENDS_RUN:
            runs.append(run)
            run = ""
        elif character == "\\":
            at += 1
            if expression[at : at + 1] in _PUNCTUATION:
                run += expression[at : at + 1]
            else:
                runs.append(run)
                run, at = "", _escape_end(expression, at)
        else:
            run += character
        at += 1
    return [*runs, run]


def _escape_end(expression: str, at: int) -> int:
    """The last character of an escape such as `\\d`, `\\x{10FFFF}`, `\\x7F`, `\\pL` or `\\123`."""
    if expression.startswith(("x{", "p{", "P{"), at):
        return max(at, expression.find("}", at))
    if expression.startswith("x", at):
        return at + 2
    if expression.startswith(("p", "P"), at):
        return at + 1
    while expression[at].isdigit() and expression[at + 1 : at + 2].isdigit():
        at += 1
    return at


def _group_end(expression: str, at: int) -> int:
    """Where a group or class that begins here ends."""
    if expression[at] == "[":
        end = _class_end(expression, at)
        return len(expression) if end is None else end
    depth = 0
    while at < len(expression):
        if expression[at] == "\\":
            at += 1
        elif expression[at] == "[":
            at = _group_end(expression, at)
        elif expression[at] in "()":
            depth += 1 if expression[at] == "(" else -1
            if depth == 0:
                return at
        at += 1
    return at
