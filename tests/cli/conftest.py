"""The command as a user runs it: arguments in, exit code and both outputs back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.cli import main


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., Ran]:
    """Run `sentinel ARGS` in an empty folder with a clean environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("SENTINEL_CONFIG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["sentinel", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        printed = capsys.readouterr()
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run
