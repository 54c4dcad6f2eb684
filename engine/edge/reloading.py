"""Rules and runbooks loaded again while they run: on SIGHUP, and when their files change.

Everything is loaded and checked before anything changes. Files with an error change nothing: the process goes on with
what it has, says every problem, and `sentinel_rules_last_reload_successful` is 0 until the files are right.
"""

from __future__ import annotations

import asyncio

import structlog

from engine.edge.node import Node
from engine.edge.runbook_settings import unknown_receivers
from engine.loading import fingerprint, load

log = structlog.get_logger(__name__)


class Reloader:
    """Loads the rules of a node again; what a role does with them, it has put in `node.on_reload`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rules = node.settings.rules
        self._seen = fingerprint(self._rules.paths)
        self._turn = asyncio.Lock()
        node.telemetry.reload_time.set(node.clock.now_ms() / 1000)

    async def reload(self, reason: str) -> bool:
        """Load, check, and hand over; whether the files were right."""
        async with self._turn:
            self._seen = await asyncio.to_thread(fingerprint, self._rules.paths)
            loaded = await asyncio.to_thread(load, self._rules.paths, self._rules.keep)
            loaded.problems += unknown_receivers(loaded.runbooks, self._node.settings.notify)
            for problem in loaded.problems:
                log.error("rules.problem", problem=str(problem))
            self._node.telemetry.reload_ok.set(0 if loaded.errors else 1)
            if loaded.errors:
                log.error("rules.reload_refused", errors=len(loaded.errors), reason=reason)
                return False
            for hand_over in self._node.on_reload:
                hand_over(loaded)
            self._node.loaded = loaded
            self._node.telemetry.reload_time.set(self._node.clock.now_ms() / 1000)
            log.info("rules.reloaded", groups=len(loaded.groups), runbooks=len(loaded.runbooks), reason=reason)
            return True

    async def on_request(self, requested: asyncio.Event) -> None:
        """Load again whenever it is asked for, until cancelled."""
        while True:
            await requested.wait()
            requested.clear()
            await self.reload("SIGHUP")

    async def watch(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await self._node.clock.sleep(self._rules.watch_s)
            if await asyncio.to_thread(fingerprint, self._rules.paths) != self._seen:
                await self.reload("files changed")
