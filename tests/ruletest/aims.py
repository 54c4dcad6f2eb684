"""What the series of an expression must do so that the expression holds, or does not: read off its tree, backwards.

`x > 5` holds when x is at 15; `rate(y[5m]) / z > 0.1` when z is at 100 and y grows by 30 a second. It is a guess, made
for scenarios that are then judged by running them: what it cannot invert it leaves to chance.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace
from typing import Any

import promql_parser as parser

from engine.core.labels import Matcher, MatcherSet

BASE = 100.0
AHEAD_S = 1000.0
LATEST_S = 10 * 86_400.0
RATES = {"rate", "irate", "deriv"}
GROWTHS = {"increase", "delta", "idelta"}
OPS = ("=", "!=", "=~", "!~")
WORDS = ("0", "1", "5", "500", "404", "x", "api", "up", "true", "error", "a-b", "/data", "a.b.c", "")


@dataclass(frozen=True)
class Motion:
    """How a series moves: at `level + now * time + per_s * time in this phase`, or, without a level, growing on.

    `toggles_s` makes it jump up and down by one so often; `absent` takes it away. Of a histogram, `observed` is the
    value of all that is observed.
    """

    level: float | None = 0.0
    now: float = 0.0
    per_s: float = 0.0
    toggles_s: float = 0.0
    absent: bool = False
    observed: float = 0.0


@dataclass
class Leaf:
    """One selector of the expression: `bounds` are the buckets that a histogram needs, `range_s` its shortest range."""

    key: str
    name: str
    matchers: tuple[Matcher, ...]
    bounds: set[float] = field(default_factory=set)
    range_s: float = 0.0


@dataclass
class Shape:
    """What the tree says about data: its selectors, the labels its parts meet on, how many series are counted."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    constants: list[float] = field(default_factory=list)
    entities: int = 2
    reach_s: float = 0.0
    by_clock: bool = False

    @property
    def clock_s(self) -> float:
        """How late it has to be before something can be as long ago as the expression says."""
        ages = [*self.constants, *(one * other for one in self.constants for other in self.constants)]
        return max([age for age in ages if age <= LATEST_S] or [0.0]) if self.by_clock else 0.0


def shape_of(tree: Any) -> Shape:
    """Gather it from a tree."""
    shape = Shape()
    _gather(tree, shape, 0.0)
    return shape


def _gather(tree: Any, shape: Shape, range_s: float) -> None:
    match tree:
        case parser.NumberLiteral():
            shape.constants.append(tree.val)
        case parser.BinaryExpr() if (number := constant(tree)) is not None:
            shape.constants.append(number)
        case parser.VectorSelector():
            key = key_of(tree)
            leaf = shape.leaves.setdefault(key, Leaf(key, tree.name or "", matchers_of(tree)))
            leaf.range_s = min(filter(None, (leaf.range_s, range_s)), default=0.0)
            shape.reach_s = max(shape.reach_s, range_s + (tree.offset.total_seconds() if tree.offset else 0.0))
        case parser.MatrixSelector():
            _gather(tree.vector_selector, shape, tree.range.total_seconds())
        case parser.SubqueryExpr():
            shape.reach_s = max(shape.reach_s, tree.range.total_seconds())
            _gather(tree.expr, shape, range_s)
        case parser.AggregateExpr():
            if tree.modifier is not None:
                shape.labels.update(tree.modifier.labels)
            _gather(tree.expr, shape, range_s)
        case parser.BinaryExpr():
            if tree.modifier is not None and tree.modifier.matching is not None:
                shape.labels.update(tree.modifier.matching.labels)
            if str(tree.lhs).startswith("count") and (wanted := constant(tree.rhs)) is not None:
                shape.entities = max(shape.entities, min(12, int(wanted) + 2))
            _gather(tree.lhs, shape, range_s)
            _gather(tree.rhs, shape, range_s)
        case _:
            shape.by_clock = shape.by_clock or _is_time(tree)
            for part in (*getattr(tree, "args", ()), *([tree.expr] if hasattr(tree, "expr") else [])):
                _gather(part, shape, range_s)


def key_of(tree: Any) -> str:
    """A selector's name for itself: its metric and matchers, sorted."""
    return f"{tree.name}{sorted(map(str, matchers_of(tree)))}"


