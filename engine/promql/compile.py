"""From the text of a PromQL expression to a tree of nodes that evaluate themselves.

The text is parsed by promql-parser, which also checks types. Compiled from its tree, never from the text it prints
(that misprints escapes and milliseconds). What the parser takes but PromQL does not have, or what is not supported,
is refused here with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import promql_parser as parser

from engine.core.expression import ExpressionError, Selector
from engine.core.labels import Matcher, MatcherSet, MatchOp
from engine.core.series import NAME
from engine.core.window import MetricWindow
from engine.promql import positions, source
from engine.promql.evaluate import (
    DEFAULT_STEP_MS,
    InstantSelector,
    Negation,
    PromQLExpression,
    RangeSelector,
    Shift,
    Subquery,
    Text,
)
from engine.promql.functions import FUNCTIONS, Call
from engine.promql.info import TARGET_INFO, Info
from engine.vector import relabel
from engine.vector.aggregations import AGGREGATIONS, Aggregation
from engine.vector.binary import OPERATORS, Binary, Matching
from engine.vector.values import LOOKBACK_MS, Node, Number

UNBOUNDED_MS = 2**52
"""The reach of a selector fixed to a time with `@`: however long ago that is, its samples are still wanted."""

_OF_NATIVE_HISTOGRAMS = {f"histogram_{part}" for part in ("avg", "count", "stddev", "stdvar", "sum")}
_MATCH_OPS: dict[int, MatchOp] = {0: "=", 1: "!=", 2: "=~", 3: "!~"}


def compile(  # noqa: A001  # the name every rule language's entry has
    text: str, *, step_ms: int = DEFAULT_STEP_MS, any_type: bool = False, delayed_names: bool = False
) -> PromQLExpression:
    """Compile one expression. Raises `ExpressionError`.

    `step_ms` is the step of subqueries that name none. A rule must be a vector or a scalar; with `any_type`, as in a
    query, a string or range vector is taken too. With `delayed_names`, metric names go at the end of an evaluation
    (Prometheus's feature `promql-delayed-name-removal`), not at once.
    """
    source_text = source.for_parser(text)
    try:
        tree = parser.parse(source_text)
        if "+" in source_text:
            parser.parse(source.with_minus(source_text))
    except ValueError as error:
        message = str(error)
        raise ExpressionError(message, *positions.of_parse_error(text, message)) from error
    compiler = _Compiler(text, step_ms)
    root = compiler.node(tree, 0)
    if not any_type and isinstance(root, Text | RangeSelector | Subquery):
        kind = "a string" if isinstance(root, Text) else "a range vector"
        raise ExpressionError(f"a rule must be a vector or a scalar, this is {kind}")
    return PromQLExpression(text, tuple(compiler.selectors.values()), root, delayed_names)


class _Compiler:
    """Compiles the tree of one text and gathers its selectors by key.

    `reach_ms` is handed down: how much further back than the evaluation time a surrounding subquery already looks.
    """

    def __init__(self, text: str, step_ms: int) -> None:
        self.text = text
        self.step_ms = step_ms
        self.selectors: dict[str, Selector] = {}

    def node(self, tree: Any, reach_ms: int) -> Node:
        """The node for a part of the tree."""
        builders: dict[type, Callable[[Any, int], Node]] = {
            parser.NumberLiteral: lambda t, _: Number(float(t.val)),
            parser.StringLiteral: lambda t, _: Text(t.val),
            parser.ParenExpr: lambda t, r: self.node(t.expr, r),
            parser.UnaryExpr: lambda t, r: Negation(self.node(t.expr, r)),
            parser.VectorSelector: self._instant,
            parser.MatrixSelector: self._range,
            parser.SubqueryExpr: self._subquery,
            parser.Call: self._call,
            parser.AggregateExpr: self._aggregation,
            parser.BinaryExpr: self._binary,
        }
        build = builders.get(type(tree))
        if build is None:
            raise ExpressionError(f"{type(tree).__name__} is not supported")
        return build(tree, reach_ms)

    def _refuse(self, what: str, token: str) -> ExpressionError:
        return ExpressionError(f"{what} is not supported", *positions.of_token(self.text, token))

    def _instant(self, tree: Any, reach_ms: int) -> Node:
        shift = self._shift(tree)
        key, matchers = self._selector(tree, shift, reach_ms, LOOKBACK_MS)
        return InstantSelector(key, matchers, shift)

    def _range(self, tree: Any, reach_ms: int) -> Node:
        shift, range_ms = self._shift(tree.vector_selector), _ms(tree.range)
        key, matchers = self._selector(tree.vector_selector, shift, reach_ms + range_ms, 0)
        return RangeSelector(key, matchers, range_ms, shift)

    def _subquery(self, tree: Any, reach_ms: int) -> Node:
        shift, range_ms = self._shift(tree), _ms(tree.range)
        step_ms = self.step_ms if tree.step is None else _ms(tree.step)
        operand = self.node(tree.expr, _reach(shift, reach_ms + range_ms))
        return Subquery(operand, range_ms, step_ms, shift)

    def _shift(self, tree: Any) -> Shift:
        offset_ms = 0 if tree.offset is None else _ms(tree.offset)
        if tree.at is None:
            return Shift(None, offset_ms)
        if tree.at.type == parser.AtModifierType.Start:
            return Shift("start", offset_ms)
        if tree.at.type == parser.AtModifierType.End:
            return Shift("end", offset_ms)
        return Shift(source.at_ms(tree.at.at.timestamp()), offset_ms)

    def _selector(self, tree: Any, shift: Shift, range_ms: int, lookback_ms: int) -> tuple[str, tuple[Matcher, ...]]:
        """Note what is read; its key is the text of the matchers, sorted.

        An offset counts towards the range: so much later does the expression show what happens now.
        """
        if tree.matchers.or_matchers:
            raise ExpressionError(
                "`or` between matchers is not PromQL; write two selectors joined by `or`",
                *positions.of_or_matcher(self.text),
            )
        matchers = _matchers(tree)
        if tree.name is not None:
            matchers.insert(0, Matcher(NAME, "=", tree.name))
        twice = [m.value for m in matchers if m.name == NAME and m.op == "="][1:]
        if twice:
            raise ExpressionError("metric name must not be set twice", *positions.of_string(self.text, twice[0]))
        return self._register(matchers, shift, range_ms, lookback_ms)

    def _register(
        self, matchers: list[Matcher], shift: Shift, range_ms: int, lookback_ms: int
    ) -> tuple[str, tuple[Matcher, ...]]:
        try:
            matches = MatcherSet(matchers)
        except ValueError as error:
            bad = next((m for m in matchers if _is_bad(m)), matchers[0])
            raise ExpressionError(str(error), *positions.of_string(self.text, bad.value)) from error
        key = f"metrics{{{','.join(sorted(map(str, matchers)))}}}"
        known = self.selectors.get(key)
        reach_ms = _reach(shift, range_ms + lookback_ms)
        range_ms = max(0, range_ms + shift.offset_ms)
        self.selectors[key] = Selector(
            "metrics",
            key,
            matches,
            max(reach_ms, known.reach_ms if known else 0),
            MetricWindow,
            range_ms=max(range_ms, known.range_ms if known else 0),
        )
        return key, tuple(matchers)

    def _call(self, tree: Any, reach_ms: int) -> Node:
        name = tree.func.name
        if name == "info":
            return self._info(tree, reach_ms)
        if name in _OF_NATIVE_HISTOGRAMS:
            raise self._refuse(f"function {name}(), which reads native histograms,", name)
        if name not in FUNCTIONS:
            raise self._refuse(f"function {name}()", name)
        arguments = tuple(self.node(argument, reach_ms) for argument in tree.args)
        if name == "label_replace" and isinstance(arguments[-1], Text):
            try:
                relabel.pattern(arguments[-1].value)
            except ValueError as error:
                place = positions.of_string(self.text, arguments[-1].value)
                raise ExpressionError(str(error), *place) from error
        return Call(FUNCTIONS[name], arguments)

    def _info(self, tree: Any, reach_ms: int) -> Node:
        given: list[Matcher] = []
        if len(tree.args) > 1:
            selector = tree.args[1]
            if not isinstance(selector, parser.VectorSelector) or selector.name is not None:
                place = positions.of_token(self.text, "info")
                raise ExpressionError("the second argument of info() is a label selector without a name", *place)
            given = [matcher for matcher in _matchers(selector) if matcher.name != source.ANY_LABELS]
        names = [matcher for matcher in given if matcher.name == NAME] or [TARGET_INFO]
        data = [matcher for matcher in given if matcher.name != NAME]
        key, _ = self._register([*names, *data], Shift(), reach_ms, LOOKBACK_MS)
        operand = self.node(tree.args[0], reach_ms)
        return Info(operand, key, self._first_shift(tree.args[0]) or Shift(), MatcherSet(names), tuple(data))

    def _first_shift(self, tree: Any) -> Shift | None:
        """The shift of the first selector in a part of the tree."""
        if isinstance(tree, parser.VectorSelector):
            return self._shift(tree)
        parts = [getattr(tree, name, None) for name in ("vector_selector", "param", "expr", "lhs", "rhs")]
        for part in [*parts, *getattr(tree, "args", ())]:
            shift = None if part is None else self._first_shift(part)
            if shift is not None:
                return shift
        return None

    def _aggregation(self, tree: Any, reach_ms: int) -> Node:
        operator = str(tree.op)
        if operator not in AGGREGATIONS:
            raise self._refuse(f"aggregation {operator}()", operator)
        parameter = None if tree.param is None else self.node(tree.param, reach_ms)
        labels: tuple[str, ...] = () if tree.modifier is None else tuple(sorted(set(tree.modifier.labels)))
        by = tree.modifier is None or tree.modifier.type == parser.AggModifierType.By
        return Aggregation(operator, self.node(tree.expr, reach_ms), parameter, labels, by)

    def _binary(self, tree: Any, reach_ms: int) -> Node:
        operator = str(tree.op)
        if operator not in OPERATORS:
            raise self._refuse(f"operator {operator}", operator)
        left, right = self.node(tree.lhs, reach_ms), self.node(tree.rhs, reach_ms)
        modifier = tree.modifier
        return_bool = modifier is not None and modifier.return_bool
        return Binary(operator, left, right, _matching(modifier), return_bool)


def _matchers(selector: Any) -> list[Matcher]:
    """The matchers in the braces of a selector."""
    return [Matcher(m.name, _MATCH_OPS[int(m.op)], m.value) for m in selector.matchers.matchers]


def _matching(modifier: Any) -> Matching:
    if modifier is None:
        return Matching()
    groups: dict[Any, Literal["left", "right"]] = {"ManyToOne": "left", "OneToMany": "right"}
    on = modifier.matching is not None and modifier.matching.type == parser.LabelModifierType.Include
    return Matching(
        labels=() if modifier.matching is None else tuple(sorted(set(modifier.matching.labels))),
        on=on,
        group=groups.get(str(modifier.card).rpartition(".")[2]),
        include=tuple(modifier.group_labels or ()),
        fill_left=None if modifier.fill_values is None else modifier.fill_values.lhs,
        fill_right=None if modifier.fill_values is None else modifier.fill_values.rhs,
    )


def _is_bad(matcher: Matcher) -> bool:
    try:
        MatcherSet([matcher])
    except ValueError:
        return True
    return False


def _reach(shift: Shift, reach_ms: int) -> int:
    if isinstance(shift.at, int):
        return UNBOUNDED_MS
    return max(0, reach_ms + shift.offset_ms)


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
