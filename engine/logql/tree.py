"""The parts of a LogQL expression, as the parser builds them and the compiler reads them: plain data with places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from engine.core.expression import ExpressionError
from engine.core.labels import Matcher

FilterOp = Literal["|=", "!=", "|~", "!~", "|>", "!>"]
CompareOp = Literal["=", "==", "!=", "=~", "!~", ">", ">=", "<", "<="]
ValueKind = Literal["string", "number", "duration", "bytes", "ip"]


class Place(NamedTuple):
    """Where something stands in the expression's text; both count from 1."""

    line: int
    column: int

    def refuse(self, message: str) -> ExpressionError:
        """The error to raise for what stands here."""
        return ExpressionError(message, self.line, self.column)


@dataclass(frozen=True, slots=True)
class LineFilter:
    """`|= "a" or ip("10.0.0.0/8")`: `values` pairs each text with whether it stands in `ip()`."""

    op: FilterOp
    values: tuple[tuple[str, bool], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Parser:
    """`json`, `logfmt`, `regexp`, `pattern` or `unpack`.

    `extractions` pairs labels with the expressions they come from (the label itself if none is written); `argument` is
    the expression of `regexp` and `pattern`.
    """

    kind: Literal["json", "logfmt", "regexp", "pattern", "unpack"]
    flags: tuple[str, ...]
    extractions: tuple[tuple[str, str], ...]
    argument: str
    place: Place


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a label filter. `value` is text for strings and addresses, else a number in base units."""

    name: str
    op: CompareOp
    value: str | float
    kind: ValueKind
    place: Place


@dataclass(frozen=True, slots=True)
class Both:
    """Two conditions joined by `and` or `or`."""

    op: Literal["and", "or"]
    left: Condition
    right: Condition


Condition = Compare | Both


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """`| level="error" and took > 10ms`."""

    condition: Condition
    place: Place


@dataclass(frozen=True, slots=True)
class Decolorize:
    """`| decolorize`."""

    place: Place


@dataclass(frozen=True, slots=True)
class LineFormat:
    """`| line_format "{{.user}}"`."""

    template: str
    place: Place


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """`| label_format new=old, other="{{.user}}"`: (label, source, whether the source is a template)."""

    assignments: tuple[tuple[str, str, bool], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Selection:
    """`| drop a, b="x"` or `| keep a`: names, each perhaps with a condition."""

    kind: Literal["drop", "keep"]
    picks: tuple[tuple[str, Matcher | None], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Unwrap:
    """`| unwrap duration(took)`; `conversion` is empty for plain numbers."""

    label: str
    conversion: str
    place: Place


Stage = LineFilter | Parser | LabelFilter | Decolorize | LineFormat | LabelFormat | Selection | Unwrap


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A stream selector and its pipeline; `text` is its own text, blanks squeezed."""

    matchers: tuple[Matcher, ...]
    stages: tuple[Stage, ...]
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class LogRange:
    """A log query over a range that ends `offset_ms` before the evaluation time; `place` is that of the offset."""

    query: LogQuery
    range_ms: int
    offset_ms: int
    place: Place


@dataclass(frozen=True, slots=True)
class Grouping:
    """`by (labels)` or `without (labels)`."""

    by: bool
    labels: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class RangeAggregation:
    """`rate({...} [1m])` and its kin."""

    op: str
    parameter: float | None
    range: LogRange
    grouping: Grouping | None
    place: Place


@dataclass(frozen=True, slots=True)
class VectorAggregation:
    """`sum by (job) (...)` and its kin."""

    op: str
    parameter: float | None
    operand: Expr
    grouping: Grouping | None
    place: Place


@dataclass(frozen=True, slots=True)
class BinaryOperation:
    """`left op right`; `labels` are those of `on` or `ignoring`, `include` those of `group_left` or `group_right`."""

    op: str
    left: Expr
    right: Expr
    return_bool: bool
    on: bool
    labels: tuple[str, ...]
    group: Literal["left", "right"] | None
    include: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class VectorLiteral:
    """`vector(1)`."""

    value: float


@dataclass(frozen=True, slots=True)
class LabelReplace:
    """`label_replace(operand, target, template, source, expression)`."""

    operand: Expr
    target: str
    template: str
    source: str
    expression: str
    place: Place


Expr = RangeAggregation | VectorAggregation | BinaryOperation | Number | VectorLiteral | LabelReplace
