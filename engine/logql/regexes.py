"""Regular expressions as LogQL has them: RE2 (linear in the text), and plain string tests where these say the same.

Most expressions in rules are words, beginnings or alternatives; testing such ones as strings is several times faster.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from engine.logql.tree import Place

Test = Callable[[str], bool]

_SPECIAL = frozenset("\\.+*?()|[]{}^$")
_QUIET = re2.Options()
_QUIET.log_errors = False  # the caller reports them


def compile_regex(text: str, place: Place) -> re2._Regexp:
    """An RE2 expression; `.` also matches a newline, as in Loki. Raises `ExpressionError`."""
    try:
        return re2.compile(f"(?s){text}", _QUIET)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        message = detail.decode() if isinstance(detail, bytes) else str(detail)
        raise place.refuse(f"error parsing regexp: {message} in {text!r}") from error


def matches_whole(text: str, place: Place) -> Test:
    """Whether an expression matches the whole of a text. Raises `ExpressionError`."""
    words = text.split("|")
    if all(map(_is_plain, words)):
        wanted = frozenset(words)
        return lambda found: found in wanted
    middle = text.removeprefix(".*").removesuffix(".*")
    if _is_plain(middle):
        if text == middle + ".*":
            return lambda found: found.startswith(middle)
        if text == ".*" + middle:
            return lambda found: found.endswith(middle)
        if text == f".*{middle}.*":
            return lambda found: middle in found
    fullmatch = compile_regex(text, place).fullmatch
    return lambda found: fullmatch(found) is not None


def matches_somewhere(text: str, place: Place) -> Test:
    """Whether an expression matches a part of a text. Raises `ExpressionError`."""
    words = text.split("|")
    if all(map(_is_plain, words)):
        if len(words) == 1:
            return lambda line: text in line
        return lambda line: any(word in line for word in words)
    search = compile_regex(text, place).search
    return lambda line: search(line) is not None


def _is_plain(text: str) -> bool:
    return _SPECIAL.isdisjoint(text)
