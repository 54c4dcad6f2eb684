"""The stages that change a line or its labels but parse nothing: decolorize, drop, keep, unwrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import re2

from engine.logql import conditions, units
from engine.logql import tree as t
from engine.logql.line import DETAILS, ERROR, Line, Stage

_COLOR = re2.compile(
    "[\x1b\x9b][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z\\d]*(?:;[a-zA-Z\\d]*)*)?\x07)"
    "|(?:(?:\\d{1,4}(?:;\\d{0,4})*)?[\\dA-PRZcf-ntqry=><~]))"
)
_CONVERSIONS: Mapping[str, Callable[[str], float]] = {
    "": units.number,
    "duration": units.duration_s,
    "duration_seconds": units.duration_s,
    "bytes": units.size_bytes,
}


def decolorize(line: Line) -> bool:
    """The stage of `decolorize`: terminal colours are taken out of the line."""
    if "\x1b" in line.text or "\x9b" in line.text:
        line.text = _COLOR.sub("", line.text)
    return True


def selection(node: t.Selection) -> Stage:
    """The stage of `drop` or `keep`. `keep` does not touch `__error__`. Raises `ExpressionError`."""
    tests: dict[str, list[Callable[[str], bool]]] = {}
    for name, matcher in node.picks:
        test = _always if matcher is None else conditions.matcher_test(matcher, node.place)
        tests.setdefault(name, []).append(test)
    dropping = node.kind == "drop"

    def stage(line: Line) -> bool:
        for name, value in list(line.labels.items()):
            picked = any(test(value) for test in tests.get(name, ()))
            if picked == dropping and (dropping or name not in (ERROR, DETAILS)):
                line.labels.pop(name, None)
                if name == ERROR:
                    line.error = ""
                    line.labels.pop(DETAILS, None)
        return True

    return stage


def _always(_: str) -> bool:
    return True


def unwrap(node: t.Unwrap) -> Stage:
    """The stage of `unwrap`: a line without the label, or with an empty one, does not count."""
    name, convert = node.label, _CONVERSIONS[node.conversion]

    def stage(line: Line) -> bool:
        text = line.labels.get(name)
        if not text:
            return False
        try:
            line.value = convert(text)
        except ValueError as error:
            line.fail("SampleExtractionErr", str(error))
        return True

    return stage
