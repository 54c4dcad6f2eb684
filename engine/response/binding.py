"""Queries and paths with `$name` in them: text from outside is put in as a quoted value, never as part of the language.

In PromQL and LogQL a name may stand only where the value of a label matcher does, after `=` or `!=` within braces, or
after LogQL's line filter `|=`: a text there is compared as it is. Anywhere else (after `=~`, in a template) it would be
read as something more than a value, so a name there is refused when the runbook is loaded.

```
{job=$service} |= $request        up{job="a", instance!=$pod}        /api/users/$user
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import msgspec

from engine.response.conditions import Condition, RenderError, Scope

Style = Literal["label", "segment"]

_TOKEN = re.compile(
    r"""
      (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
    | (?P<blank>\s+|\#[^\n]*)
    | (?P<name>\$[A-Za-z_]\w*)
    | (?P<operator>=~|!~|==|!=|\|=|<=|>=|=)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"\$([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Placeholder:
    """A `$name` at an offset of a text; `is_value` says whether only a value can stand there."""

    name: str
    offset: int
    is_value: bool


@dataclass(frozen=True)
class Bound:
    """A query (`label`) or a path (`segment`) with the CEL expressions that give its names their text."""

    text: str
    params: Mapping[str, Condition]
    style: Style

    def placeholders(self) -> list[Placeholder]:
        """Where its names stand."""
        if self.style == "segment":
            return [Placeholder(found[1], found.start(), True) for found in _NAME.finditer(self.text)]
        return list(_in_query(self.text))

    def example(self) -> str:
        """The text with an example in each place, as long as the name so that columns stay what they are."""
        return self._filled(lambda name: '"' + "x" * max(1, len(name) - 1) + '"')

    def fill(self, scope: Scope) -> str:
        """The text with its values. Raises `RenderError`, also for a value that is no text or an empty one.

        An empty text is refused because a matcher for it selects everything that lacks the label.
        """
        texts = {name: self._value(name, param, scope) for name, param in self.params.items()}
        return self._filled(lambda name: _QUOTE[self.style](texts[name]))

    def _filled(self, literal: Callable[[str], str]) -> str:
        parts, end = [], 0
        for one in self.placeholders():
            parts += [self.text[end : one.offset], literal(one.name)]
            end = one.offset + 1 + len(one.name)
        return "".join(parts) + self.text[end:]

    def _value(self, name: str, param: Condition, scope: Scope) -> str:
        value = param.value(scope)
        if not isinstance(value, str):
            raise RenderError(f"`{param.text}`: ${name} takes a text, not {value!r}; string(...) makes one")
        if not value or (self.style == "segment" and value in (".", "..")):
            raise RenderError(f"`{param.text}`: ${name} cannot be {value!r}")
        return value


def is_log_query(text: str) -> bool:
    """Whether a LogQL text asks for lines: only such a query begins with a stream selector."""
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "blank" and found[0] != "(":
            return found[0] == "{"
    return False


def _in_query(text: str) -> Iterator[Placeholder]:
    depth, before = 0, ""
    for found in _TOKEN.finditer(text):
        if found.lastgroup == "blank":
            continue
        if found.lastgroup == "name":
            is_value = before in ("=", "!=") if depth else before == "|="
            yield Placeholder(found[0][1:], found.start(), is_value)
        depth += (found[0] == "{") - (found[0] == "}")
        before = found[0]


def _literal(text: str) -> str:
    """A string literal of PromQL and LogQL: theirs are Go's, and what JSON escapes, Go escapes alike."""
    return msgspec.json.encode(text).decode()


_QUOTE: Mapping[Style, Callable[[str], str]] = {"label": _literal, "segment": lambda text: quote(text, safe="")}
