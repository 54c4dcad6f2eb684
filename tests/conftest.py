"""One real PostgreSQL, cluster and Docker engine for the whole run; a fresh migrated database for a test that asks."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import settings

from engine.edge import embedded_postgres
from engine.edge.database import Database, connect_pool, socket_url, url_of
from engine.edge.migrate import migrate
from tests.cluster import Cluster, running_cluster
from tests.docker_engine import DockerEngine, running_docker

settings.register_profile("sentinel", deadline=None)  # no test asserts a time: the machine may be busy
settings.load_profile("sentinel")

_TEMPLATE = "sentinel_template"
_numbers = itertools.count(1)
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of the run's server, as superuser, of its database `postgres`."""
    async with embedded_postgres.running(tmp_path_factory.mktemp("state"), _FAST) as socket_dir:
        yield socket_url(socket_dir, "postgres")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(postgres_url: str) -> str:
    """The name of a migrated database, of which each test gets a copy."""
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"create database {_TEMPLATE}")
    await server.close()
    conn = await asyncpg.connect(url_of(postgres_url, _TEMPLATE))
    await migrate(conn)
    await conn.close()
    return _TEMPLATE


@pytest_asyncio.fixture
async def database(postgres_url: str, migrated_template: str) -> AsyncIterator[Database]:
    """A fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"create database {name} template {migrated_template} strategy wal_log")
    url = url_of(postgres_url, name)
    pool = await connect_pool(url)
    try:
        yield Database(url, pool)
    finally:
        pool.terminate()
        await server.execute(f"drop database {name} with (force)")
        await server.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with its controllers; each test takes a namespace of its own."""
    with running_cluster(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest.fixture(scope="session")
def docker() -> Iterator[DockerEngine]:
    """A Docker engine with Compose; each test takes a project of its own."""
    with tempfile.TemporaryDirectory() as folder, running_docker(Path(folder)) as running:
        yield running
