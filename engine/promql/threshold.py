"""What an alerting expression measures, and what it compares that with: `rate(x[5m]) > 0.05` is `rate(x[5m])`, >, 0.05.

Values are looked at without the comparison, which leaves only those that fire. Of `a > 1 and b` the first operand is
taken. The text is split, as the parser's tree does not know its places; both parts must be expressions by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.core.expression import ExpressionError
from engine.promql.compile import compile as compile_text
from engine.vector.values import Number

_TOKEN = re.compile(
    r"""(?P<skip>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|\#[^\n]*)
      | (?P<open>[(\[{]) | (?P<close>[)\]}])
      | (?P<comparison>==|!=|>=|<=|>|<)
      | (?P<set>\b(?:and|or|unless)\b)
      | (?P<other>\w+|.)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class Comparison:
    """`query op threshold`; without a comparison that can be seen, `op` is "" and `threshold` None."""

    query: str
    op: str = ""
    threshold: float | None = None


def comparison_of(text: str) -> Comparison:
    """What an expression measures and compares; the whole text when no comparison with a number is seen."""
    first = text
    for kind, start, _ in _outermost(text):
        if kind == "set":
            first = text[:start]
            break
    found = [(start, end) for kind, start, end in _outermost(first) if kind == "comparison"]
    if len(found) == 1:
        [(start, end)] = found
        query, number = first[:start].strip(), _number(first[end:])
        if number is not None and _compiles(query):
            return Comparison(query, first[start:end], number)
    return Comparison(text)


def _outermost(text: str) -> Iterator[tuple[str, int, int]]:
    """The operators outside of all brackets, with where they stand."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        if depth == 0 and token.lastgroup in ("comparison", "set"):
            yield token.lastgroup, token.start(), token.end()


def _number(text: str) -> float | None:
    try:
        root = compile_text(text).root
    except ExpressionError:
        return None
    return root.value if isinstance(root, Number) else None


def _compiles(text: str) -> bool:
    try:
        compile_text(text)
    except ExpressionError:
        return False
    return True
