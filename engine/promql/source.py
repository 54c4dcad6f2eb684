"""The text of an expression as the parser must get it.

promql-parser misreads or lacks some spellings that PromQL has; they are rewritten here into ones that mean the same.
What it would read wrongly, what would stop the process inside its binding, and what of the newest PromQL is not
supported is refused here by name, with its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import promql_parser as parser

from engine.core.expression import ExpressionError
from engine.promql.positions import Token, line_column, tokens
from engine.vector.binary import ARITHMETIC

BEFORE_1970_S = 1e11
"""A time this much later than a time before 1970 (counted backwards) stands for it: the binding takes no negative."""

ANY_LABELS = "__any_labels__"
"""A matcher of this name stands in the label selector of `info()`, which alone may match everything."""

_BYTE_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\(x[89a-fA-F]|[23][0-7]{2})")
_PIECE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-3][0-7]{2})|.)|[^\\]")
_LAST_ASCII = 0x7F
_DURATION_OPENS = ("[", ":")
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
_FURTHEST_S = 1e11
_EXTENSIONS = ("anchored", "smoothed")
_GROUPINGS = ("by", "without", "on", "ignoring", "group_left", "group_right")
_OF_THE_QUERY = ("step", "range", "min", "max", "min_of", "max_of")

Edit = tuple[int, int, str]
"""Replace the text between two offsets."""


def for_parser(text: str) -> str:
    """The text, rewritten where the parser needs that. Raises `ExpressionError`."""
    found = tokens(text)
    _refuse_unreadable(text, found)
    edits = sorted(edit for rewrite in _REWRITES for edit in rewrite(text, found))
    parts, done = [], 0
    for start, stop, replacement in edits:
        if start >= done:  # what lies inside a replaced part went with it
            parts += [text[done:start], replacement]
            done = stop
    return "".join([*parts, text[done:]])


def with_minus(text: str) -> str:
    """The rewritten text with each `+` a `-`: of the same type, but what a sign cannot stand before is refused.

    The parser forgets a sign `+` without a look at what follows.
    """
    found = tokens(text)
    signs = {t.offset for before, t in pairwise([Token("", "", 0), *found]) if t.text == "+" and before.text != "@"}
    return "".join("-" if at in signs else character for at, character in enumerate(text))


def at_ms(seconds: float) -> int:
    """The time that a number after `@` stands for."""
    return round((seconds if seconds < BEFORE_1970_S else BEFORE_1970_S - seconds) * 1000)


def _raw_strings(_: str, found: Sequence[Token]) -> Iterator[Edit]:
    """The parser wrongly looks for escapes in backquotes."""
    for token in found:
        if token.kind == "string" and token.text[0] == "`":
            raw = token.text[1:-1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            yield token.offset, token.end, f'"{raw}"'


def _byte_escapes(text: str, found: Sequence[Token]) -> Iterator[Edit]:
    """`\\xe6\\x97\\xa5` is one character, which the parser takes for three."""
    for token in found:
        if token.kind == "string" and token.text[0] != "`" and _BYTE_ESCAPE.search(token.text):
            try:
                yield token.offset, token.end, _without_byte_escapes(token.text)
            except UnicodeDecodeError as error:
                raise _refusal(text, "the string is not UTF-8", token) from error


def _without_byte_escapes(literal: str) -> str:
    parts: list[str] = []
    run = bytearray()
    for match in _PIECE.finditer(literal):
        if match[1] or match[2]:
            run.append(int(match[1], 16) if match[1] else int(match[2], 8))
            continue
        parts += [_characters(run), match[0]]
        run.clear()
    return "".join(parts)


def _characters(run: bytes | bytearray) -> str:
    return "".join(c if ord(c) > _LAST_ASCII else f"\\x{ord(c):02x}" for c in run.decode())


def _underscores(_: str, found: Sequence[Token]) -> Iterator[Edit]:
    """`1_000` is 1000."""
    for token in found:
        if token.kind == "number" and "_" in token.text:
            yield token.offset, token.end, token.text.replace("_", "")


def _old_names(_: str, found: Sequence[Token]) -> Iterator[Edit]:
    """What PromQL 2 called a function that PromQL 3 renamed."""
    for token, after in pairwise(found):
        if token.text == "holt_winters" and after.text == "(":
            yield token.offset, token.end, "double_exponential_smoothing"


def _early_times(text: str, found: Sequence[Token]) -> Iterator[Edit]:
    """`@ -5`: see `BEFORE_1970_S`."""
    for at, sign, number in zip(found, found[1:], found[2:], strict=False):
        if at.text == "@" and sign.text == "-" and number.kind == "number":
            try:
                seconds = _constant(number.text.replace("_", ""))
            except ValueError as error:
                raise _refusal(text, "the time after @ is not a number", number) from error
            yield sign.offset, number.end, repr(BEFORE_1970_S + seconds)


def _grouping_labels(text: str, found: Sequence[Token]) -> Iterator[Edit]:
    """`by (a:b)`: the parser takes such a label only as a string. One without a name is refused."""
    for i, (word, opening) in enumerate(pairwise(found)):
        if word.text.lower() in _GROUPINGS and opening.text == "(":
            for token in _until(found[i + 2 :], lambda t: t.text == ")"):
                if token.kind == "word" and ":" in token.text:
                    yield token.offset, token.end, f'"{token.text}"'
                elif token.kind == "string" and len(token.text) == 2:
                    raise _refusal(text, "a label to group by has no name", token)


def _label_selectors(text: str, found: Sequence[Token]) -> Iterator[Edit]:
    """The label selector of `info()` may match everything, which the parser refuses."""
    for i in range(len(found) - 1):
        if found[i].text == "info" and found[i + 1].text == "(":
            depth = 1
            for comma, brace in zip(found[i + 2 :], found[i + 3 :], strict=False):
                depth += (comma.text in _OPENING) - (comma.text in _CLOSING)
                if depth == 1 and comma.text == "," and brace.text == "{":
                    comma_after = "" if text[brace.end :].lstrip().startswith("}") else ","
                    yield brace.end, brace.end, f'{ANY_LABELS}="1"{comma_after}'
                if not depth:
                    break


def _durations(text: str, found: Sequence[Token]) -> Iterator[Edit]:
    """`[5m * 2]` and `offset (1h / 2)`: durations that are calculated, from constants."""
    for i, token in enumerate(found):
        if token.text == "[" or (token.text == ":" and _in_brackets(found, i)):
            yield from _calculated(text, found, i, lambda t: t.text in (":", "]"))
        elif token.text.lower() == "offset" and i + 1 < len(found):
            first = i + 1 + (found[i + 1].text in ("+", "-"))
            follows = found[first] if first < len(found) else token
            if follows.text == "(":
                yield from _calculated(text, found, i, _closes(found, first))
            elif follows.text.lower() in _OF_THE_QUERY:
                raise _refusal(text, f"{follows.text}() in a duration is not supported", follows)


def _in_brackets(found: Sequence[Token], i: int) -> bool:
    return sum((t.text == "[") - (t.text == "]") for t in found[:i]) > 0


def _closes(found: Sequence[Token], opening: int) -> Callable[[Token], bool]:
    """Whether a token is the one after the parenthesis that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(found)):
        depth += (found[i].text == "(") - (found[i].text == ")")
        if not depth:
            return lambda token: token.offset >= found[i].end
    return lambda token: False


