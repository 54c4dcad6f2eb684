"""Prometheus's own promtool on the shipped PromQL: it takes the rules, and finds in their tests what we do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.parts import require

pytestmark = pytest.mark.real

RULES = Path(__file__).parents[2] / "rules"
KEYS = {"rule_files", "evaluation_interval", "tests"}
# Files with other keys are only ours: evaluated eagerly, or tests of runbooks.
TESTS = [file for file in sorted(RULES.glob("tests/*.yml")) if yaml.safe_load(file.read_text()).keys() <= KEYS]


def promtool(*args: str | Path) -> subprocess.CompletedProcess[str]:
    program = require("prometheus") / "promtool"
    return subprocess.run([program, *args], cwd=RULES / "tests", capture_output=True, text=True)  # noqa: S603  # our parts


def test_promtool_takes_the_rules() -> None:
    ran = promtool("check", "rules", "--lint-fatal", *sorted((RULES / "promql").glob("*.yml")))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_finds_in_the_tests_what_we_do() -> None:
    assert len(TESTS) == 5
    ran = promtool("test", "rules", *TESTS)
    assert (ran.returncode, ran.stdout.count("SUCCESS")) == (0, len(TESTS)), ran.stdout + ran.stderr
