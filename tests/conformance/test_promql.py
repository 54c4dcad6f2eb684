"""Prometheus's own scripts pass: none fails, and only what is refused by name or needs native histograms is skipped."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.promql import ROOT, run_script

FOLDER = Path(os.environ.get("SENTINEL_CONFORMANCE", ROOT.parent / "shared" / "conformance")) / "promql"
NOT_OURS = ("native histograms", "start times of counters")
SCRIPTS = sorted(FOLDER.glob("*.test"))


@pytest.mark.skipif(not SCRIPTS, reason="no conformance data; set SENTINEL_CONFORMANCE")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_passes(path: Path) -> None:
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    run_script(path.name, path.read_text(), reasons, failures)
    assert not failures
    assert all(reason in NOT_OURS or "not supported" in reason for reason in reasons)
