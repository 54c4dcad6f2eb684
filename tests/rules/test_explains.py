"""Which incident of the shipped runbooks explains which alert, so that it joins instead of opening its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.core.messages import Transition
from engine.loading import load
from engine.response.grouping import explains
from engine.response.incident import open_incident
from engine.response.model import Context
from engine.response.steps import route
from tests.response.conftest import START_MS, alert

RULES = Path(__file__).parents[2] / "rules"
LOADED = load([RULES])
PLACE = {"namespace": "aureus", "severity": "critical"}


def fired(alertname: str, service: str, **labels: str) -> Transition:
    return alert("firing", START_MS, {**PLACE, "alertname": alertname, "service": service, **labels})


DOWN = fired("DatabaseFailure", "postgres", reason="down")
CONNECTIONS = fired("DatabaseFailure", "postgres", reason="connections")
DISK = fired("DatabaseFailure", "postgres", reason="disk", persistentvolumeclaim="postgres-data")
TAMPERED = fired("SignatureFailures", "bridge", reason="tampered")
BRIDGE_DOWN = fired("ServiceDown", "bridge", scope="unknown")
SLOW = fired("HighLatency", "openclaw")
FAILING = fired("HighErrorRate", "aureus-os")
ELSEWHERE = fired("HighErrorRate", "aureus-os", namespace="staging")


@pytest.mark.parametrize(
    ("cause", "effect", "explained"),
    [
        (DOWN, BRIDGE_DOWN, True),
        (DOWN, SLOW, True),
        (DOWN, FAILING, True),
        (DOWN, ELSEWHERE, False),
        (DOWN, TAMPERED, False),
        (CONNECTIONS, SLOW, True),
        (CONNECTIONS, FAILING, True),
        (CONNECTIONS, BRIDGE_DOWN, False),
        (DISK, SLOW, False),  # nearly full is not slow yet
        (TAMPERED, BRIDGE_DOWN, True),  # the bridge is isolated
        (TAMPERED, fired("ServiceDown", "openclaw", scope="all"), False),
        (SLOW, FAILING, False),
    ],
)
def test_what_explains_what(cause: Transition, effect: Transition, explained: bool) -> None:
    runbook = route(LOADED.runbooks, cause.labels)
    incident = open_incident(1, cause, Context(START_MS, runbook)).state
    assert explains(runbook, incident, effect.labels) is explained
