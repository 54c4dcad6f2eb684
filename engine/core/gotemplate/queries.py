"""Which queries a template asks, told from its text: what the caller must keep data for.

    {{ query "up" }}                                             up
    {{ printf "up{job='%s', env='x'}" $labels.job | query }}     up{env='x'}

Of a format only what it selects matters: a matcher whose name or value is filled in is left out (which selects more),
a number is written as 0. A format whose metric or range is filled in cannot be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.core.gotemplate import tree as t
from engine.core.gotemplate.scanner import error_at

_VERB = re.compile(r"%(?:%|[-+# 0]*(?:\[\d+\])?(?:\d+|\*)?(?:\.(?:\d+|\*)?)?(?:\[\d+\])?([a-zA-Z]))")
_TEXT, _QUOTED, _NUMBER = "\ue000", "\ue001", "\ue002"  # private use: they stand for what is filled in
_HOLES = _TEXT + _QUOTED + _NUMBER
_LITERAL = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`"
_TOKEN = re.compile(rf"(?P<literal>{_LITERAL})|(?P<selector>\{{(?:{_LITERAL}|[^{{}}\"'`])*\}})|(?P<other>.)", re.DOTALL)
_MATCHER = re.compile(rf"(?:{_LITERAL}|[^,\"'`])+")
_NUMERIC = set("deEfFgGb")
_BEFORE_NUMBER = re.compile(r"(?:^|[-+*/%^<>=(,]|\b(?:and|or|unless|bool))\s*$")
_OFFSET = re.compile(r"(?:\boffset|@)\s*-?\s*$")
_SELECTS = re.compile(rf"^\s*[^=!~]+=~?\s*(?!(?:\"\"|''|``)\s*$)(?:{_LITERAL})\s*$")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the author of a template should know, with line and column (from 1) in its text."""

    message: str
    line: int
    column: int


def find_queries(tree: t.Tree) -> tuple[tuple[str, ...], tuple[Notice, ...]]:
    """The queries of a template, each once, and a notice for each that cannot be told."""
    queries: dict[str, None] = {}
    notices = []
    for pipeline in _pipelines(tree):
        for argument in _query_arguments(pipeline):
            text = _text_of(argument)
            if text is not None:
                queries[text] = None
                continue
            place = error_at(tree.source, pipeline.offset, "")
            message = "this query cannot be told before the alert: it finds what other rules keep data for, and no more"
            notices.append(Notice(message, place.line, place.column))
    return tuple(queries), tuple(notices)


def _pipelines(tree: t.Tree) -> Iterator[t.Pipeline]:
    """Every pipeline of a source, those in parentheses, too."""
    for body in (tree.main, *tree.defined.values()):
        for node in body.nodes:
            yield from _pipelines_of_node(node)


def _pipelines_of_node(node: t.Node) -> Iterator[t.Pipeline]:
    if isinstance(node, t.Branch):
        for inner in (*node.body, *node.otherwise):
            yield from _pipelines_of_node(inner)
    if isinstance(node, t.Branch | t.Action | t.Call) and node.pipeline is not None:
        yield from _nested(node.pipeline)


def _nested(operand: t.Operand) -> Iterator[t.Pipeline]:
    if isinstance(operand, t.Chain):
        yield from _nested(operand.head)
    if isinstance(operand, t.Pipeline):
        yield operand
        for command in operand.commands:
            for inner in command.operands:
                yield from _nested(inner)


def _query_arguments(pipeline: t.Pipeline) -> Iterator[tuple[t.Command, ...]]:
    """For each call of `query` the commands that make its argument."""
    for i, command in enumerate(pipeline.commands):
        if command.operands[0] != t.Function("query"):
            continue
        if len(command.operands) == 2:
            yield (t.Command((command.operands[1],)),)
        elif i:
            yield pipeline.commands[:i]


def _text_of(commands: tuple[t.Command, ...]) -> str | None:
    """The query that these commands make; None if it cannot be told."""
    if len(commands) == 2 and isinstance(commands[1].operands[0], t.Function):
        return _filled(commands[1].operands[1:])  # `.x | printf "..."`
    if len(commands) != 1:
        return None
    operands = commands[0].operands
    head = operands[0]
    if isinstance(head, t.Pipeline):
        return _text_of(head.commands)
    if isinstance(head, t.String):
        return head.value
    if head == t.Function("printf"):
        return _filled(operands[1:])
    return None


def _filled(operands: tuple[t.Operand, ...]) -> str | None:
    """A format as a query that selects at least as much as any that it can become."""
    if not operands or not isinstance(operands[0], t.String):
        return None
    marked = _VERB.sub(_marked, operands[0].value)
    if not any(hole in marked for hole in _HOLES):
        return marked
    out = ""
    for match in _TOKEN.finditer(marked):
        piece = match[0]
        if match["selector"]:
            kept = _kept_matchers(piece, has_name=bool(re.search(r"[\w:]\s*$", out)))
            if kept is None:
                return None
            piece = kept
        elif match["literal"]:
            piece = re.sub(f"[{_HOLES}]", "", piece)
        elif piece == _NUMBER and _is_plain_number(out, marked[match.end() :]):
            piece = "0"
        elif piece in _HOLES:
            return None
        out += piece
    return out


def _is_plain_number(before: str, after: str) -> bool:
    """Whether a number stands here that selects nothing: an operand or argument, no offset, no piece of a word."""
    if _OFFSET.search(before) or re.match(r"[\w.:]", after):
        return False
    return _BEFORE_NUMBER.search(before) is not None


def _marked(match: re.Match[str]) -> str:
    if match[1] is None:
        return "%"
    if match[1] == "q":
        return _QUOTED
    return _NUMBER if match[1] in _NUMERIC else _TEXT


def _kept_matchers(selector: str, *, has_name: bool) -> str | None:
    """A selector without the matchers that are filled in; None if nothing would be left that selects."""
    matchers = _MATCHER.findall(selector[1:-1])
    kept = [matcher for matcher in matchers if not any(hole in matcher for hole in _HOLES)]
    if not has_name and not any(_SELECTS.match(matcher) for matcher in kept):
        return None
    return "{" + ",".join(kept) + "}"
