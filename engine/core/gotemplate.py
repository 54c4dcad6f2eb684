"""Alert labels and annotations as Prometheus and Loki write them: templates in Go's template language.

`compile_template` parses once, at load, and refuses with line and column what is not supported; `Template.expand`
fills in the labels and value of an alert. Supported: text, `{{ pipeline }}` with fields, variables, literals,
parentheses and the functions of `gofunctions`, `if`/`else if`/`else`/`with`/`end`, `$name := pipeline`, comments and
`{{-`/`-}}` trimming. Refused: `range`, `define`, `template`, `block` and functions that query.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.core.expression import ExpressionError
from engine.core.gofunctions import FUNCTIONS, TemplateError, is_true, text, type_name

Scope = dict[str, Any]

_ACTION = re.compile(r"\{\{(-(?=\s))?((?:\"(?:\\.|[^\"\\\n])*\"|`[^`]*`|.)*?)((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""
      (?P<blank>\s+)
    | (?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
    | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))
    | (?P<variable>\$\w*)
    | (?P<field>\.\w+)
    | (?P<word>[^\W\d]\w*)
    | (?P<symbol>:=|[.|()=,])
    | (?P<bad>.)
    """,
    re.VERBOSE,
)
_KEYWORDS = {"if", "else", "end", "with", "range", "define", "template", "block", "break", "continue"}
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "nil": None}


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an action and its offset in the template."""

    kind: str
    text: str
    offset: int


class Part(Protocol):
    """A piece of a template."""

    def write(self, dot: Any, scope: Scope) -> str:
        """Its text; `dot` is the current value, `scope` the variables."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Text as it stands."""

    content: str

    def write(self, dot: Any, scope: Scope) -> str:
        """The text."""
        return self.content


