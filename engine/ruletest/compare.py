"""Compares what was expected with what came, and says the difference as a person would want to read it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence

from engine.core.labels import Labels
from engine.ruletest.model import CaseResult

_DIGITS = 9


def labels_text(labels: Labels) -> str:
    """A label set as it is written in rules, sorted, the name in front."""
    pairs = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(labels.items()) if value]
    name = labels.get("__name__", "")
    return name + "{" + ", ".join(pair for pair in pairs if not pair.startswith("__name__=")) + "}"


def alert_text(labels: Labels, annotations: Labels, lines: Sequence[str]) -> str:
    """One alert: its labels, and below them its annotations and lines."""
    parts = [labels_text(labels)]
    parts += [f"    {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(annotations.items())]
    parts += [f"    line: {line}" for line in sorted(lines)]
    return "\n".join(parts)


def sample_text(labels: Labels, value: float) -> str:
    """One sample; values are compared to nine digits."""
    return f"{labels_text(labels)} {value:.{_DIGITS}g}"


def case_result(
    test: str, what: str, place: tuple[str, int, int], sides: tuple[Sequence[str], Sequence[str]], notes: Sequence[str]
) -> CaseResult:
    """The verdict on one expectation; order does not matter. `sides` are expected and got, `notes` are failures."""
    expected, got = sorted(sides[0]), sorted(sides[1])
    passed = expected == got and not notes
    diff = "" if passed else "\n".join([*notes, *_difference(expected, got)])
    return CaseResult(test, what, *place, passed, expected, got, diff)


def _difference(expected: Sequence[str], got: Sequence[str]) -> list[str]:
    if expected == got:
        return []
    lines = [side and "\n".join(side).split("\n") for side in (expected, got)]
    diff = difflib.unified_diff(lines[0], lines[1], "expected", "got", lineterm="", n=100)
    return [line for line in diff if not line.startswith("@@")]
