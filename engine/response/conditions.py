"""CEL conditions and Jinja texts of runbooks, compiled once and fenced in.

Both see the same names: `labels` and `alert` (the alert), `incident`, `subject` (what an action is about), and one name
for each investigation done before. Nothing from an event is ever executed: a label's text is a *value* in CEL and in
Jinja, never part of the expression, and Jinja runs in its sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import cel
import msgspec
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.response.words import without_nul

Scope = Mapping[str, object]

_POSITION = re.compile(r"<input>:(\d+):(\d+): (.*)")
_BINDING = re.compile(r"\.\s*(?:map|filter|all|exists|exists_one)\s*\(\s*([A-Za-z_]\w*)\s*,")
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
FUNCTIONS = frozenset(
    {"all", "bool", "bytes", "contains", "double", "duration", "endsWith", "exists", "exists_one", "filter", "has"}
    | {"int", "map", "matches", "size", "startsWith", "string", "timestamp", "type", "uint"}
)
_TEXT_MAX = 10_000


def _cel_literal(value: object) -> str:
    """A value as a CEL literal; JSON's strings, numbers, lists and objects are also CEL's."""
    return msgspec.json.encode(value).decode()


_jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)  # plain text, not HTML
_jinja.filters["cel"] = _cel_literal
_jinja.filters["segment"] = lambda value: quote(str(value), safe="")


class TextError(ValueError):
    """A condition or a text is malformed; refused at load. `line` and `column` (from 1) are inside its own text."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class RenderError(Exception):
    """A condition or a text has no value on this evidence, e.g. the first of no rows; never taken for false."""


@dataclass(frozen=True)
class Condition:
    """A CEL expression; its value may be of any type."""

    text: str
    program: cel.Program

    def names(self) -> frozenset[str]:
        """The names it needs from the scope."""
        bound = set(_BINDING.findall(_STRING.sub("''", self.text)))
        return frozenset(set(self.program.variables()) - bound)

    def value(self, scope: Scope) -> object:
        """Its value; raises `RenderError`."""
        try:
            return self.program.execute(dict(scope))
        except Exception as error:  # the library raises a dozen types, by what the data was
            raise RenderError(f"`{self.text}`: {error}") from error

    def holds(self, scope: Scope) -> bool:
        """Its truth; raises `RenderError` also when the value is not a truth value."""
        value = self.value(scope)
        if not isinstance(value, bool):
            raise RenderError(f"`{self.text}`: is {value!r}, not true or false")
        return value


@dataclass(frozen=True)
class Text:
    """A Jinja template of plain text."""

    text: str

    def names(self) -> frozenset[str]:
        """The names it needs from the scope."""
        return frozenset(meta.find_undeclared_variables(_jinja.parse(self.text)))

    @property
    def is_literal(self) -> bool:
        """Whether nothing is filled in."""
        return not any(sign in self.text for sign in ("{{", "{%", "{#"))

    def render(self, scope: Scope) -> str:
        """The filled-in text; raises `RenderError`."""
        if self.is_literal:
            return without_nul(self.text)
        try:
            out = without_nul(_jinja.from_string(self.text).render(dict(scope))).strip()
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise RenderError(f"`{self.text}`: {error}") from error
        if len(out) > _TEXT_MAX:
            raise RenderError(f"`{self.text[:100]}`: gives more than {_TEXT_MAX} characters")
        return out


def condition(text: str) -> Condition:
    """Compile a CEL expression. Raises `TextError` with the position of a mistake."""
    try:
        program = cel.compile(text)
    except ValueError as error:
        found = _POSITION.search(str(error))
        if found is None:
            raise TextError(f"bad CEL: {error}") from error
        raise TextError(f"bad CEL: {found[3]}", int(found[1]), int(found[2])) from error
    unknown = sorted(name for name in program.functions() if name.isidentifier() and name[0] != "_")
    unknown = [name for name in unknown if name not in FUNCTIONS]
    if unknown:
        raise TextError(f"bad CEL: no function {unknown[0]!r}")
    return Condition(text, program)


def template(text: str) -> Text:
    """Check a Jinja text. Raises `TextError` with the line of a mistake."""
    try:
        _jinja.parse(text)
        _jinja.from_string(text)
    except TemplateSyntaxError as error:
        raise TextError(f"bad template: {error.message}", error.lineno) from error
    return Text(text)