@dataclass(frozen=True, slots=True)
class Command:
    """An operand with fields, or a function with operands; `None` as head stands for the dot."""

    kind: str
    head: Any
    fields: tuple[str, ...]
    arguments: tuple[Command, ...]

    def value(self, dot: Any, scope: Scope, piped: tuple[Any, ...] = ()) -> Any:
        """What it evaluates to; `piped` is the value from the left of a `|`."""
        if self.kind == "function":
            arguments = [argument.value(dot, scope) for argument in self.arguments]
            return _field(_call(self.head, [*arguments, *piped]), self.fields)
        if piped:
            raise TemplateError("can't give argument to non-function")
        heads = {"dot": lambda: dot, "variable": lambda: scope[self.head], "literal": lambda: self.head}
        result = self.head.value(dot, scope) if self.kind == "pipeline" else heads[self.kind]()
        return _field(result, self.fields)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by `|`, perhaps kept in a variable."""

    commands: tuple[Command, ...]
    variable: str | None = None

    def value(self, dot: Any, scope: Scope) -> Any:
        """The value of the last command."""
        piped: tuple[Any, ...] = ()
        for command in self.commands:
            piped = (command.value(dot, scope, piped),)
        if self.variable is not None:
            scope[self.variable] = piped[0]
        return piped[0]

    def write(self, dot: Any, scope: Scope) -> str:
        """The value as text; nothing if it is kept in a variable."""
        value = self.value(dot, scope)
        return "" if self.variable is not None else text(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """`if` or `with`: one part if the condition holds, else the other; `with` makes the condition the dot."""

    condition: Pipeline
    then: Sequence[Part]
    otherwise: Sequence[Part]
    sets_dot: bool

    def write(self, dot: Any, scope: Scope) -> str:
        """The text of the chosen part."""
        value = self.condition.value(dot, scope)
        if is_true(value):
            return _write(self.then, value if self.sets_dot else dot, dict(scope))
        return _write(self.otherwise, dot, dict(scope))


@dataclass(frozen=True)
class Template:
    """A compiled template."""

    source: str
    parts: Sequence[Part]

    def expand(self, labels: Mapping[str, str], value: float, external_labels: Mapping[str, str] | None = None) -> str:
        """The text for an alert with these labels and this value.

        What cannot be expanded becomes `<error expanding template: ...>`, as in Prometheus: an alert is not lost over
        its description.
        """
        external = external_labels or {}
        value = float(value)  # a numpy float would have no Go type
        dot = {"Labels": labels, "Value": value, "ExternalLabels": external}
        scope = {"$": dot, "$labels": labels, "$value": value, "$externalLabels": external}
        try:
            return _write(self.parts, dot, scope)
        except TemplateError as error:
            return f"<error expanding template: {error}>"


def compile_template(source: str) -> Template:
    """Compile a template. Raises `ExpressionError` with the place of what is malformed or not supported."""
    return Template(source, _Parser(source).parse())


def _write(parts: Sequence[Part], dot: Any, scope: Scope) -> str:
    return "".join([part.write(dot, scope) for part in parts])


def _field(value: Any, fields: Sequence[str]) -> Any:
    for name in fields:
        if not isinstance(value, Mapping):
            raise TemplateError(f"can't evaluate field {name} in type {type_name(value)}")
        value = value.get(name, "")
    return value


def _call(name: str, arguments: Sequence[Any]) -> Any:
    try:
        inspect.signature(FUNCTIONS[name]).bind(*arguments)
    except TypeError:
        raise TemplateError(f"wrong number of args for {name}: got {len(arguments)}") from None
    if name in ("and", "or") and not arguments:
        raise TemplateError(f"wrong number of args for {name}: got 0")
    return FUNCTIONS[name](*arguments)


class _Parser:
    """A recursive-descent parser over the actions of one template."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.pieces = list(_pieces(source, self.error))
        self.at = 0
        self.variables = {"$", "$labels", "$value", "$externalLabels"}

    def error(self, message: str, offset: int) -> ExpressionError:
        """An error at an offset of the source."""
        before = self.source[:offset]
        return ExpressionError(message, before.count("\n") + 1, offset - before.rfind("\n"))

    def parse(self) -> list[Part]:
        """The whole template."""
        parts, stop = self.parts()
        if stop is not None:
            raise self.error(f"unexpected {{{{{stop[0].text}}}}}", stop[0].offset)
        return parts

    def parts(self) -> tuple[list[Part], list[Token] | None]:
        """Parts up to an `else` or `end`, and that action (None at the end of the template)."""
        result: list[Part] = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            self.at += 1
            if isinstance(piece, str):
                result.append(Plain(piece))
                continue
            word = piece[0].text
            if piece[0].kind == "word" and word in ("else", "end"):
                return result, piece
            if piece[0].kind == "word" and word in ("if", "with"):
                result.append(self.choice(piece))
            elif piece[0].kind == "word" and word in _KEYWORDS:
                raise self.error(f"template action {word} is not supported", piece[0].offset)
            else:
                result.append(_Action(self, piece).whole())
        return result, None

    def choice(self, piece: list[Token]) -> Choice:
        """An `if` or `with` and everything up to its `end`."""
        known = set(self.variables)
        condition = _Action(self, piece[1:], after=piece[0]).whole()
        then, stop = self.parts()
        if stop is None:
            raise self.error(f"{{{{{piece[0].text}}}}} has no {{{{end}}}}", piece[0].offset)
        otherwise: list[Part] = []
        if stop[0].text == "else":
            if len(stop) > 1:
                if stop[1].text not in ("if", "with"):
                    raise self.error(f"unexpected {stop[1].text!r} after else", stop[1].offset)
                otherwise = [self.choice(stop[1:])]
            else:
                otherwise, stop = self.parts()
                if stop is None or stop[0].text != "end":
                    raise self.error(f"{{{{{piece[0].text}}}}} has no {{{{end}}}}", piece[0].offset)
        self.variables = known
        return Choice(condition, then, otherwise, piece[0].text == "with")


