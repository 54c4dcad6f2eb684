"""The real runbooks and the real actions' declarations, and alerts to try them with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.actions import load_actions
from engine.core.labels import fingerprint
from engine.core.messages import Outcome, Transition
from engine.response.runbook import read_runbooks
from engine.response.runbook_escalation import Defaults, with_defaults
from engine.response.steps import Actions, Runbook

START_MS = 1_800_000_000_000
SHIPPED = Path(__file__).parents[2] / "rules"
DEMO = SHIPPED.parent / "examples" / "aureus" / "rules"

SPIKE = {
    "alertname": "PolicyViolationSpike",
    "severity": "warning",
    "service": "aureus-os",
    "namespace": "aureus",
    "signal": "logs",
}


def alert(state: str, at_ms: int, labels: Mapping[str, str] = SPIKE, **changes: Any) -> Transition:
    """A transition of an alert; its id depends on what it says, as in the evaluator."""
    mark = fingerprint(labels)
    given: dict[str, Any] = {
        "id": f"{mark}-{state}-{at_ms}",
        "rule": f"test/{labels['alertname']}",
        "alertname": labels["alertname"],
        "fingerprint": mark,
        "labels": dict(labels),
        "annotations": {},
        "previous": "firing" if state == "resolved" else "inactive",
        "state": state,
        "at_ms": at_ms,
        "active_since_ms": at_ms,
        "value": "12",
        "cause": "cleared" if state == "resolved" else "condition",
        "window_ms": 60_000,
        "received_ms": at_ms + 3,
    }
    return Transition(**{**given, **changes})


def outcome(command: str, status: str, at_ms: int, incident: int = 1, reason: str = "") -> Outcome:
    return Outcome(command, incident, status, reason, {}, "executor-1", at_ms, at_ms)  # type: ignore[arg-type]  # tables hold plain strings


@pytest.fixture(scope="session")
def actions() -> Actions:
    return load_actions()


@pytest.fixture(scope="session")
def runbooks(actions: Actions) -> list[Runbook]:
    out: list[Runbook] = []
    defaults: list[Defaults] = []
    for path in (*DEMO.glob("runbooks/*.yml"), *SHIPPED.glob("runbooks/*.yml")):
        found = read_runbooks(path.read_text(), str(path), actions=actions)
        assert not found.problems
        out += found.runbooks
        defaults += found.defaults
    out, problems = with_defaults(out, defaults)
    assert not problems
    return out
