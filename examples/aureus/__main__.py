"""Start the stand-in: the three services here, the load generator in a process of its own.

When all of it runs, one JSON line with the URLs goes to standard output (and to `--state-file`). SIGTERM or SIGINT
ends both processes; the load generator also ends by itself when this one dies, because its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from examples.aureus.database import DatabaseUnavailableError
from examples.aureus.runtime import configure_console, raise_open_file_limit, stop_requested
from examples.aureus.stack import StackSettings, running_services

LOAD_START_TIMEOUT_S = 20.0
LOAD_STOP_TIMEOUT_S = 8.0
CONTROL_PORT_OFFSET = 3


class LoadGeneratorError(Exception):
    """The load generator did not start, or ended by itself."""


class State(msgspec.Struct, frozen=True):
    """The ready line and state file: process ids, URLs by service, control API, database names, start (ms)."""

    pid: int
    load_pid: int
    started_ms: int
    services: dict[str, str]
    control: str
    databases: list[str]


@asynccontextmanager
async def load_process(
    urls: dict[str, str], keys: Path, seed: int, control_port: int
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run the load generator; yields its process and the URL of its control API."""
    arguments = ["--bridge", urls["bridge"], "--openclaw", urls["openclaw"], "--keys", str(keys)]
    arguments += ["--seed", str(seed), "--control-port", str(control_port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "examples.aureus.loadgen",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([_project(), os.environ.get("PYTHONPATH", "")])},
    )
    try:
        if process.stdout is None:
            raise LoadGeneratorError("the load generator has no standard output")
        line = await asyncio.wait_for(process.stdout.readline(), LOAD_START_TIMEOUT_S)
        if not line:
            raise LoadGeneratorError("the load generator ended before it was ready; see above")
        yield process, msgspec.json.decode(line, type=dict[str, str])["control"]
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), LOAD_STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _project() -> str:
    return str(Path(__file__).resolve().parents[2])


async def _run(arguments: argparse.Namespace, admin_token: str) -> None:
    stop = stop_requested(follow_stdin=arguments.follow_stdin)
    raise_open_file_limit()
    with tempfile.TemporaryDirectory(prefix="aureus-keys-") as keys:
        settings = StackSettings(
            database_url=arguments.database,
            push_url=arguments.loki_push,
            admin_token=admin_token,
            key_directory=Path(keys),
            host=arguments.host,
            port_base=arguments.port_base,
        )
        control_port = arguments.port_base + CONTROL_PORT_OFFSET if arguments.port_base else 0
        async with (
            running_services(settings) as urls,
            load_process(urls, Path(keys), arguments.seed, control_port) as (process, control),
        ):
            now_ms = time.time_ns() // 1_000_000
            state = State(os.getpid(), process.pid, now_ms, urls, control, ["aureus_os", "bridge"])
            announce(state, arguments.state_file)
            waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(process.wait())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if not stop.is_set():
                raise LoadGeneratorError(f"the load generator ended by itself (status {process.returncode})")


def announce(state: State, state_file: Path | None) -> None:
    """Say that everything runs: one JSON line, and the same in the state file (complete or not at all)."""
    line = msgspec.json.encode(state).decode() + "\n"
    if state_file is not None:
        partial = state_file.with_name(f".{state_file.name}.partial")
        partial.write_text(line)
        partial.replace(state_file)
    sys.stdout.write(line)
    sys.stdout.flush()


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.aureus", description=__doc__)
    parser.add_argument("--database", required=True, metavar="URL", help="PostgreSQL server")
    parser.add_argument("--loki-push", required=True, metavar="URL", help=".../loki/api/v1/push of the receiver")
    parser.add_argument("--host", default="127.0.0.1", help="address the services bind (default %(default)s)")
    parser.add_argument(
        "--port-base",
        type=int,
        default=0,
        metavar="N",
        help="bridge N, aureus-os N+1, openclaw N+2, fault control N+3; 0: any free ports",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the load generator")
    parser.add_argument("--state-file", type=Path, metavar="FILE", help="also write the ready line here")
    parser.add_argument(
        "--follow-stdin", action="store_true", help="end when standard input (a pipe) closes: with its starter"
    )
    return parser.parse_args(argv)


def main() -> int:
    """Entry point: 0 after an ordered stop, 1 if it could not run, 2 for a wrong call."""
    configure_console()
    arguments = parse_arguments()
    admin_token = os.environ.get("AUREUS_ADMIN_TOKEN", "")
    if not admin_token:
        sys.stderr.write("aureus: set AUREUS_ADMIN_TOKEN: admin calls are accepted with this bearer token only\n")
        return 2
    try:
        asyncio.run(_run(arguments, admin_token))
    except (DatabaseUnavailableError, LoadGeneratorError, OSError, TimeoutError, ValueError) as error:
        sys.stderr.write(f"aureus: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