class _Action:
    """Parses the tokens of one action."""

    def __init__(self, parser: _Parser, tokens: list[Token], after: Token | None = None) -> None:
        self.parser = parser
        self.tokens = tokens
        self.at = 0
        last = tokens[-1] if tokens else after
        self.end = last.offset + len(last.text) if last else 0

    def peek(self) -> Token:
        """The next token; an `end` token after the last."""
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "end of action", self.end)

    def take(self) -> Token:
        """The next token, consumed."""
        token = self.peek()
        self.at += 1
        return token

    def unexpected(self, token: Token) -> ExpressionError:
        """An error for a token that cannot stand where it does."""
        return self.parser.error(f"unexpected {token.text!r} in template action", token.offset)

    def whole(self) -> Pipeline:
        """The pipeline that fills the action."""
        variable: str | None = None
        if len(self.tokens) > 1 and self.tokens[0].kind == "variable" and self.tokens[1].text in (":=", "="):
            variable = self.take().text
            self.take()
        pipeline = self.pipeline()
        if self.peek().kind != "end":
            raise self.unexpected(self.peek())
        if variable is not None:
            self.parser.variables.add(variable)
        return Pipeline(pipeline.commands, variable)

    def pipeline(self) -> Pipeline:
        """Commands joined by `|`."""
        commands = [self.command(first=True)]
        while self.peek().text == "|" and self.peek().kind == "symbol":
            self.take()
            commands.append(self.command(first=False))
        return Pipeline(tuple(commands))

    def command(self, *, first: bool) -> Command:
        """A function with its operands, or one operand."""
        start = self.peek()
        head = self.operand()
        arguments: list[Command] = []
        while self.peek().kind != "end" and self.peek().text not in ("|", ")"):
            arguments.append(self.operand())
        if head.kind == "function":
            return Command("function", head.head, head.fields, tuple(arguments))
        if arguments or not first:
            raise self.parser.error(f"{start.text!r} is not a function", start.offset)
        return head

    def operand(self) -> Command:
        """One value, with the fields that follow it without a blank."""
        token = self.take()
        if token.kind == "string":
            return Command("literal", _unquote(token, self.parser), (), ())
        if token.kind == "number":
            return Command("literal", _number(token.text), (), ())
        if token.kind == "variable":
            if token.text not in self.parser.variables:
                raise self.parser.error(f"undefined variable {token.text}", token.offset)
            return Command("variable", token.text, self.fields(token), ())
        if token.kind == "field":
            return Command("dot", None, (token.text[1:], *self.fields(token)), ())
        if token.text == "." and token.kind == "symbol":
            return Command("dot", None, (), ())
        if token.text == "(" and token.kind == "symbol":
            inner = self.pipeline()
            closing = self.take()
            if closing.text != ")":
                raise self.unexpected(closing)
            return Command("pipeline", inner, self.fields(closing), ())
        if token.kind == "word":
            return self.word(token)
        raise self.unexpected(token)

    def word(self, token: Token) -> Command:
        """A constant or a function."""
        if token.text in _CONSTANTS:
            return Command("literal", _CONSTANTS[token.text], (), ())
        if token.text not in FUNCTIONS:
            raise self.parser.error(f"template function {token.text!r} is not supported", token.offset)
        return Command("function", token.text, (), ())

    def fields(self, before: Token) -> tuple[str, ...]:
        """The `.name`s that follow a token without a blank."""
        result: list[str] = []
        while self.peek().kind == "field" and self.peek().offset == before.offset + len(before.text):
            before = self.take()
            result.append(before.text[1:])
        return tuple(result)


def _pieces(source: str, error: Any) -> Iterator[str | list[Token]]:
    """Text, and the tokens of each action that has any."""
    done, trim = 0, False
    for match in _ACTION.finditer(source):
        plain = source[done : match.start()]
        plain = plain.lstrip() if trim else plain
        plain = plain.rstrip() if match[1] else plain
        if plain:
            yield plain
        done, trim = match.end(), match[3] is not None
        body = match[2]
        if body.strip().startswith("/*"):
            continue
        tokens = [
            Token(token.lastgroup or "bad", token[0], match.start(2) + token.start())
            for token in _TOKEN.finditer(body)
            if token.lastgroup != "blank"
        ]
        for token in tokens:
            if token.kind == "bad":
                raise error(f"unexpected {token.text!r} in template action", token.offset)
        if not tokens:
            raise error("missing value in template action", match.start())
        yield tokens
    rest = source[done:]
    if "{{" in rest:
        raise error("unclosed {{ in template", done + rest.index("{{"))
    rest = rest.lstrip() if trim else rest
    if rest:
        yield rest


def _number(literal: str) -> int | float:
    try:
        return int(literal, 0)
    except ValueError:
        return float(literal)


def _unquote(token: Token, parser: _Parser) -> str:
    if token.text[0] == "`":
        return token.text[1:-1]
    try:
        return str(json.loads(token.text))
    except ValueError:
        raise parser.error(f"bad string literal {token.text}", token.offset) from None
