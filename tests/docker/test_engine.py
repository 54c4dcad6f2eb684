"""The engine that the tests use leaves nothing behind."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.docker_engine import IMAGE, running_docker

pytestmark = pytest.mark.real
_FILE = f"""
name: shop
services:
  web: {{image: "{IMAGE}", network_mode: none, command: [sleep, "100000"], scale: 2}}
"""


def _processes(folder: Path) -> list[str]:
    shown = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return [line for line in shown.splitlines() if str(folder) in line]


def test_one_engine_after_the_other_leaves_no_process_mount_or_container() -> None:
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with running_docker(folder) as engine:
                file = folder / "compose.yml"
                file.write_text(_FILE, encoding="utf-8")
                engine.compose(file, "up", "--detach")
                assert [one["State"]["Running"] for one in engine.containers("shop", "web")] == [True, True]
                assert _processes(folder)
            assert _processes(folder) == []
            assert str(folder) not in Path("/proc/mounts").read_text(encoding="utf-8")
