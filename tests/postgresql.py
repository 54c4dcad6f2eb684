"""A real PostgreSQL on a loopback port, with pg_stat_statements: the part `postgresql`, or the oldest supported one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts import Program, free_ports, require

_OLDEST = Path("/usr/lib/postgresql/15/bin")  # where Debian 12 has it
_USER = "nobody"
_ORDINARY = {
    "fsync": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


def _as_ordinary_user(command: list[str]) -> list[str]:
    """PostgreSQL does not run as root; it has to reach all the same what only root may enter."""
    if os.geteuid() != 0:
        return command
    reach = "+dac_override"
    group = pwd.getpwnam(_USER).pw_gid
    who = [f"--reuid={_USER}", f"--regid={group}", "--clear-groups"]
    reach_by_access = "--securebits=+no_setuid_fixup"  # PostgreSQL asks access(2), which else forgets capabilities
    caps = [f"--inh-caps={reach}", f"--ambient-caps={reach}", reach_by_access]
    return ["setpriv", *who, *caps, "--pdeathsig", "INT", *command]


def oldest_postgresql() -> Path:
    """The folder with the programs of PostgreSQL 15, the oldest that is supported; skips the test without them."""
    if not (_OLDEST / "postgres").exists():
        pytest.skip("Debian's package postgresql-15 is not installed")
    return _OLDEST


@contextmanager
def running_postgresql(folder: Path, settings: Mapping[str, str], programs: Path | None = None) -> Iterator[str]:
    """A server with these settings, its data in `folder`; yields its URL, as superuser, of the database `postgres`."""
    programs = programs or require("postgresql")
    (port,) = free_ports(1)
    data = folder / "postgresql"
    data.mkdir()
    if os.geteuid() == 0:
        shutil.chown(data, _USER)
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-locale", "-E", "UTF8"]
    subprocess.run(_as_ordinary_user(initdb), check=True, capture_output=True, cwd="/")  # noqa: S603  # our parts
    options = [f"-c{name}={value}" for name, value in {**_ORDINARY, "port": str(port), **settings}.items()]
    command = _as_ordinary_user([str(programs / "postgres"), "-D", str(data), *options])
    server = Program(command, folder / "postgresql.log", cwd=Path("/"))
    try:
        server.wait_until(lambda: _status(data) == "ready", "PostgreSQL")
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        server.kill()


def _status(data: Path) -> str:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else ""
