"""The three services in one process, each an HTTP server on its own port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from examples.aureus.aureus_os import AureusOs
from examples.aureus.bridge import Bridge
from examples.aureus.connections import STALE_AFTER_S
from examples.aureus.database import AUDIT_LOG, POLICY_VIOLATIONS, close_pool, open_pool
from examples.aureus.openclaw import OpenClaw
from examples.aureus.service import Kit, Server, build_app
from examples.aureus.signatures import KeyDirectory

SERVICES = ("bridge", "aureus-os", "openclaw")
SHUTDOWN_TIMEOUT_S = 3.0


class StackSettings(msgspec.Struct, frozen=True):
    """Where the services listen and what they use. `port_base` 0 lets the system choose every port."""

    database_url: str
    push_url: str
    admin_token: str
    key_directory: Path
    host: str = "127.0.0.1"
    port_base: int = 0
    stale_after_s: float = STALE_AFTER_S


@asynccontextmanager
async def running_services(settings: StackSettings) -> AsyncIterator[dict[str, str]]:
    """Run the services; yields their URLs by name.

    Raises `DatabaseUnavailableError` without PostgreSQL and OSError for a port in use.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        kits = {name: Kit(name, session, settings.push_url, settings.admin_token) for name in SERVICES}
        violations = await open_pool(settings.database_url, "aureus_os", POLICY_VIOLATIONS)
        stack.push_async_callback(close_pool, violations)
        audit = await open_pool(settings.database_url, "bridge", AUDIT_LOG)
        stack.push_async_callback(close_pool, audit)

        urls = {}
        directory = KeyDirectory(settings.key_directory)
        urls["bridge"] = await _serve(stack, Bridge(kits["bridge"], audit, directory), settings, 0)
        urls["aureus-os"] = await _serve(stack, AureusOs(kits["aureus-os"], violations), settings, 1)
        gateway = OpenClaw(kits["openclaw"], f"{urls['aureus-os']}/decide", settings.stale_after_s)
        urls["openclaw"] = await _serve(stack, gateway, settings, 2)
        yield urls


async def _serve(stack: AsyncExitStack, server: Server, settings: StackSettings, offset: int) -> str:
    runner = web.AppRunner(build_app(server), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    port = settings.port_base + offset if settings.port_base else 0
    await web.TCPSite(runner, settings.host, port, backlog=512).start()
    return loopback_url(runner)


def loopback_url(runner: web.AppRunner) -> str:
    """The URL by which this machine reaches a started server."""
    host, port = runner.addresses[0][:2]
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104  # compared, not bound


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])
