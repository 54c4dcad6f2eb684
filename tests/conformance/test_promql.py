"""Prometheus's own scripts pass: none fails, and only what is refused by name or needs native histograms is skipped."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.promql import ROOT, run_file

FOLDER = Path(os.environ.get("SENTINEL_CONFORMANCE", ROOT.parent / "shared" / "conformance")) / "promql"
SCRIPTS = sorted(FOLDER.glob("*.test"))


@pytest.mark.skipif(not SCRIPTS, reason="no conformance data; set SENTINEL_CONFORMANCE")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_passes(path: Path) -> None:
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    run_file(path, reasons, failures)
    assert not failures
    assert all(reason == "native histograms" or reason.endswith("is not supported") for reason in reasons)
