"""Loki's own scripts pass, but for line and label templates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance import logql

FOLDER = Path(os.environ.get("SENTINEL_CONFORMANCE", logql.ROOT.parent / "shared" / "conformance")) / "logql"
NOT_YET = "formatters.logqltest"  # line_format and label_format with templates


@pytest.mark.skipif(not FOLDER.exists(), reason="no conformance data (set SENTINEL_CONFORMANCE)")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.logqltest")), ids=lambda path: path.name)
def test_a_script_of_loki_passes(path: Path) -> None:
    failures: list[str] = []
    tally = logql.run_file(path, failures)
    assert tally["passed"] > 0
    if path.name == NOT_YET:
        failures = [failure for failure in failures if "not supported yet" not in failure]
    assert not failures, "\n".join(failures)
