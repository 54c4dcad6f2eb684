"""The client of Docker Compose projects: the `docker` program, started with plain arguments and no shell."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from engine.actions import RefusedError
from engine.actions._compose import READ_S, ComposeError
from engine.actions._kubernetes import NoAnswerError

_KEPT_CHARACTERS = 500


class ComposeProject:
    """One project: its name, its files in their order, and the engine (`DOCKER_HOST`, "" for the client's own).

    `environ` is what the program sees, and what the files are filled in from. See `engine.actions._compose`.
    """

    def __init__(self, name: str, files: Sequence[Path], docker_host: str, environ: Mapping[str, str]) -> None:
        self._compose = ["docker", "compose", "--project-name", name, *(f"--file={file}" for file in files)]
        self._compose += ["--profile=*", "--ansi=never", "--progress=plain"]
        self._environ = {**environ, **({"DOCKER_HOST": docker_host} if docker_host else {})}

    async def compose(self, *arguments: str, limit_s: float = READ_S) -> str:
        """What `docker compose` prints, what it says about its progress at the end."""
        return await self._run([*self._compose, *arguments], limit_s)

    async def inspect(self, kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Things of a kind as the engine describes them."""
        said = await self._run(["docker", "inspect", "--type", kind, *names], READ_S)
        return msgspec.json.decode(said, type=list[dict[str, Any]])

    async def _run(self, command: list[str], limit_s: float) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environ,
                start_new_session=True,  # Compose is the program's child: what ends one ends both
            )
        except FileNotFoundError:
            raise RefusedError("no_compose", "there is no `docker` on the executor's PATH") from None
        try:
            async with asyncio.timeout(limit_s):
                out, err = await process.communicate()
        except TimeoutError:
            raise NoAnswerError(f"{' '.join(command[:2])} did not end within {limit_s:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise failure(err.decode(errors="replace").strip() or f"status {process.returncode}")
        return out.decode(errors="replace") + (err.decode(errors="replace") if "--dry-run" in command else "")


def failure(said: str) -> Exception:
    """What the complaint of the program means for whoever started it."""
    words = said[-_KEPT_CHARACTERS:]
    if "permission denied while trying to connect" in said:
        return RefusedError("forbidden", f"the executor may not use the Docker engine's socket: {words}")
    if "Cannot connect to the Docker daemon" in said or "error during connect" in said:
        return NoAnswerError(f"the Docker engine gives no answer: {words}")
    if "is not a docker command" in said or "unknown command" in said:
        return RefusedError("no_compose", f"the executor's `docker` has no Compose plugin: {words}")
    return ComposeError(words)
