"""A Compose project of its own for each test, on one real engine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml

from engine.actions import Environment
from engine.edge.compose import ComposeProject
from tests.actions.work import Work
from tests.docker_engine import IMAGE, DockerEngine

_numbers = itertools.count(1)
# A flag in the container's own files says whether it is well, so that a test can make it unwell.
HEALTHCHECK = {"test": ["CMD", "test", "!", "-e", "/tmp/unwell"], "interval": "200ms", "timeout": "2s", "retries": 2}  # noqa: S108


def service(**more: Any) -> dict[str, Any]:
    """A service that runs on and does nothing."""
    return {"image": IMAGE, "network_mode": "none", "command": ["sleep", "100000"], "stop_grace_period": "0s", **more}


class Project:
    """A project: its file, its engine, and what the executor may use to change it."""

    def __init__(self, docker: DockerEngine, folder: Path, name: str) -> None:
        self.docker = docker
        self.name = name
        self.file = folder / "compose.yml"
        client = ComposeProject(name, [self.file], docker.url, docker.environment)
        self.env = Environment({}, {}, httpx.AsyncClient(), asyncpg.connect, _soon, compose={name: client})

    def write(self, **services: Mapping[str, Any]) -> None:
        """The project's file."""
        self.file.write_text(yaml.safe_dump({"name": self.name, "services": services}), encoding="utf-8")

    def up(self, *arguments: str, **services: Mapping[str, Any]) -> None:
        """Write the file and start everything; services with a healthcheck are well when this returns."""
        self.write(**services)
        self.compose("up", "--detach", "--wait", *arguments)

    def compose(self, *arguments: str) -> str:
        return self.docker.compose(self.file, *arguments)

    def containers(self, service: str) -> list[dict[str, Any]]:
        return self.docker.containers(self.name, service)

    def ids(self, service: str) -> list[str]:
        return [one["Id"] for one in self.containers(service)]

    def started(self, service: str) -> list[str]:
        return [one["State"]["StartedAt"] for one in self.containers(service)]

    def down(self) -> None:
        """Remove all of its containers, whatever its file says by now."""
        self.write(nobody=service())
        self.compose("down", "--remove-orphans", "--timeout=0")

    def action(self, action: str, service: str, /, **params: Any) -> Work:
        return Work(self.env, action, f"{self.name}/{service}", **params)


async def _soon(duration_s: float) -> None:
    """A check that asks once a second asks ten times a second."""
    await asyncio.sleep(duration_s / 10)


@pytest.fixture
def project(docker: DockerEngine, tmp_path: Path) -> Iterator[Project]:
    made = Project(docker, tmp_path, f"shop{next(_numbers)}")
    yield made
    if made.file.exists():
        made.down()
