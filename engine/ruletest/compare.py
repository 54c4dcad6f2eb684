"""Compares what was expected with what came, and says the difference as a person would want to read it."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence

from engine.core.alert import format_value
from engine.core.labels import Labels
from engine.ruletest.model import CaseResult

Samples = Sequence[tuple[Labels, float]]


def labels_text(labels: Labels) -> str:
    """A label set as it is written in rules, sorted, the name in front."""
    pairs = [f"{name}={json.dumps(text, ensure_ascii=False)}" for name, text in sorted(labels.items())]
    return (
        labels.get("__name__", "") + "{" + ", ".join(pair for pair in pairs if not pair.startswith("__name__=")) + "}"
    )


def alert_text(labels: Labels, annotations: Labels, lines: Sequence[str]) -> str:
    """One alert: its labels, and below them its annotations and lines."""
    parts = [labels_text(labels)]
    parts += [f"    {name}: {json.dumps(text, ensure_ascii=False)}" for name, text in sorted(annotations.items())]
    parts += [f"    line: {line}" for line in sorted(lines)]
    return "\n".join(parts)


def sample_texts(expected: Samples, got: Samples, *, fuzzy: bool) -> tuple[list[str], list[str]]:
    """Both sides as text, with every digit. With `fuzzy`, values that differ in the last bit have the same text."""
    values = {labels_text(labels): value for labels, value in got}
    sides: tuple[list[str], list[str]] = ([], [])
    for labels, value in expected:
        there = values.get(labels_text(labels), math.nan)
        sides[0].append(_sample_text(labels, there if fuzzy and _last_bit_apart(value, there) else value))
    sides[1].extend(_sample_text(labels, value) for labels, value in got)
    return sides


def _sample_text(labels: Labels, value: float) -> str:
    return f"{labels_text(labels)} {format_value(value + 0.0)}"  # + 0.0: minus zero is zero


def _last_bit_apart(one: float, other: float) -> bool:
    return other in (math.nextafter(one, math.inf), math.nextafter(one, -math.inf))


def case_result(
    test: str,
    what: str,
    place: tuple[str, int, int],
    sides: tuple[Sequence[str], Sequence[str]],
    notes: Sequence[str] = (),
    warning: str = "",
) -> CaseResult:
    """The verdict on one expectation; order does not matter. `sides` are expected and got, `notes` are failures."""
    expected, got = sorted(sides[0]), sorted(sides[1])
    passed = expected == got and not notes
    said = [] if passed else [*notes, *([warning] if warning else []), *_difference(expected, got)]
    return CaseResult(test, what, *place, passed, expected, got, "\n".join(said), warning)


def _difference(expected: Sequence[str], got: Sequence[str]) -> list[str]:
    if expected == got:
        return []
    lines = [side and "\n".join(side).split("\n") for side in (expected, got)]
    diff = difflib.unified_diff(lines[0], lines[1], "expected", "got", lineterm="", n=100)
    return [line for line in diff if not line.startswith("@@")]
