"""From the text of a LogQL expression to its tree. Errors say what stands there and what was expected, with the place.

The grammar is `grammar.lark`. What depends on more than one token (precedence in label filters, which aggregation
takes what) is checked here and in `compile`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import lark
from lark import Token

from engine.core.expression import ExpressionError
from engine.core.labels import Matcher, MatchOp
from engine.logql import tree as t
from engine.logql import units

_BLANKS = re.compile(r'("(?:\\.|[^"\\])*"|`[^`]*`)|(?:\s|#[^\n]*)+')
_DISPLAY = {"LPAR": "(", "RPAR": ")", "LBRACE": "{", "RBRACE": "}", "LSQB": "[", "RSQB": "]", "VBAR": "|"}
_WORDS = {
    "RANGE_OP": "a range aggregation such as rate(...)",
    "VECTOR_OP": "a vector aggregation such as sum(...)",
    "$END": "end of the expression",
}
_MOST_EXPECTED = 8
_NOT_SUPPORTED = {
    "variants": "write each variant as an expression of its own",
    "xml": "take the fields out with regexp or pattern",
}


def parse(text: str) -> t.Expr | t.LogQuery:
    """The tree of a metric or log query. Raises `ExpressionError`."""
    if not text.strip():
        raise ExpressionError("the expression is empty")
    try:
        found = _parser().parse(text)
        return cast(t.Expr | t.LogQuery, _Builder(text).transform(found))
    except lark.exceptions.VisitError as error:
        if isinstance(error.orig_exc, ExpressionError):
            raise error.orig_exc from None
        raise
    except lark.exceptions.UnexpectedInput as error:
        raise _syntax_error(text, error) from None


@cache
def _parser() -> lark.Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", maybe_placeholders=True, propagate_positions=True)


def _syntax_error(text: str, error: lark.exceptions.UnexpectedInput) -> ExpressionError:
    expected: set[str] = set()
    line, column = error.line, error.column
    if isinstance(error, lark.exceptions.UnexpectedToken):
        found = str(error.token)
        expected = set(error.accepts)
        if error.token.type == "$END":
            found = "end of the expression"
            lines = text.rstrip().split("\n")
            line, column = len(lines), len(lines[-1]) + 1
    else:
        word = re.match(r"\w+|\S", text[cast(int, error.pos_in_stream) :])
        found = word[0] if word else "this"
    for token in (found, *filter(None, getattr(error, "token_history", None) or ())):
        if token.lower() in _NOT_SUPPORTED:
            line, column = (line, column) if token is found else place(token)
            return ExpressionError(f"{token.lower()} is not supported: {_NOT_SUPPORTED[token.lower()]}", line, column)
    return ExpressionError(f"syntax error: unexpected {found}{_expecting(expected)}", line, column)


def _expecting(terminals: set[str]) -> str:
    patterns = {terminal.name: terminal.pattern for terminal in _parser().terminals}
    names = []
    for name in sorted(terminals):
        pattern = patterns.get(name)
        if name in _WORDS:
            names.append(_WORDS[name])
        elif name in _DISPLAY:
            names.append(_DISPLAY[name])
        elif isinstance(pattern, lark.lexer.PatternStr):
            names.append(pattern.value)
        else:
            names.append(name)
    if not names or len(names) > _MOST_EXPECTED:
        return ""
    return f", expecting {' or '.join(names)}"


def place(token: Token) -> t.Place:
    """Where a token stands."""
    return t.Place(token.line or 1, token.column or 1)


class _Builder(lark.Transformer[Token, Any]):
    """Turns lark's tree into ours, from the leaves up; a method per rule."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, items: list[Any]) -> Any:
        return items[0]

    def binary(self, items: list[Any]) -> t.BinaryOperation:
        left, op, (return_bool, on, labels, group, include), right = items
        return t.BinaryOperation(op.lower(), left, right, return_bool, on, labels, group, include, place(op))

    def modifier(self, items: list[Any]) -> tuple[Any, ...]:
        return_bool, matching, group = items
        on, labels = matching or (False, ())
        side, include = group or (None, ())
        return return_bool is not None, on, labels, side, include

    def matching(self, items: list[Any]) -> tuple[bool, tuple[str, ...]]:
        return items[0].lower() == "on", items[1] or ()

    def group(self, items: list[Any]) -> tuple[str, tuple[str, ...]]:
        return items[0].lower().removeprefix("group_"), items[1] or ()

    def names(self, items: list[Token]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(item) for item in items))

    def grouping(self, items: list[Any]) -> t.Grouping:
        return t.Grouping(items[0].lower() == "by", items[1] or (), place(items[0]))

    def literal(self, items: list[Any]) -> t.Number:
        sign, token = items
        return t.Number(_number(token) * (-1 if sign == "-" else 1))

    def range_aggregation(self, items: list[Any]) -> t.RangeAggregation:
        op, parameter, log_range, grouping = items
        return t.RangeAggregation(
            op.lower(), None if parameter is None else _number(parameter), log_range, grouping, place(op)
        )

    def vector_aggregation(self, items: list[Any]) -> t.VectorAggregation:
        op, before, parameter, operand, after = items
        if before and after:
            raise after.place.refuse(f"{op} is grouped twice")
        number = None if parameter is None else _number(parameter)
        return t.VectorAggregation(op.lower(), number, operand, before or after, place(op))

    def label_replace(self, items: list[Any]) -> t.LabelReplace:
        name, operand, *texts = items
        target, template, source, expression = (_text(token) for token in texts)
        return t.LabelReplace(operand, target, template, source, expression, place(name))

    def vector(self, items: list[Token]) -> t.VectorLiteral:
        return t.VectorLiteral(_number(items[1]))

    def log_range(self, items: list[Any]) -> t.LogRange:
        if isinstance(items[0], t.LogRange):
            return items[0]
        query, (range_ms, offset_ms, where), *stages = items
        if stages:
            more = " | ".join(_squeeze(repr(stage)) for stage in stages)
            query = t.LogQuery(query.matchers, (*query.stages, *stages), f"{query.text} {more}", query.place)
        return t.LogRange(query, range_ms, offset_ms, where)

    def range(self, items: list[Any]) -> tuple[int, int, t.Place]:
        length, offset, sign, shift = items
        range_ms = _duration_ms(length)
        if range_ms <= 0:
            raise place(length).refuse("the range must be longer than 0")
        shift_ms = 0 if shift is None else _duration_ms(shift)
        return range_ms, shift_ms if sign is None else -shift_ms, place(offset or length)

    @lark.v_args(meta=True)
    def log_query(self, meta: lark.tree.Meta, items: list[Any]) -> t.LogQuery:
        matchers, *stages = items
        text = _squeeze(self._text[meta.start_pos : meta.end_pos])
        return t.LogQuery(matchers, tuple(stages), text, t.Place(meta.line, meta.column))

    def selector(self, items: list[Any]) -> tuple[Matcher, ...]:
        return tuple(item for item in items if item is not None)

    def matcher(self, items: list[Token]) -> Matcher:
        return _matcher(*items)

    def line_filter(self, items: list[Any]) -> t.LineFilter:
        op, *values = items
        kept = tuple(value for value in values if isinstance(value, tuple))
        return t.LineFilter(cast(t.FilterOp, str(op)), kept, place(op))

    def line_value(self, items: list[Token]) -> tuple[str, bool]:
        return _text(items[-1]), len(items) > 1

    def parser(self, items: list[Any]) -> t.Parser:
        kind, *rest = items
        flags = tuple(str(item) for item in rest if isinstance(item, Token) and item.type == "FLAG")
        argument = next((_text(item) for item in rest if isinstance(item, Token) and item.type == "STRING"), "")
        extractions = next((item for item in rest if isinstance(item, tuple)), ())
        return t.Parser(cast(Any, kind.lower()), flags, extractions, argument, place(kind))

    def extractions(self, items: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple(items)

    def extraction(self, items: list[Any]) -> tuple[str, str]:
        name, _, expression = items
        return str(name), str(name) if expression is None else _text(expression)

    def decolorize(self, items: list[Token]) -> t.Decolorize:
        return t.Decolorize(place(items[0]))

    def line_format(self, items: list[Token]) -> t.LineFormat:
        return t.LineFormat(_text(items[1]), place(items[1]))

    def label_format(self, items: list[Any]) -> t.LabelFormat:
        return t.LabelFormat(tuple(items[1:]), place(items[0]))

    def assignment(self, items: list[Token]) -> tuple[str, str, bool]:
        target, _, source = items
        is_template = source.type == "STRING"
        return str(target), _text(source) if is_template else str(source), is_template

    def selection(self, items: list[Any]) -> t.Selection:
        return t.Selection(cast(Any, items[0].lower()), tuple(items[1:]), place(items[0]))

    def pick(self, items: list[Any]) -> tuple[str, Matcher | None]:
        name, op, value = items
        return str(name), None if op is None else _matcher(name, op, value)

    def unwrap(self, items: list[Token]) -> t.Unwrap:
        conversion = items[1].lower() if len(items) > 2 else ""
        return t.Unwrap(str(items[-1]), conversion, place(items[0]))

    @lark.v_args(meta=True)
    def label_filter(self, meta: lark.tree.Meta, items: list[Any]) -> t.LabelFilter:
        return t.LabelFilter(_join(items), t.Place(meta.line, meta.column))

    def comparison(self, items: list[Any]) -> t.Compare:
        name, op, (value, kind) = items
        return _compare(name, op, value, kind)

    def comparison_value(self, items: list[Any]) -> tuple[str | float, t.ValueKind]:
        token = items[-1]
        if token.type == "STRING":
            return _text(token), "ip" if isinstance(items[0], Token) and items[0].type == "IP" else "string"
        sign = -1 if items[0] == "-" else 1
        if token.type == "DURATION":
            return sign * _duration_ms(token, exact=False), "duration"
        if token.type == "BYTES":
            return sign * units.size_bytes(token), "bytes"
        return sign * _number(token), "number"


def _joint(token: Token | None) -> str:
    return "," if token is None else str(token.lower())


def _join(items: Sequence[Any]) -> t.Condition:
    """Conditions with what joins them: `and` binds closer than `or`; a comma (or nothing) joins what stands directly
    before it with everything after it, as Loki's grammar resolves it."""
    operands = [item.condition if isinstance(item, t.LabelFilter) else item for item in items[::2]]
    joints = list(map(_joint, items[1::2]))
    if "," in joints:
        cut = joints.index(",")
        rest: list[Any] = [operands[cut + 1]]
        for joint, operand in zip(joints[cut + 1 :], operands[cut + 2 :], strict=True):
            rest += [joint, operand]
        operands = [*operands[:cut], t.Both("and", operands[cut], _join(rest))]
        joints = joints[:cut]
    terms = [operands[0]]
    for joint, operand in zip(joints, operands[1:], strict=True):
        if joint == "and":
            terms[-1] = t.Both("and", terms[-1], operand)
        else:
            terms.append(operand)
    result = terms[0]
    for term in terms[1:]:
        result = t.Both("or", result, term)
    return cast(t.Condition, result)


def _compare(name: Token, op: Token, value: str | float, kind: t.ValueKind) -> t.Compare:
    where = place(op)
    if kind == "string" and op not in ("=", "==", "!=", "=~", "!~"):
        raise where.refuse(f"{op} compares numbers; {name} {op} is given a string (leave out the quotes)")
    if kind != "string" and op in ("=~", "!~"):
        raise where.refuse(f"{op} takes a regular expression in quotes")
    if kind == "ip" and op not in ("=", "==", "!="):
        raise where.refuse("ip: invalid operation: only = and != compare addresses")
    normal = "=" if op == "==" else str(op)
    return t.Compare(str(name), cast(t.CompareOp, normal), value, kind, place(name))


def _matcher(name: Token, op: Token, value: Token) -> Matcher:
    return Matcher(str(name), cast(MatchOp, str(op)), _text(value))


def _text(token: Token) -> str:
    try:
        return units.unquote(token)
    except ValueError as error:
        raise place(token).refuse(str(error)) from error


def _number(token: Token) -> float:
    return units.number(token)


def _duration_ms(token: Token, *, exact: bool = True) -> Any:
    try:
        seconds = units.literal_duration_s(token)
    except ValueError as error:
        raise place(token).refuse(str(error)) from error
    if not exact:
        return seconds
    duration_ms = seconds * 1000
    if abs(duration_ms - round(duration_ms)) > 1e-6:
        raise place(token).refuse(f"{token} is no whole number of milliseconds")
    return round(duration_ms)


def _squeeze(text: str) -> str:
    return _BLANKS.sub(lambda match: match[1] or " ", text).strip()
