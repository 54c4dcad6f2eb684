"""Functions that change labels or order: `label_replace`, `label_join`, `sort`, and the labels of `absent`."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import re2

from engine.core.expression import EvaluationError
from engine.core.labels import Labels, Matcher
from engine.core.series import NAME, sort_key
from engine.vector import names
from engine.vector.values import InstantVector, unique

_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)
_NUMBER = re.compile(r"0|[1-9]\d*", re.ASCII)
_DIGITS = re.compile(r"(\d+)")


def _with_label(labels: Labels, name: str, value: str) -> Labels:
    result = {n: v for n, v in labels.items() if n != name}
    if value:
        result[name] = value
    return result


def require_label_name(name: str, role: str, function: str) -> None:
    """Raises `EvaluationError` for what cannot be a label's name; `role` and `function` say whose."""
    if not name:
        raise EvaluationError(f"invalid {role} label name in {function}(): {name}")


@lru_cache(maxsize=256)
def pattern(expression: str) -> re2._Regexp:
    """The regular expression of `label_replace`, compiled. Raises `ValueError` if it is malformed."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(f"^(?s:{expression})$", options)
    except re2.error as error:
        raise ValueError(f"bad regular expression {expression!r}: {error}") from error


def expand(template: str, match: re2._Match) -> str:
    """Go's `Regexp.Expand`: `$1`, `${name}`, `$$`; what does not exist is empty."""

    def value(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match.group(int(name) if _NUMBER.fullmatch(name) else name) or ""
        except (IndexError, KeyError):
            return ""

    return _REFERENCE.sub(value, template)


def label_replace(vector: InstantVector, target: str, template: str, source: str, expression: str) -> InstantVector:
    """Set a label from a template where a regular expression matches the whole of another label."""
    require_label_name(target, "destination", "label_replace")
    whole = pattern(expression)

    def change(labels: Labels) -> Labels:
        match = whole.fullmatch(labels.get(source, ""))
        return labels if match is None else _with_label(labels, target, expand(template, match))

    return _relabelled(vector, target, ("label_replace", target, template, source, expression), change)


def label_join(vector: InstantVector, target: str, separator: str, sources: Sequence[str]) -> InstantVector:
    """Set a label to the values of others, joined."""
    require_label_name(target, "destination", "label_join")
    for source in sources:
        require_label_name(source, "source", "label_join")

    def change(labels: Labels) -> Labels:
        return _with_label(labels, target, separator.join(labels.get(name, "") for name in sources))

    return _relabelled(vector, target, ("label_join", target, separator, tuple(sources)), change)


def _relabelled(vector: InstantVector, target: str, key: Hashable, change: Callable[[Labels], Labels]) -> InstantVector:
    series = vector.series.mapped(key, change)
    if target == NAME:
        series = names.renamed(vector.series, series)
    return unique(InstantVector(series, vector.values, vector.present))


def ordered_by_value(vector: InstantVector, *, descending: bool) -> InstantVector:
    """The elements sorted by value, NaN last either way."""
    rows = vector.series.ordered(np.flatnonzero(vector.present))
    values = vector.values[rows] * (-1.0 if descending else 1.0)
    order = rows[np.lexsort((values, np.isnan(values)))]
    return InstantVector(vector.series, vector.values, vector.present, order)


def ordered_by_labels(vector: InstantVector, by: Sequence[str], *, descending: bool) -> InstantVector:
    """The elements sorted by the values of some labels, numbers in them as numbers, then by all labels."""
    labels = vector.series.labels
    rows = sorted(
        np.flatnonzero(vector.present).tolist(),
        key=lambda row: ([_natural(labels[row].get(name, "")) for name in by], sort_key(labels[row])),
        reverse=descending,
    )
    return InstantVector(vector.series, vector.values, vector.present, np.array(rows, dtype=np.intp))


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _DIGITS.split(text) if part]


def absent_labels(matchers: Iterable[Matcher]) -> Labels:
    """The labels that `absent` gives to the missing series: those that the selector pins to one value."""
    result: Labels = {}
    seen: set[str] = set()
    for matcher in matchers:
        if matcher.name == NAME:
            continue
        if matcher.op == "=" and matcher.name not in seen:
            result[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            result.pop(matcher.name, None)
    return {name: value for name, value in result.items() if value}