def matchers_of(tree: Any) -> tuple[Matcher, ...]:
    """The matchers of a selector, without its name."""
    return tuple(Matcher(m.name, OPS[int(m.op)], m.value) for m in tree.matchers.matchers)


def constant(tree: Any) -> float | None:
    """The value of a part that is made of numbers alone."""
    match tree:
        case parser.NumberLiteral():
            return float(tree.val)
        case parser.ParenExpr():
            return constant(tree.expr)
        case parser.UnaryExpr():
            inner = constant(tree.expr)
            return None if inner is None else -inner
        case parser.BinaryExpr():
            left, right = constant(tree.lhs), constant(tree.rhs)
            if left is None or right is None:
                return None
            known = {
                "+": float.__add__,
                "-": float.__sub__,
                "*": float.__mul__,
                "/": float.__truediv__,
                "^": float.__pow__,
            }
            return known[str(tree.op)](left, right) if str(tree.op) in known else None
    return None


class Aims:
    """Works out motions by selector. `draw` decides where there is a choice."""

    def __init__(self, shape: Shape, draw: random.Random) -> None:
        self.shape = shape
        self.draw = draw
        self.motions: dict[str, Motion] = {}

    def satisfy(self, tree: Any, truth: bool) -> None:
        """Have the expression give a result, or none."""
        match tree:
            case parser.ParenExpr():
                self.satisfy(tree.expr, truth)
            case parser.BinaryExpr():
                self._satisfy_binary(tree, str(tree.op), truth)
            case parser.Call() if tree.func.name.startswith("absent"):
                for leaf in shape_of(tree).leaves:
                    self.motions[leaf] = Motion(1.0, absent=truth)
            case parser.AggregateExpr() | parser.Call() | parser.UnaryExpr():
                for part in (*getattr(tree, "args", ()), *([tree.expr] if hasattr(tree, "expr") else [])):
                    self.satisfy(part, truth)
            case parser.VectorSelector():
                self.motions[key_of(tree)] = Motion(1.0, absent=not truth)

    def _satisfy_binary(self, tree: Any, operator: str, truth: bool) -> None:
        match operator:
            case "and" | "*" | "/" | "+" | "-":
                self.satisfy(tree.rhs, True)
                self.satisfy(tree.lhs, truth)
            case "or":
                chosen, other = (tree.lhs, tree.rhs) if self.draw.random() < 0.5 else (tree.rhs, tree.lhs)
                self.satisfy(other, False)
                self.satisfy(chosen, truth)
            case "unless":
                self.satisfy(tree.rhs, False)
                self.satisfy(tree.lhs, truth)
            case _:
                self._compare(tree, operator, truth)

    def _compare(self, tree: Any, operator: str, truth: bool) -> None:
        left, right, mirror = tree.lhs, tree.rhs, {">": "<", "<": ">", ">=": "<=", "<=": ">="}
        if constant(left) is not None:
            left, right, operator = right, left, mirror.get(operator, operator)
        bound = constant(right)
        if bound is None:
            bound = BASE
            self.reach(right, bound)
        if operator in ("==", "!="):
            self.reach(left, bound if truth == (operator == "==") else bound + 1)
        else:
            self.reach(left, _above(bound) if truth == (operator[0] == ">") else _below(bound))

    def reach(self, tree: Any, value: float, now: float = 0.0) -> None:
        """Have the expression be at `value + now * time`."""
        match tree:
            case parser.ParenExpr():
                self.reach(tree.expr, value, now)
            case parser.UnaryExpr():
                self.reach(tree.expr, -value, -now)
            case parser.VectorSelector():
                self.motions[key_of(tree)] = Motion(value, now)
            case parser.AggregateExpr():
                shares = 2.0 if str(tree.op) == "sum" else 1.0
                self.reach(tree.expr, value / shares, now / shares)
            case parser.SubqueryExpr():
                self.reach(tree.expr, value, now)
            case parser.Call():
                self._reach_call(tree, tree.func.name, value, now)
            case parser.BinaryExpr():
                self._reach_binary(tree, str(tree.op), value, now)

    def _reach_call(self, tree: Any, name: str, value: float, now: float) -> None:
        if name == "histogram_quantile":
            for key in shape_of(tree.args[1]).leaves:
                self.shape.leaves[key].bounds.update({value / 2, value, value * 2})
                self.motions[key] = Motion(None, per_s=10.0, observed=value)
        elif name in ("absent", "absent_over_time"):
            self.satisfy(tree, value > 0)
        elif name == "predict_linear":
            ahead_s = constant(tree.args[1]) or AHEAD_S
            self.motions[_only(tree)] = Motion(AHEAD_S, per_s=(value - AHEAD_S) / ahead_s)
        elif name in ("changes", "resets"):
            range_s = shape_of(tree).reach_s
            self.motions[_only(tree)] = Motion(1.0, toggles_s=range_s / (2 * value + 2) if value > 0 else 0.0)
        elif name in RATES | GROWTHS:
            per_s = value / (shape_of(tree).reach_s if name in GROWTHS else 1.0)
            self.motions[_only(tree)] = Motion(None, per_s=per_s)
        elif tree.args:
            self.reach(tree.args[0 if name != "quantile_over_time" else 1], value, now)

    def _reach_binary(self, tree: Any, operator: str, value: float, now: float) -> None:
        left, right = constant(tree.lhs), constant(tree.rhs)
        if operator == "and":
            self.satisfy(tree.rhs, True)
            self.reach(tree.lhs, value, now)
        elif operator in (">", "<", ">=", "<=", "==", "!=", "or", "unless"):
            self.satisfy(tree, value > 0)
        elif right is not None:
            scaled = _left_of(operator, right, now) if operator in "*/" else now
            self.reach(tree.lhs, _left_of(operator, right, value), scaled)
        elif _is_time(tree.lhs) or left is not None:
            given, given_now = (left, 0.0) if left is not None else (0.0, 1.0)
            if operator == "-":
                self.reach(tree.rhs, given - value, given_now - now)
            else:
                self.reach(tree.rhs, _right_of(operator, given or 1.0, value), 0.0)
        elif _is_time(tree.rhs):
            self.reach(tree.lhs, value, now + 1.0)
        else:
            self.reach(tree.rhs, BASE)
            self.reach(tree.lhs, _left_of(operator, BASE, value), now)

    def by_chance(self) -> None:
        """Give some selectors another motion, near the expression's own numbers."""
        numbers = [0.0, 1.0, BASE, *self.shape.constants]
        for key, leaf in self.shape.leaves.items():
            if key in self.motions and self.draw.random() < 0.5:
                continue
            value = self.draw.choice(numbers) * self.draw.choice((0.5, 1.0, 1.0, 1.1, 2.0))
            motion = Motion(value) if not leaf.range_s or self.draw.random() < 0.4 else Motion(None, per_s=value)
            self.motions[key] = replace(motion, toggles_s=self.draw.choice((0.0, 0.0, 0.0, 60.0)))


