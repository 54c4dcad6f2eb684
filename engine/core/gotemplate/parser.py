"""Tokens to a syntax tree, by the rules of Go's text/template; what it refuses is refused here, with the place.

Variables are resolved to slots of their template's frame. Go finds them by name at run time; the one difference that
shows, a variable declared in the branch not taken, is kept as a variable without a slot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from engine.core.expression import ExpressionError
from engine.core.gotemplate import tree as t
from engine.core.gotemplate.constants import number
from engine.core.gotemplate.quoting import unquote
from engine.core.gotemplate.scanner import Token, error_at, scan

MOST_NESTED = 100
_NOT_EXECUTABLE = (t.Boolean, t.Dot, t.Nil, t.Number, t.String)


def parse(source: str, functions: Collection[str], variables: Sequence[str] = ()) -> t.Tree:
    """The tree of a template.

    `functions` are the known names; `variables` are those that the caller fills before the main template runs, in the
    slots from 1 on (slot 0 is `$`). Raises `ExpressionError`.
    """
    tokens = _Tokens(source)
    defined: dict[str, t.Body] = {}
    main = _Parser(tokens, functions, defined, variables).main()
    return t.Tree(source, main, defined)


class _Tokens:
    """The tokens of a source, with a way back."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.stream = scan(source)
        self.seen: list[Token] = []
        self.at = 0
        self.depth = 0

    def peek(self) -> Token:
        """The next token."""
        while self.at >= len(self.seen):
            self.seen.append(next(self.stream))
        return self.seen[self.at]

    def take(self) -> Token:
        """The next token, consumed."""
        token = self.peek()
        if token.kind != "end":
            self.at += 1
        return token

    def peek_on(self) -> Token:
        """The next token that is no blank; blanks before it are consumed."""
        while self.peek().kind == "space":
            self.at += 1
        return self.peek()

    def take_on(self) -> Token:
        """The next token that is no blank, consumed."""
        self.peek_on()
        return self.take()

    def error(self, message: str, offset: int) -> ExpressionError:
        """An error at an offset."""
        return error_at(self.source, offset, message)

    def unexpected(self, token: Token, context: str) -> ExpressionError:
        """An error for a token that cannot stand where it does."""
        return self.error(f"unexpected {token.text!r} in {context}", token.offset)

    @contextmanager
    def nested(self, token: Token) -> Iterator[None]:
        """Counts how deep parentheses and branches stand in each other."""
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise self.error(f"nested too deeply (more than {MOST_NESTED} levels)", token.offset)
        yield
        self.depth -= 1


