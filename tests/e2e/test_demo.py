"""The demo itself: that its judge misses nothing, and that it holds on a real Kafka with a real Prometheus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import Fault
from tests.e2e.shop import ROOT
from tests.parts import require, running_kafka

ALL = {"evidence.gathered", "command.sent", "command.outcome", "verify.succeeded"}


def fault(**changes: object) -> Fault:
    """A fault that was found, repaired and written up, with changes."""
    whole: dict[str, object] = {"detected_ms": 1, "incident": 1, "resolved": True, "kinds": set(ALL), "report": Path()}
    return Fault("leak", "ConnectionOverload", **(whole | changes))  # type: ignore[arg-type]  # the names are Fault's


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, []),
        ({"detected_ms": 0}, ["detection"]),
        ({"incident": 0}, ["an incident"]),
        ({"kinds": ALL - {"evidence.gathered"}}, ["evidence"]),
        ({"kinds": ALL - {"command.sent"}}, ["a command"]),
        ({"kinds": ALL - {"command.outcome"}}, ["its outcome"]),
        ({"kinds": ALL - {"verify.succeeded"}}, ["verification"]),
        ({"resolved": False}, ["the end of the incident"]),
        ({"report": None}, ["a report"]),
    ],
)
def test_a_step_that_did_not_happen_is_named(changes: dict[str, object], missing: list[str]) -> None:
    assert fault(**changes).missing() == missing


def test_of_a_fault_that_nobody_saw_everything_is_missing() -> None:
    assert len(Fault("leak", "ConnectionOverload").missing()) == 8


@pytest.mark.real
@pytest.mark.timeout(400)
def test_the_demo_holds_on_a_real_kafka_with_a_real_prometheus(tmp_path: Path) -> None:
    prometheus = require("prometheus") / "prometheus"
    (tmp_path / "kafka").mkdir()
    with running_kafka(tmp_path / "kafka") as kafka:
        command = [sys.executable, "-m", "examples.demo", "--out", str(tmp_path / "out")]
        command += ["--kafka", kafka.url, "--prometheus", str(prometheus)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=360)  # noqa: S603  # our demo
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "transitions identical" in ran.stdout
    assert len(list((tmp_path / "out").glob("incident-*.md"))) == 3