def _above(bound: float) -> float:
    return bound * 3 if bound > 0 else bound / 3 + (bound == 0)


def _below(bound: float) -> float:
    return bound / 3 if bound > 0 else bound * 3 - (bound == 0)


def _left_of(operator: str, right: float, value: float) -> float:
    """The left operand that makes a value with this right one."""
    return {"+": value - right, "-": value + right, "*": value / right if right else 0.0, "/": value * right}.get(
        operator, value
    )


def _right_of(operator: str, left: float, value: float) -> float:
    return {"+": value - left, "*": value / left, "/": left / value if value else BASE}.get(operator, value)


def _is_time(tree: Any) -> bool:
    return isinstance(tree, parser.Call) and tree.func.name == "time"


def _only(tree: Any) -> str:
    return next(iter(shape_of(tree).leaves), "")


def label_value(name: str, matchers: list[Matcher], fallback: str) -> str:
    """A value of a label that all its matchers take, if one is found: whatever is loaded, the rule must not mind."""
    patterns = [m.value for m in matchers if m.op == "=~"]
    firsts = [re.sub(r"\((?:\?:)?([^()|]*)(?:\|[^()]*)?\)", r"\1", pattern) for pattern in patterns]
    parts = [part for pattern in (*firsts, *patterns) for part in pattern.strip("^$()").split("|")]
    texts = [part.replace(".*", "").replace(".+", "x").replace("\\", "") for part in parts]
    digits = [text.replace("..", "00").replace(".", "5") for text in texts]
    for candidate in (*[m.value for m in matchers if m.op == "="], *texts, *digits, fallback, *WORDS):
        if MatcherSet(matchers)({name: candidate}):
            return candidate
    return fallback
