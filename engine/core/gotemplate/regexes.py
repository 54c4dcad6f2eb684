"""Regular expressions of template functions: RE2, with Go's `$name` references in replacements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

import re2

from engine.core.gotemplate.values import TemplateError

_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)


@lru_cache(maxsize=1_000)
def pattern(expression: str) -> re2._Regexp:
    """The compiled expression. Raises `TemplateError`."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise TemplateError(f"error parsing regexp: {reason}: `{expression}`") from None


def is_match(expression: str, text: str) -> bool:
    """Whether the expression is found in the text."""
    return pattern(expression).search(text) is not None


def replace_all(expression: str, replacement: str, text: str) -> str:
    """Every match replaced; `$1` and `${name}` are its groups, `$$` is a dollar sign."""
    if "$" not in replacement:
        return replace_all_literal(expression, replacement, text)
    return _replaced(
        expression, text, lambda match: _REFERENCE.sub(lambda reference: _group(match, reference), replacement)
    )


def replace_all_literal(expression: str, replacement: str, text: str) -> str:
    """Every match replaced by the replacement as it stands."""
    return _replaced(expression, text, lambda match: replacement)


def count(expression: str, text: str) -> int:
    """How often the expression matches, without overlap."""
    return sum(1 for _ in _matches(expression, text))


def _matches(expression: str, text: str) -> Iterator[re2._Match]:
    """The matches that Go counts: an empty one right behind another is none."""
    end = -1
    for match in pattern(expression).finditer(text):
        if match.end() > match.start() or match.start() != end:
            yield match
        end = match.end()


def _replaced(expression: str, text: str, new: Callable[[re2._Match], str]) -> str:
    out, done = [], 0
    for match in _matches(expression, text):
        out += [text[done : match.start()], new(match)]
        done = match.end()
    return "".join([*out, text[done:]])


def _group(match: re2._Match, reference: re.Match[str]) -> str:
    name = reference[1] or reference[2]
    if name is None:
        return "$"
    try:
        return match.group(int(name) if name.isdigit() else name) or ""
    except (IndexError, KeyError):
        return ""
