"""How the command line finds a running Sentinel: `run` writes the addresses in use to `state_dir/runtime.json`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "runtime.json"


class Runtime(Struct, frozen=True):
    """A running process: its id and the addresses in use (they hold secrets; the file is for its owner only)."""

    pid: int
    started_ms: int
    kafka_url: str
    database_url: str
    http_url: str


def write(state_dir: Path, runtime: Runtime) -> None:
    """Say that we run; replaces what is there in one step, readable by the owner only."""
    state_dir.mkdir(parents=True, exist_ok=True)
    fresh = state_dir / f"{FILE}.{runtime.pid}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(runtime)) + b"\n")
    fresh.replace(state_dir / FILE)


def remove(state_dir: Path, pid: int) -> None:
    """Say that we no longer run, unless another process has taken over."""
    found = _read(state_dir)
    if found is not None and found.pid == pid:
        (state_dir / FILE).unlink(missing_ok=True)


def find(state_dir: Path) -> Runtime | None:
    """The running process, None if there is none (a file left behind by a dead one does not count)."""
    found = _read(state_dir)
    return found if found is not None and _is_alive(found.pid) else None


def _read(state_dir: Path) -> Runtime | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((state_dir / FILE).read_bytes(), type=Runtime)
    return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
