"""One Sentinel process: the parts its roles share, and how it starts, reports and ends.

`running` is the whole life of a process as a context manager: broker, database, roles, HTTP listener, in that order,
and back. `sentinel run`, the demo, the benchmarks and the end-to-end tests all use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from engine.core.group import StepConfig
from engine.edge import runtime
from engine.edge.broker import ensure_topics, open_broker
from engine.edge.clock import Clock, SystemClock
from engine.edge.database import Database, open_database
from engine.edge.health import CheckResult, Health, Heartbeats
from engine.edge.settings import HttpSettings, Settings
from engine.edge.telemetry import Telemetry
from engine.flow import ROLES, TOPICS, RoleName
from engine.loading import Loaded

log = structlog.get_logger(__name__)


class NodeError(Exception):
    """The process cannot start or go on; says why in one line."""


@dataclass
class Node:
    """What the roles of a process share. A role adds its routes, checks and tasks while it starts."""

    settings: Settings
    loaded: Loaded
    bootstrap: str
    database: Database | None
    stack: AsyncExitStack
    clock: Clock = field(default_factory=SystemClock)
    telemetry: Telemetry = field(default_factory=Telemetry)
    health: Health = field(default_factory=lambda: Health(Heartbeats()))
    routes: list[web.RouteDef] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    on_reload: list[Callable[[Loaded], None]] = field(default_factory=list)
    http_url: str = ""
    failure: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def step_config(self) -> StepConfig:
        """The evaluator's settings."""
        rules = self.settings.rules
        return StepConfig(
            eager_per_s=rules.eager_per_s,
            eager_grid_ms=rules.eager_grid_ms,
            source_idle_ms=rules.source_idle_ms,
            external_labels=rules.external_labels,
            external_url=self.settings.http.external_url or self.http_url,
        )

    def need_database(self) -> Database:
        """The database; a role that calls this says so in `flow.ROLES`."""
        if self.database is None:
            raise NodeError("this role needs a database and `flow.ROLES` does not say so")
        return self.database

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside the process for as long as it lives. If it fails, the process ends."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self.stack.push_async_callback(_cancel, task)

    def fail(self, reason: str) -> None:
        """End the process."""
        if not self.failure.done():
            self.failure.set_exception(NodeError(reason))

    async def run(self, stop: Awaitable[object]) -> None:
        """Wait until told to stop; raises `NodeError` when a part of the process failed."""
        stopping: asyncio.Future[object] = asyncio.ensure_future(stop)
        self.failure.add_done_callback(lambda _: stopping.cancel())
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await stopping
            if self.failure.done():
                self.failure.result()
        finally:
            stopping.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", task=task.get_name(), reason=f"{type(error).__name__}: {error}", exc_info=error)
            self.fail(f"{task.get_name()} failed: {type(error).__name__}: {error}")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def running(settings: Settings, roles: Iterable[RoleName], loaded: Loaded) -> AsyncIterator[Node]:
    """A process with these roles, started and ready to be asked; ends everything it began."""
    from engine.edge.roles import START  # roles import this module

    wanted = [ROLES[name] for name in ROLES if name in set(roles)]
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_bind(settings.http))
        bootstrap = await stack.enter_async_context(open_broker(settings.kafka))
        await ensure_topics(settings.kafka, bootstrap, TOPICS)
        database = None
        if any(role.database for role in wanted):
            opening = open_database(
                settings.database.url or None, settings.state_dir, pool_size=settings.database.pool_size
            )
            database = await stack.enter_async_context(opening)
        node = Node(settings, loaded, bootstrap, database, stack, http_url=_url(listener))
        if database is not None:
            node.health.ready["database"] = partial(_database_answers, database)
        node.failure.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if never awaited
        # All come to an end, well or not, before a failure is raised: none may go on starting while the others end.
        for result in await asyncio.gather(*(START[role.name](node) for role in wanted), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        await _listen(node, listener)
        _say_where(node)
        log.info("node.ready", roles=[role.name for role in wanted], http=node.http_url, groups=len(loaded.groups))
        yield node
        log.info("node.stopping")


async def _database_answers(database: Database) -> CheckResult:
    async with database.connection() as conn:
        return CheckResult(True, f"PostgreSQL {conn.get_server_version().major} answers")


def _bind(settings: HttpSettings) -> socket.socket:
    """Take the listener's address before anything starts: every part knows it, and a taken port is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise NodeError(f"cannot listen on {settings.listen} (setting http.listen): {error.strerror}") from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"


async def _listen(node: Node, listener: socket.socket) -> None:
    app = web.Application(client_max_size=node.settings.http.max_body_bytes)
    app.add_routes([*node.routes, *node.telemetry.routes(), *node.health.routes()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    node.stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()


def _say_where(node: Node) -> None:
    state_dir = node.settings.state_dir
    found = runtime.Runtime(
        pid=os.getpid(),
        started_ms=node.clock.now_ms(),
        kafka_url=f"kafka://{node.bootstrap}",
        database_url=node.database.url if node.database else "",
        http_url=node.http_url,
    )
    runtime.write(state_dir, found)
    node.stack.callback(runtime.remove, state_dir, found.pid)
