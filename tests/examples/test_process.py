"""`python -m examples.aureus`: two processes that start together and never outlive each other or their starter."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.examples.conftest import ADMIN_TOKEN, LokiReceiver, until

Process = asyncio.subprocess.Process
Start = Callable[..., Coroutine[Any, Any, Process]]
PROJECT = Path(__file__).resolve().parents[2]


def alive(pid: int) -> bool:
    """Whether a process still runs (one that waits to be collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
async def start(postgres_url: str, loki: LokiReceiver, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the stand-in with extra arguments; whatever still runs afterwards is ended."""
    started: list[Process] = []

    async def begin(*arguments: str, token: str = ADMIN_TOKEN) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.aureus", "--database", postgres_url, "--loki-push", loki.url),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=PROJECT,
            env={**os.environ, "AUREUS_ADMIN_TOKEN": token, "TMPDIR": str(tmp_path)},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    assert line, (await process.communicate())[1].decode()
    return msgspec.json.decode(line, type=dict[str, Any])


async def test_the_ready_line_names_everything_and_sigterm_ends_both_processes(
    start: Start, tmp_path: Path, loki: LokiReceiver
) -> None:
    state_file = tmp_path / "state.json"
    process = await start("--seed", "3", "--state-file", str(state_file))
    state = await ready(process)
    assert msgspec.json.decode(state_file.read_bytes()) == state
    assert list(state["services"]) == ["bridge", "aureus-os", "openclaw"]
    async with aiohttp.ClientSession() as session:
        for url in state["services"].values():
            async with session.get(f"{url}/health") as response:
                assert response.status == 200
        async with session.get(f"{state['control']}/faults") as response:
            assert len((await response.json())["faults"]) == 5
    await until(lambda: len(loki.events("connection_opened")) >= 100, "a hundred chats")
    process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    assert not alive(state["load_pid"])
    assert len(loki.events("connection_closed")) == len(loki.events("connection_opened"))


async def test_the_load_generator_ends_when_the_services_are_killed(start: Start) -> None:
    process = await start()
    state = await ready(process)
    assert alive(state["load_pid"])
    process.kill()
    await process.wait()
    await until(lambda: not alive(state["load_pid"]), "the load generator ends")


async def test_both_end_when_the_starter_lets_go_of_their_standard_input(start: Start) -> None:
    process = await start("--follow-stdin")
    state = await ready(process)
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 15) == 0
    assert not alive(state["load_pid"])


async def test_the_services_do_not_go_on_without_load(start: Start) -> None:
    process = await start()
    os.kill((await ready(process))["load_pid"], signal.SIGKILL)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "the load generator ended by itself (status -9)" in errors.decode()


async def test_a_port_in_use_is_a_clear_error(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await start("--port-base", str(taken.getsockname()[1]))
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().startswith("aureus: ")
    assert "address already in use" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_without_an_admin_token_it_does_not_start(start: Start) -> None:
    process = await start(token="")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert "set AUREUS_ADMIN_TOKEN" in errors.decode()