def _calculated(text: str, found: Sequence[Token], i: int, ends: Callable[[Token], bool]) -> Iterator[Edit]:
    part = list(_until(found[i + 1 :], ends))
    if len(part) < 2 or (len(part) == 2 and part[0].text in ("+", "-")):
        return
    for token in part:
        if token.kind == "word":
            raise _refusal(text, f"{token.text}() in a duration is not supported", token)
    start, stop = part[0].offset, part[-1].end
    try:
        seconds = _constant(text[start:stop].replace("_", ""))
    except (ValueError, TypeError) as error:
        raise _refusal(text, "a duration is a number or made of numbers by + - * / % ^", part[0]) from error
    if not math.isfinite(seconds) or abs(seconds) >= _FURTHEST_S:
        raise _refusal(text, "the duration is out of range", part[0])
    if found[i].text in _DURATION_OPENS and seconds <= 0:
        raise _refusal(text, "duration must be greater than 0", part[0])
    ms = int(seconds * 1000)
    yield start, stop, f"{ms}ms" if ms >= 0 else f"-{-ms}ms"


def _until(found: Sequence[Token], ends: Callable[[Token], bool]) -> Iterator[Token]:
    for token in found:
        if ends(token):
            return
        yield token


def _constant(text: str) -> float:
    """The value of a calculation with numbers and durations, in seconds. ValueError, TypeError if it is none."""
    with np.errstate(all="ignore"):
        return _value(parser.parse(text))


def _value(tree: Any) -> float:
    if isinstance(tree, parser.NumberLiteral):
        return float(tree.val)
    if isinstance(tree, parser.ParenExpr):
        return _value(tree.expr)
    if isinstance(tree, parser.UnaryExpr):
        return -_value(tree.expr)
    if isinstance(tree, parser.BinaryExpr) and str(tree.op) in ARITHMETIC:
        return float(ARITHMETIC[str(tree.op)](_value(tree.lhs), _value(tree.rhs)))
    raise TypeError(f"{type(tree).__name__} is not a number")


_REWRITES = (
    _durations, _raw_strings, _byte_escapes, _underscores, _old_names, _early_times, _grouping_labels, _label_selectors,
)  # fmt: skip


def _refuse_unreadable(text: str, found: Sequence[Token]) -> None:
    """Raises `ExpressionError` for what the parser would read wrongly or stop the process over.

    Its binding aborts on durations and times that are NaN or beyond its integers.
    """
    for i, token in enumerate(found):
        if token.text.lower() in ("@", "offset", "[", ":") and not _is_sane(found, i):
            raise _refusal(text, f"the number after {token.text} is out of range", token)
        if token.text in ("</", ">/"):
            raise _refusal(text, f"operator {token.text} is not supported: it trims native histograms", token)
        if token.text.lower() in _EXTENSIONS and i and _ends_an_operand(found[i - 1]):
            raise _refusal(text, f"the modifier {token.text} is not supported", token)
        if token.kind == "number" and _is_infinite(token.text):
            raise _refusal(text, "the number is out of range", token)


def _ends_an_operand(token: Token) -> bool:
    return token.kind in ("word", "number") or token.text in ("]", "}", ")")


def _refusal(text: str, reason: str, token: Token) -> ExpressionError:
    return ExpressionError(reason, *line_column(text, token.offset))


def _is_sane(found: Sequence[Token], i: int) -> bool:
    """Whether a number that follows a token is finite and within some thousand years."""
    after = found[i + 1 : i + 3]
    number = after[1:] if after and after[0].text in ("+", "-") else after[:1]
    try:
        return not number or abs(float(number[0].text)) < _FURTHEST_S
    except ValueError:
        return True


def _is_infinite(text: str) -> bool:
    try:
        return math.isinf(float(text))
    except ValueError:
        return False
