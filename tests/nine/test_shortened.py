"""Shortening divides times and leaves everything else as it is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.loading import load
from tests.nine.shortened import FACTOR, shorten, shortened
from tests.nine.world import ROOT

RULES = ROOT / "rules"


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"for": "10m"}, {"for": "30s"}),
        ({"for": "1m"}, {"for": "6s"}),  # no shorter: what is not divided takes its time
        ({"interval": "15s"}, {"interval": "1s"}),
        ({"expr": "rate(a[5m]) > 10 and b offset 10m"}, {"expr": "rate(a[15s]) > 10 and b offset 30s"}),
        ({"expr": "rate(a[1m])"}, {"expr": "rate(a[4s])"}),
        ({"query": "where t < now() - interval '10 minutes'"}, {"query": "where t < now() - interval '30 seconds'"}),
        ({"limits": {"cooldown": "10m", "budget_per_hour": 5}}, {"limits": {"cooldown": "30s", "budget_per_hour": 5}}),
        ({"idle_minutes": 10, "max_count": 50}, {"idle_minutes": 0.5, "max_count": 50}),
        ({"wait": "1h", "grace_s": 3600}, {"wait": "9s", "grace_s": 9.0}),
        ({"expires": "15m", "timeout": "5s", "within_s": 300}, {"expires": "15m", "timeout": "5s", "within_s": 300}),
        ({"because": "idle for 10m"}, {"because": "idle for 10m"}),
    ],
)
def test_times_are_divided_and_nothing_else(tree: Any, expected: Any) -> None:
    assert shortened(tree, FACTOR) == expected


def test_the_shipped_files_are_still_good_and_have_the_same_rules_runbooks_and_steps(tmp_path: Path) -> None:
    ours = load([shorten(RULES, tmp_path, FACTOR)])
    shipped = load([RULES])
    assert ours.errors == []
    assert [(one.name, [step.name for step in one.steps]) for one in ours.runbooks] == [
        (one.name, [step.name for step in one.steps]) for one in shipped.runbooks
    ]
    for file in tmp_path.rglob("*.yml"):
        same = yaml.safe_load((RULES / file.relative_to(tmp_path)).read_text(encoding="utf-8"))
        assert _keys(yaml.safe_load(file.read_text(encoding="utf-8"))) == _keys(same), file


def _keys(tree: Any) -> Any:
    """The shape of a file: its keys, and its lists' lengths."""
    if isinstance(tree, dict):
        return {key: _keys(value) for key, value in tree.items()}
    return [_keys(one) for one in tree] if isinstance(tree, list) else None
