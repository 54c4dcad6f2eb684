"""A service of the seed that Docker Compose runs: its page answers while its container really runs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.docker_engine import IMAGE, DockerEngine
from tests.nine.town import Town

PROJECT, SERVICE = "aureus", "bridge"
LOOK_S = 1.0
_FILE = f"""
name: {PROJECT}
services:
  {SERVICE}: {{image: "{IMAGE}", network_mode: none, command: [sleep, "100000"], stop_grace_period: 0s}}
"""


class Container:
    """The project, and what a look at the engine said last."""

    def __init__(self, town: Town, engine: DockerEngine, folder: Path) -> None:
        self.file = folder / "compose.yml"
        self.file.write_text(_FILE, encoding="utf-8")
        self.engine = engine
        self.runs = False
        self._looked_s = 0.0
        engine.compose(self.file, "up", "--detach")
        self.first = self.look()["Id"]
        town.turns.append(self._turn)
        town.routes.append(web.get("/compose/metrics", self._page))

    def look(self) -> dict[str, Any]:
        """The container as the engine inspects it."""
        (found,) = self.engine.containers(PROJECT, SERVICE)
        return found

    def crash(self) -> None:
        """Its process dies, and nobody starts it again."""
        self.engine.docker("kill", self.look()["Id"])

    def remove(self) -> None:
        """The project is taken down; the engine has other users."""
        self.engine.compose(self.file, "down", "--timeout", "0")

    async def _turn(self) -> None:
        if time.monotonic() > self._looked_s + LOOK_S:
            self.runs = (await asyncio.to_thread(self.look))["State"]["Running"]
            self._looked_s = time.monotonic()

    async def _page(self, _: web.Request) -> web.Response:
        if not self.runs:
            return web.Response(status=503)
        return web.Response(text="# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1\n")
