"""A world for each situation, and at the end of the run the table of what became of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest

from engine.cli import decide as cli_decide
from engine.cli import silences as cli_silences
from engine.edge.database import Database
from engine.edge.kubernetes import open_kubernetes
from tests.cli.conftest import Ran, sentinel
from tests.cluster import Cluster
from tests.guardrails.world import World, environment, running_services

__all__ = ["sentinel"]  # the fixture

TABLE = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture
async def world(
    request: pytest.FixtureRequest,
    database: Database,
    sentinel: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    situation = request.node.callspec.params.get("situation") if hasattr(request.node, "callspec") else None
    cluster: Cluster | None = request.getfixturevalue("cluster") if situation and situation.on_cluster else None

    async def cli(*args: str) -> Ran:
        return await asyncio.to_thread(sentinel, *args, "--set", f"database.url={database.url}")

    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(running_services())
        http = await stack.enter_async_context(httpx.AsyncClient())
        env, namespace = environment(services, http), ""
        if cluster is not None:
            api = await stack.enter_async_context(open_kubernetes(cluster.kubeconfig(), "", 10.0))
            env, namespace = replace(env, kubernetes=api), cluster.namespace()
        made = World(database, env, services, http, cli, monkeypatch, cluster, namespace)
        for module in (cli_decide, cli_silences):
            monkeypatch.setattr(module, "now_ms", lambda: made.clock.now_ms())
        yield made


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Add a row to the table that is printed at the end."""
    rows = request.config.stash.setdefault(TABLE, [])

    def add(*cells: str) -> None:
        rows.append(cells)

    return add


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    rows = config.stash.get(TABLE, [])
    if not rows:
        return
    heads = ("situation", "verdict", "reason in the audit", "by", "calls")
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    terminalreporter.section(f"guardrails: {len(rows)} situations")
    for row in [heads, *rows]:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
