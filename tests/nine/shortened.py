"""The shipped rules and runbooks with all their times divided, so that what takes ten minutes takes half a minute.

What is divided: intervals, `for`, the ranges and offsets in expressions and queries, SQL's intervals, stabilisation,
cooldown and reopening, and how long a connection or a query must have lasted for an action; a grace period of an hour,
and the wait for it, once more. Nothing else changes: thresholds, branches, steps, actions, parameters and time limits
are those that are shipped. A count over a range ("more than ten in
a minute") becomes the same count over the shorter one, so such a fault has to be as much worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from engine.core import duration

FACTOR = 20.0  # ten minutes become thirty seconds
_RANGE = re.compile(r"(?<=\[)(?:\d+(?:ms|[smhdwy]))+(?=[:\]])|(?<=offset )(?:\d+(?:ms|[smhdwy]))+")
_RULE_TIMES = ("interval", "for", "keep_firing_for")
_RUNBOOK_TIMES = ("cooldown", "stabilisation", "reopen")
_GRACE = ("wait", "grace_s")
_ACTION_NUMBERS = ("idle_minutes", "older_than_s")
_INTERVAL = re.compile(r"interval '(\d+) (second|minute|hour)s?'")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600}
_SHORTEST_MS = 1_000
# What is not divided takes its time: scrapes come once a second, and are seen in the alerts some two seconds later.
_SHORTEST_BY_KEY_MS = {"for": 6_000, "stabilisation": 8_000}
_SHORTEST_RANGE_MS = 4_000  # a rate over less has too few of samples that come once a second


def shorten(rules: Path, folder: Path, factor: float) -> Path:
    """Write the rule and runbook files below `rules` to `folder`, at the same relative paths; returns `folder`."""
    for file in sorted(rules.rglob("*.yml")):
        kind = file.relative_to(rules).parts[0]
        if kind in ("promql", "logql", "runbooks"):
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
            out = folder / file.relative_to(rules)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(yaml.safe_dump(shortened(found, factor), sort_keys=False, width=1000), encoding="utf-8")
    return folder


def shortened(tree: Any, factor: float) -> Any:
    """A file's content with its times divided by `factor`, to whole seconds; a range keeps four of them."""

    def divided(text: str, shortest_ms: int = _SHORTEST_MS, divisor: float = factor) -> str:
        ms = duration.parse_ms(text)
        return duration.format_ms(min(ms, max(shortest_ms, round(ms / divisor / 1_000) * 1_000)))

    def walk(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: walk(name, one) for name, one in value.items()}
        if isinstance(value, list):
            return [walk(key, one) for one in value]
        return _value(key, value, factor, divided)

    return walk("", tree)


def _value(key: str, value: Any, factor: float, divided: Callable[..., str]) -> Any:
    if key in _GRACE:
        return divided(value, divisor=factor**2) if isinstance(value, str) else value / factor**2
    if key in _ACTION_NUMBERS and isinstance(value, int | float):
        return value / factor
    if not isinstance(value, str):
        return value
    if key in (*_RULE_TIMES, *_RUNBOOK_TIMES):
        return divided(value, _SHORTEST_BY_KEY_MS.get(key, _SHORTEST_MS))
    if key in ("expr", "query", "promql", "logql"):
        ranges = _RANGE.sub(lambda found: divided(found[0], _SHORTEST_RANGE_MS), value)
        return _INTERVAL.sub(lambda found: _interval(int(found[1]) * _UNITS_S[found[2]] / factor), ranges)
    return value


def _interval(seconds: float) -> str:
    return f"interval '{seconds:g} seconds'"
