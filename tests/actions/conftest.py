"""A database with tables, the executor's role with only what the actions declare, and people who use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import httpx
import pytest_asyncio

from engine.actions import Environment, load_actions
from engine.actions._sql import sql_grants
from engine.edge.database import url_of
from tests.waiting import until

# As `sentinel permissions` prints them, and nothing more.
_PERMISSIONS = [one for action in load_actions().values() for one in action.permissions]
_ROLES = ("app", "other", "weak", "doer", "owner", "boss", "replicator")
_SETUP = """
create role app login; create role other login; create role weak login; create role doer login;
create role owner login; create role boss login superuser; create role replicator login replication;
grant pg_read_all_stats to owner;
"""
_TABLES = """
create schema shop authorization owner;
create table shop.orders (id int, customer int, note text);
insert into shop.orders select n, n % 10, 'n' from generate_series(1, 1000) n;
alter table shop.orders owner to owner;
grant usage on schema shop to public;
"""


class Work:
    """The database `work` on a real server. `env` reaches it as `doer` ("main"), as `weak`, as `owner`, and in vain."""

    def __init__(self, url: str, admin: asyncpg.Connection) -> None:
        self.url = url
        self.admin = admin  # a superuser, in `work`
        self.opened: list[asyncpg.Connection] = []
        self.tasks: list[asyncio.Task[object]] = []

    def url_as(self, role: str) -> str:
        return url_of(self.url, "work").replace("postgres@", f"{role}@")

    async def connect(self, role: str, application: str = "shop", database: str = "work") -> asyncpg.Connection:
        url = url_of(self.url, database).replace("postgres@", f"{role}@")
        conn = await asyncpg.connect(url, server_settings={"application_name": application})
        self.opened.append(conn)
        return conn

    async def busy(
        self, role: str = "app", query: str = "select pg_sleep(60)", **how: str
    ) -> tuple[asyncpg.Connection, asyncio.Task[object]]:
        """A connection that is at a long query, and the task that awaits its end."""
        conn = await self.connect(role, **how)
        task: asyncio.Task[object] = asyncio.ensure_future(conn.execute(query))
        self.tasks.append(task)
        await until(partial(self.is_active, conn.get_server_pid(), query), what="the query runs")
        return conn, task

    async def is_active(self, pid: int, query: str = "") -> bool:
        found = "select 1 from pg_stat_activity where pid = $1 and state = 'active' and ($2 = '' or query = $2)"
        return await self.admin.fetchval(found, pid, query) == 1

    async def indexes(self, table: str = "shop.orders") -> dict[str, bool]:
        """The names of its indexes, and which are valid."""
        found = "select indexrelid::regclass::text as name, indisvalid from pg_index where indrelid = $1::regclass"
        return {row["name"]: row["indisvalid"] for row in await self.admin.fetch(found, table)}


@pytest_asyncio.fixture
async def work(postgres_url: str) -> AsyncIterator[Work]:
    server = await asyncpg.connect(postgres_url)
    await server.execute("create database work")
    await server.execute(_SETUP)
    await server.execute("\n".join(sql_grants(_PERMISSIONS, "doer")))
    admin = await asyncpg.connect(url_of(postgres_url, "work"))
    await admin.execute(_TABLES)
    running = Work(postgres_url, admin)
    yield running
    for task in running.tasks:
        task.cancel()
    await asyncio.gather(*running.tasks, return_exceptions=True)
    for conn in running.opened:
        conn.terminate()
    await admin.close()
    await server.execute("drop database work with (force)")
    await server.execute(f"drop owned by doer; drop role {', '.join(_ROLES)}")
    await server.close()


@pytest_asyncio.fixture
async def env(work: Work) -> AsyncIterator[Environment]:
    databases = {"main": work.url_as("doer"), "weak": work.url_as("weak"), "owner": work.url_as("owner")}
    databases["away"] = "postgresql://u:pa55@127.0.0.1:9/x"
    connect = partial(asyncpg.connect, timeout=10, command_timeout=30)
    async with httpx.AsyncClient() as client:
        yield Environment({}, databases, client, connect, asyncio.sleep)
