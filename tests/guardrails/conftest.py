"""A world for each situation, and at the end of the run the table of what became of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from engine.cli import decide as cli_decide
from engine.edge.database import Database
from tests.cli.conftest import Ran, sentinel
from tests.guardrails.world import World, environment, running_services

__all__ = ["sentinel"]  # the fixture

TABLE = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture
async def world(
    database: Database, sentinel: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async def cli(*args: str) -> Ran:
        return await asyncio.to_thread(sentinel, *args, "--set", f"database.url={database.url}")

    async with running_services() as services, httpx.AsyncClient() as http:
        made = World(database, environment(services, http), services, http, cli, monkeypatch)
        monkeypatch.setattr(cli_decide, "now_ms", lambda: made.clock.now_ms())
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
