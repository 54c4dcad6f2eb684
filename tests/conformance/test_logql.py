"""Loki's own scripts pass, on filled windows and on the stream; a script that cannot be read fails and says where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance import logql

FOLDER = Path(os.environ.get("SENTINEL_CONFORMANCE", logql.ROOT.parent / "shared" / "conformance")) / "logql"


@pytest.mark.skipif(not FOLDER.exists(), reason="no conformance data (set SENTINEL_CONFORMANCE)")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.logqltest")), ids=lambda path: path.name)
def test_a_script_of_loki_passes(path: Path) -> None:
    failures: list[str] = []
    tally = logql.run_file(path, failures)
    assert tally["passed"] > 0
    assert not failures, "\n".join(failures)


SCRIPT = """
load
  {app="a"} `{"user":"u"}` @ 10s [repeat every 1s for 20]
  {app="b"} `x` @ soon
eval instant at 30s sum(count_over_time({app="a"}[15s]))
  {} 14
load
  {app="a"} `{"user":"u"}` @ 10s [repeat every 1s for 20]
eval instant at 30s sum by (user) (count_over_time({app="a"} | json [15s]))
  {user="u"} 14
eval instant at 30s sum(count_over_time({app="a"}[15s]))
  {} 15
evaluate instant at 30s 1
eval instant at 0s count_over_time({app="a"}[5s] offset -12s)
  {app="a"} 3
"""


def test_what_cannot_be_read_or_is_not_as_expected_fails_and_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "script.logqltest"
    path.write_text(SCRIPT)
    failures: list[str] = []
    tally = logql.run_file(path, failures)
    assert tally == {"passed": 2, "failed": 4}
    assert [failure.split(":")[1] for failure in failures] == ["2", "5", "5", "11", "11", "13"]
    assert "soon" in failures[0]
    assert "(stream)" in failures[4]
