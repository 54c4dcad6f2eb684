"""From the tree of a LogQL expression to nodes that evaluate themselves: the semantic pass.

Here is decided what a log selector delivers: `sum by (user) (count_over_time(...))` needs only the label `user` of
each line, so that grouping moves into the pipeline and the parsers look for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.core.expression import Selector
from engine.core.labels import Matcher, MatcherSet
from engine.logql import tree as t
from engine.logql.evaluate import (
    AbsentNode,
    LabelReplaceNode,
    LogQLExpression,
    LogRange,
    OrderKept,
    RangeNode,
    SortNode,
    VectorNode,
    ZeroIsNaN,
)
from engine.logql.joint import join
from engine.logql.parse import parse
from engine.logql.pipeline import Pipeline
from engine.logql.templates import line_format
from engine.logql.window import LogWindow
from engine.vector import relabel
from engine.vector.aggregations import Aggregation
from engine.vector.binary import SET_OPERATORS, Binary, Matching
from engine.vector.values import Context, Node, Number, scalar_value

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COUNTING = {"count_over_time", "bytes_over_time", "bytes_rate"}
_UNWRAPPED = {
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "first_over_time",
    "last_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "quantile_over_time",
    "rate_counter",
}
_GROUPABLE = _UNWRAPPED - {"sum_over_time", "rate_counter"}
_ADDITIVE = {"count_over_time", "rate", "bytes_over_time", "bytes_rate", "sum_over_time"}
_CHOOSING = {"topk", "bottomk", "approx_topk"}
_SORTING = {"sort", "sort_desc"}


def compile(text: str, *, strict: bool = False) -> LogQLExpression:  # noqa: A001  # the name of the contract
    """Compile a metric query; as a rule, or `strict`, as Loki answers queries.

    A strict query fails over lines that fail in its pipeline, and may look ahead (a negative offset). Raises
    `ExpressionError`.
    """
    tree = parse(text)
    if isinstance(tree, t.LogQuery):
        raise tree.place.refuse("a rule needs a metric query: put this log query into count_over_time(... [5m])")
    compiler = _Compiler(strict=strict)
    root = compiler.node(tree)
    return LogQLExpression(
        text, tuple(compiler.selectors.values()), root, tuple(compiler.ranges), strict, compiler.instant_only
    )


class _Compiler:
    """Compiles the tree of one text and gathers its selectors by key."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.selectors: dict[str, Selector] = {}
        self.ranges: list[LogRange] = []
        self.instant_only = ""

    def node(self, tree: t.Expr) -> Node:
        """The node for a part of the tree."""
        if isinstance(tree, t.Number):
            return Number(tree.value)
        if isinstance(tree, t.VectorLiteral):
            return VectorNode(tree.value)
        if isinstance(tree, t.RangeAggregation):
            return self._range(tree, tree.grouping)
        if isinstance(tree, t.VectorAggregation):
            return self._aggregation(tree)
        if isinstance(tree, t.BinaryOperation):
            return self._binary(tree)
        return self._label_replace(tree)

    def _range(self, tree: t.RangeAggregation, grouping: t.Grouping | None) -> Node:
        _check_range(tree)
        if tree.op == "absent_over_time":  # which lines there are matters, and no label of them
            lines = self._selector(tree, t.Grouping(True, (), tree.place))
            return AbsentNode(lines, tree.range.query.matchers)
        lines = self._selector(tree, grouping)
        return RangeNode(tree.op, lines, tree.parameter or 0.0)

    def _selector(self, tree: t.RangeAggregation, grouping: t.Grouping | None) -> LogRange:
        query = tree.range.query
        matches = matcher_set(query)
        counts_bytes = tree.op in ("bytes_over_time", "bytes_rate")
        stages = query.stages if counts_bytes else _without_idle_formats(query.stages)
        extract = Pipeline(stages, counts_bytes=counts_bytes, grouping=grouping)
        what = "bytes of " if counts_bytes else ""
        how = "" if grouping is None else f" {'by' if grouping.by else 'without'} ({', '.join(grouping.labels)})"
        key = f"logs {what}{query.text}{how}"
        offset_ms = tree.range.offset_ms
        if offset_ms < 0 and not self._strict:
            raise tree.range.place.refuse("a negative offset looks into the future, which has not arrived yet")
        range_ms, reach_ms = tree.range.range_ms, tree.range.range_ms + max(0, offset_ms)
        known = self.selectors.get(key)
        if known is not None:
            range_ms, reach_ms = max(range_ms, known.range_ms), max(reach_ms, known.reach_ms)
        self.selectors[key] = Selector("logs", key, matches, reach_ms, LogWindow, extract, range_ms, join)
        lines = LogRange(key, tree.range.range_ms, tree.range.offset_ms)
        self.ranges.append(lines)
        return lines

    def _aggregation(self, tree: t.VectorAggregation) -> Node:
        _check_aggregation(tree)
        operand = tree.operand
        grouping = tree.grouping or t.Grouping(True, (), tree.place)
        if tree.op in _SORTING:
            return SortNode(self.node(operand), tree.op == "sort_desc")
        if tree.op == "sum" and grouping.by and isinstance(operand, t.RangeAggregation) and operand.op in _ADDITIVE:
            # The sums of sums are sums: the lines can be grouped at once, and a group's sum is the series itself.
            return self._range(operand, grouping)
        parameter = None if tree.parameter is None else Number(tree.parameter)
        operator = tree.op.removeprefix("approx_")
        if tree.op == "approx_topk":
            self.instant_only = "approx_topk is only supported on instant queries"
        return Aggregation(operator, self.node(operand), parameter, tuple(sorted(grouping.labels)), grouping.by)

    def _binary(self, tree: t.BinaryOperation) -> Node:
        left, right = self.node(tree.left), self.node(tree.right)
        scalars = isinstance(left, Number), isinstance(right, Number)
        if tree.op in SET_OPERATORS:
            if any(scalars):
                leg = "left" if scalars[0] else "right"
                raise tree.place.refuse(
                    f"unexpected literal for {leg} leg of logical/set binary operation ({tree.op}): it joins two "
                    "vectors (use vector(...))"
                )
            if tree.group:
                raise tree.place.refuse(f"group_{tree.group} is not allowed with {tree.op}")
        if any(scalars) and (tree.on or tree.labels or tree.group):
            raise tree.place.refuse("on, ignoring and group_... join two vectors, but one side is a number")
        matching = Matching(tuple(sorted(tree.labels)), tree.on, tree.group, tree.include)
        operand = right if scalars[0] else left if scalars[1] else None
        if tree.op == "/":
            right = ZeroIsNaN(right)
        operation = Binary(tree.op, left, right, matching, tree.return_bool)
        if all(scalars):
            return Number(scalar_value(operation.evaluate(Context({}, 0, 0, 0))))
        return OrderKept(operation, operand) if isinstance(operand, SortNode | OrderKept) else operation

    def _label_replace(self, tree: t.LabelReplace) -> Node:
        try:
            relabel.pattern(tree.expression)
        except ValueError as error:
            raise tree.place.refuse(f"invalid regex in label_replace: error parsing regexp: {error}") from error
        if not _LABEL.fullmatch(tree.target):
            raise tree.place.refuse(f"invalid label name in label_replace: {tree.target!r}")
        return LabelReplaceNode(self.node(tree.operand), tree.target, tree.template, tree.source, tree.expression)