class _Parser:
    """A recursive-descent parser for one template of the source."""

    def __init__(
        self, tokens: _Tokens, functions: Collection[str], defined: dict[str, t.Body], variables: Sequence[str] = ()
    ) -> None:
        self.tokens = tokens
        self.functions = functions
        self.defined = defined
        self.scope = {name: slot for slot, name in enumerate(("$", *variables))}
        self.known = set(self.scope)
        self.slots = len(self.scope)
        self.ranges = 0

    def main(self) -> t.Body:
        """The whole source."""
        nodes: list[t.Node] = []
        while (token := self.tokens.peek()).kind != "end":
            if token.kind == "left":
                back = self.tokens.at
                self.tokens.take()
                if self.tokens.peek_on().text == "define" and self.tokens.peek().kind == "keyword":
                    self.define()
                    continue
                self.tokens.at = back
            stop = self.node(nodes)
            if stop is not None:
                raise self.tokens.error(f"unexpected {{{{{stop.text}}}}}", stop.offset)
        return t.Body(nodes, self.slots)

    def define(self) -> None:
        """`define "name"` and what stands up to its `end`."""
        opening = self.tokens.take()
        name = self.name("define clause")
        self.expect_right("define clause")
        self.define_body(name, opening)

    def define_body(self, name: str, opening: Token) -> None:
        """The nodes of a template, kept under its name."""
        inner = _Parser(self.tokens, self.functions, self.defined)
        nodes, stop = inner.nodes(opening)
        if stop.text != "end":
            raise self.tokens.error(f"unexpected {{{{{stop.text}}}}} in {opening.text} clause", stop.offset)
        self.expect_right("end")
        if name in self.defined and not _is_empty(self.defined[name].nodes):
            if not _is_empty(nodes):
                raise self.tokens.error(f"template {name!r} is defined twice", opening.offset)
            return
        self.defined[name] = t.Body(nodes, inner.slots)

    def name(self, context: str) -> str:
        """The quoted name of a template."""
        token = self.tokens.take_on()
        if token.kind != "string":
            raise self.tokens.unexpected(token, context)
        return self.unquoted(token)

    def unquoted(self, token: Token) -> str:
        """The text of a string token."""
        try:
            return unquote(token.text)
        except ValueError:
            raise self.tokens.error(f"bad string literal {token.text}", token.offset) from None

    def expect_right(self, context: str) -> None:
        """`}}`."""
        token = self.tokens.take_on()
        if token.kind != "right":
            raise self.tokens.unexpected(token, context)

    def nodes(self, opening: Token) -> tuple[list[t.Node], Token]:
        """Nodes up to an `else` or `end`, and that word."""
        nodes: list[t.Node] = []
        while self.tokens.peek().kind != "end":
            stop = self.node(nodes)
            if stop is not None:
                return nodes, stop
        raise self.tokens.error(f"{{{{{opening.text}}}}} has no {{{{end}}}}", opening.offset)

    def node(self, nodes: list[t.Node]) -> Token | None:
        """One piece of text or one action, added to `nodes`; an `else` or `end` is returned instead."""
        token = self.tokens.take()
        if token.kind == "text":
            nodes.append(t.Text(token.text))
            return None
        if token.kind != "left":
            raise self.tokens.unexpected(token, "input")
        word = self.tokens.peek_on()
        if word.kind != "keyword" or word.text in ("nil", "define"):
            pipeline = self.pipeline("command", "}}")
            nodes.append(t.Action(pipeline, self.written(word.offset)))
            return None
        self.tokens.take()
        if word.text in ("else", "end"):
            return word
        nodes.append(self.control(word))
        return None

    def control(self, word: Token) -> t.Node:
        """A keyword's action and what belongs to it."""
        if word.text in ("break", "continue"):
            self.expect_right(f"{{{{{word.text}}}}}")
            if self.ranges == 0:
                raise self.tokens.error(f"{{{{{word.text}}}}} outside {{{{range}}}}", word.offset)
            return t.Jump(word.text)
        if word.text == "template":
            return self.call(word)
        if word.text == "block":
            name = self.name("block clause")
            pipeline = self.pipeline("block clause", "}}")
            with self.tokens.nested(word):
                self.define_body(name, word)
            return t.Call(name, pipeline, word.offset)
        with self.tokens.nested(word):
            return self.branch(word)

    def call(self, word: Token) -> t.Call:
        """`template "name" pipeline`."""
        name = self.name("template clause")
        if self.tokens.peek_on().kind == "right":
            self.tokens.take()
            return t.Call(name, None, word.offset)
        return t.Call(name, self.pipeline("template clause", "}}"), word.offset)

    def branch(self, word: Token) -> t.Branch:
        """`if`, `with` or `range` up to its `end`."""
        outside, known = dict(self.scope), set(self.known)
        pipeline = self.pipeline(word.text, "}}")
        written = self.written(word.offset)
        inside = dict(self.scope)
        self.ranges += word.text == "range"
        body, stop = self.nodes(word)
        self.ranges -= word.text == "range"
        otherwise: list[t.Node] = []
        if stop.text == "else":
            self.scope = dict(inside)
            otherwise = self.otherwise(word)
        else:
            self.expect_right("end")
        self.scope, self.known = outside, known
        return t.Branch(word.text, pipeline, body, otherwise, written)

    def otherwise(self, word: Token) -> list[t.Node]:
        """What follows the `else` of a branch."""
        following = self.tokens.peek_on()
        if following.kind == "keyword" and following.text in ("if", "with"):
            if following.text != word.text:
                raise self.tokens.error(f"{{{{else {following.text}}}}} in {{{{{word.text}}}}}", following.offset)
            self.tokens.take()
            with self.tokens.nested(following):
                return [self.branch(following)]
        self.expect_right("else")
        nodes, stop = self.nodes(word)
        if stop.text != "end":
            raise self.tokens.error(f"expected {{{{end}}}}; found {{{{{stop.text}}}}}", stop.offset)
        self.expect_right("end")
        return nodes

    def written(self, offset: int) -> str:
        """The source from an offset to the last `}}`."""
        return self.tokens.source[offset : self.tokens.seen[self.tokens.at - 1].offset].strip()

    def pipeline(self, context: str, end: str) -> t.Pipeline:
        """Commands up to `end`, which is `}}` or `)`."""
        offset = self.tokens.peek_on().offset
        names, is_assignment = self.declarations(context)
        commands: list[t.Command] = []
        while True:
            token = self.tokens.peek_on()
            if token.text == end and token.kind in ("right", "symbol"):
                self.tokens.take()
                break
            if not _starts_operand(token):
                raise self.tokens.unexpected(token, context)
            start = token.offset
            commands.append(self.command())
            if len(commands) > 1 and isinstance(commands[-1].operands[0], _NOT_EXECUTABLE):
                raise self.tokens.error(f"non executable command in pipeline stage {len(commands)}", start)
        if not commands:
            raise self.tokens.error(f"missing value for {context}", offset)
        targets = tuple(t.Variable(name, self.bind(name, is_assignment), ()) for name in names)
        return t.Pipeline(tuple(commands), targets, is_assignment, offset)

    def declarations(self, context: str) -> tuple[list[str], bool]:
        """`$a :=`, `$a =` or, in a range, `$a, $b :=` before a pipeline: the names, and whether it is `=`."""
        names: list[str] = []
        while self.tokens.peek_on().kind == "variable":
            back = self.tokens.at
            variable = self.tokens.take()
            following = self.tokens.peek_on()
            if following.kind == "symbol" and following.text in ("=", ":="):
                self.tokens.take()
                self.known.add(variable.text)
                return [*names, variable.text], following.text == "="
            if following.kind != "symbol" or following.text != ",":
                self.tokens.at = back
                break
            self.tokens.take()
            names.append(variable.text)
            self.known.add(variable.text)
            if context != "range" or len(names) > 1:
                raise self.tokens.error(f"too many declarations in {context}", following.offset)
            if self.tokens.peek_on().kind != "variable":
                raise self.tokens.error("range can only initialize variables", self.tokens.peek().offset)
        return names, False

    def bind(self, name: str, is_assignment: bool) -> t.Slot | None:
        """The slot of a variable that is set: its own for `=`, a new one for `:=`."""
        if is_assignment:
            return self.scope.get(name)
        self.scope[name] = self.slots
        self.slots += 1
        return self.scope[name]

    def command(self) -> t.Command:
        """Operands with blanks between them, up to `|` or the end."""
        operands: list[t.Operand] = []
        while True:
            if _starts_operand(self.tokens.peek_on()):
                operands.append(self.operand())
            token = self.tokens.peek()
            if token.kind == "space":
                continue
            if token.kind == "right" or (token.kind == "symbol" and token.text == ")"):
                break
            self.tokens.take()
            if token.kind == "symbol" and token.text == "|":
                break
            raise self.tokens.unexpected(token, "operand")
        return t.Command(tuple(operands))

    def operand(self) -> t.Operand:
        """A term with the fields that follow it without a blank."""
        token = self.tokens.peek()
        term = self.term()
        names: list[str] = []
        while self.tokens.peek().kind == "field":
            names.append(self.tokens.take().text[1:])
        if not names:
            return term
        if isinstance(term, t.Field):
            return t.Field((*term.names, *names))
        if isinstance(term, t.Variable):
            return t.Variable(term.name, term.slot, tuple(names))
        if isinstance(term, _NOT_EXECUTABLE):
            raise self.tokens.error(f"unexpected . after term {token.text!r}", token.offset)
        return t.Chain(term, tuple(names))

    def term(self) -> t.Operand:
        """One value or name."""
        token = self.tokens.take()
        if token.kind == "word":
            if token.text not in self.functions:
                raise self.tokens.error(f"template function {token.text!r} is not defined", token.offset)
            return t.Function(token.text)
        if token.kind == "variable":
            if token.text not in self.known:
                raise self.tokens.error(f"undefined variable {token.text}", token.offset)
            return t.Variable(token.text, self.scope.get(token.text), ())
        if token.kind == "symbol":
            with self.tokens.nested(token):
                return self.pipeline("parenthesized pipeline", ")")
        return self.constant(token)

    def constant(self, token: Token) -> t.Operand:
        """A value that is written out, the dot, or a field of it."""
        if token.kind == "string":
            return t.String(self.unquoted(token), token.text)
        if token.kind == "field":
            return t.Field((token.text[1:],))
        if token.kind == "bool":
            return t.Boolean(token.text == "true")
        if token.kind == "dot":
            return t.Dot()
        if token.kind == "keyword":
            return t.Nil()
        try:
            return number(token)
        except ValueError as error:
            raise self.tokens.error(str(error), token.offset) from None


def _starts_operand(token: Token) -> bool:
    if token.kind in ("keyword", "symbol"):
        return token.text in ("nil", "(")
    return token.kind not in ("left", "right", "text", "end")


def _is_empty(nodes: Sequence[t.Node]) -> bool:
    return all(isinstance(node, t.Text) and not node.text.strip() for node in nodes)
