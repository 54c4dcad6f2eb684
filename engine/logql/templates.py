"""The stages `line_format` and `label_format`: Go templates over the labels of a line.

A template that fails on a line marks it with `TemplateFormatErr` and leaves line or label as it was. What a template
calls `now` is the line's own time, so that a replay gives the same text.
"""

from __future__ import annotations

from functools import lru_cache

from engine.core.expression import ExpressionError
from engine.core.gotemplate.loki import LineTemplate, compile_line_template
from engine.core.gotemplate.values import TemplateError
from engine.logql import tree as t
from engine.logql.line import DETAILS, ERROR, Line, Stage

ERROR_KIND = "TemplateFormatErr"
_NS_PER_MS = 1_000_000


@lru_cache(maxsize=1024)
def _compiled(source: str) -> LineTemplate:
    return compile_line_template(source)


def _template(source: str, place: t.Place) -> LineTemplate:
    try:
        return _compiled(source)
    except ExpressionError as error:
        raise place.refuse(f"invalid template: {error.message} (line {error.line}, column {error.column})") from error


def labels_read(node: t.LineFormat | t.LabelFormat) -> frozenset[str] | None:
    """The labels that a format stage reads; None if it may read any. Raises `ExpressionError`."""
    if isinstance(node, t.LineFormat):
        return _template(node.template, node.place).labels
    names: frozenset[str] = frozenset()
    for _, source, is_template in node.assignments:
        own = _template(source, node.place).labels if is_template else frozenset({source})
        if own is None:
            return None
        names |= own
    return names


def line_format(node: t.LineFormat) -> Stage:
    """The stage of `line_format`. Raises `ExpressionError`."""
    template = _template(node.template, node.place)

    def stage(line: Line) -> bool:
        text = _expand(template, line, line.labels)
        if text is not None:
            line.text = text
        return True

    return stage


def label_format(node: t.LabelFormat) -> Stage:
    """The stage of `label_format`: renames and templates in the order written; all templates see the labels as they
    were when the first one was reached. Raises `ExpressionError`."""
    targets = [target for target, _, _ in node.assignments]
    for target in targets:
        if target in (ERROR, DETAILS):
            raise node.place.refuse(f"{target} cannot be formatted")
        if targets.count(target) > 1:
            raise node.place.refuse(f"multiple label name {target!r} not allowed in a single format operation")
    steps = [
        (target, source, _template(source, node.place) if is_template else None)
        for target, source, is_template in node.assignments
    ]

    def stage(line: Line) -> bool:
        seen: dict[str, str] = {}
        for target, source, template in steps:
            if template is None:
                value = line.labels.get(source)
                if value is not None:
                    line.labels[target] = value
                    del line.labels[source]
            else:
                seen = seen or dict(line.labels)
                value = _expand(template, line, seen)
                if value is not None:
                    line.labels[target] = value
        return True

    return stage


def _expand(template: LineTemplate, line: Line, labels: dict[str, str]) -> str | None:
    try:
        return template.execute(labels, line.text, line.t_ns, line.t_ns // _NS_PER_MS)
    except TemplateError as error:
        line.fail(ERROR_KIND, str(error))
        return None