def matcher_set(query: t.LogQuery) -> MatcherSet:
    """Which streams a query reads. Raises `ExpressionError` if that could be all there are."""
    try:
        matches = MatcherSet(query.matchers)
    except ValueError as error:
        raise query.place.refuse(str(error)) from error
    if not any(_needs_something(matcher) for matcher in query.matchers):
        raise query.place.refuse(
            "queries require at least one regexp or equality matcher that does not have an empty-compatible value, "
            'such as {job="api"} or {job=~".+"}'
        )
    return matches


def _needs_something(matcher: Matcher) -> bool:
    return not MatcherSet([matcher])({}) and matcher.op in ("=", "=~")


def _without_idle_formats(stages: Sequence[t.Stage]) -> list[t.Stage]:
    """The stages but for each `line_format` whose line nobody looks at: as in Loki it is not run, and cannot fail.

    Raises `ExpressionError` for a template that is none.
    """
    kept: list[t.Stage] = []
    for index, stage in enumerate(stages):
        if isinstance(stage, t.LineFormat):
            line_format(stage)
            if not any(isinstance(later, t.LineFilter | t.Parser) for later in stages[index + 1 :]):
                continue
        kept.append(stage)
    return kept


def _check_range(tree: t.RangeAggregation) -> None:
    unwraps = [stage for stage in tree.range.query.stages if isinstance(stage, t.Unwrap)]
    if len(unwraps) > 1:
        raise unwraps[1].place.refuse("a pipeline unwraps only once")
    after = False
    for stage in tree.range.query.stages:
        if after and not isinstance(stage, t.LabelFilter):
            raise stage.place.refuse("after unwrap only label filters may stand")
        after = after or isinstance(stage, t.Unwrap)
    if unwraps and tree.op in _COUNTING:
        raise tree.place.refuse(f"invalid aggregation {tree.op} with unwrap: it counts lines")
    if not unwraps and tree.op in _UNWRAPPED:
        raise tree.place.refuse(f"invalid aggregation {tree.op} without unwrap: say which label holds the number")
    if tree.grouping is not None and tree.op not in _GROUPABLE:
        raise tree.grouping.place.refuse(f"grouping not allowed for {tree.op} aggregation; group with sum by (...)")
    if tree.op == "quantile_over_time" and tree.parameter is None:
        raise tree.place.refuse("parameter required for operation quantile_over_time")
    if tree.op != "quantile_over_time" and tree.parameter is not None:
        raise tree.place.refuse(f"parameter {tree.parameter:g} not supported for operation {tree.op}")


def _check_aggregation(tree: t.VectorAggregation) -> None:
    if tree.op in _CHOOSING:
        if tree.parameter is None:
            raise tree.place.refuse(f"parameter required for operation {tree.op}")
        if tree.parameter != int(tree.parameter) or tree.parameter <= 0:
            raise tree.place.refuse(f"invalid parameter {tree.op}({tree.parameter:g}, ...): a whole number above 0")
    elif tree.parameter is not None:
        raise tree.place.refuse(f"unsupported parameter for operation {tree.op}({tree.parameter:g}, ...)")
    if tree.grouping is not None and (tree.op in _SORTING or tree.op == "approx_topk"):
        raise tree.grouping.place.refuse(f"grouping not allowed for {tree.op} aggregation")
