"""The stack's PostgreSQL: one database per service that writes, tables with the columns operators query."""

from __future__ import annotations

import asyncio
import logging
import time

import asyncpg

from examples.aureus.service import Kit

START_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
WRITE_TIMEOUT_S = 1.5  # less than openclaw waits for a decision

_console = logging.getLogger(__name__)

POLICY_VIOLATIONS = """
CREATE TABLE IF NOT EXISTS policy_violations (
    id bigserial PRIMARY KEY, policy_id text NOT NULL, source_user text NOT NULL, source_channel text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS policy_violations_created_at ON policy_violations (created_at);
"""
AUDIT_LOG = """
CREATE TABLE IF NOT EXISTS audit_log (
    id bigserial PRIMARY KEY, action text NOT NULL, result text NOT NULL, reason text NOT NULL DEFAULT '',
    key_id text NOT NULL DEFAULT '', source text NOT NULL DEFAULT '',
    "timestamp" timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS audit_log_timestamp ON audit_log ("timestamp");
"""
_DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class DatabaseUnavailableError(Exception):
    """PostgreSQL could not be used at start; the message says which database and why."""


async def open_pool(url: str, database: str, schema: str) -> asyncpg.Pool:
    """A pool on `database` of the server at `url`; creates database and tables that are missing.

    Waits up to `START_TIMEOUT_S` for the server, then raises `DatabaseUnavailableError`.
    """
    give_up_at = time.monotonic() + START_TIMEOUT_S
    told = False
    while True:
        try:
            return await _open_pool(url, database, schema)
        except _DATABASE_ERRORS as error:
            transient = isinstance(error, OSError | TimeoutError | asyncpg.CannotConnectNowError)
            if not transient or time.monotonic() > give_up_at:
                raise DatabaseUnavailableError(f"database {database!r} cannot be used: {error}") from error
            if not told:
                _console.warning("waiting up to %.0f s for database %r: %s", START_TIMEOUT_S, database, error)
                told = True
        await asyncio.sleep(0.3)


async def _open_pool(url: str, database: str, schema: str) -> asyncpg.Pool:
    try:
        connection = await asyncpg.connect(url, database=database)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(url, database)
        connection = await asyncpg.connect(url, database=database)
    try:
        await connection.execute(schema)
    finally:
        await connection.close()
    return await asyncpg.create_pool(url, database=database, min_size=0, max_size=4, timeout=CONNECT_TIMEOUT_S)


async def _create_database(url: str, database: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{database}"')  # a constant of ours, not input
    finally:
        await connection.close()


async def close_pool(pool: asyncpg.Pool) -> None:
    """Close a pool, by force if the server does not answer."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await pool.close()
    except _DATABASE_ERRORS:
        pool.terminate()


async def record(kit: Kit, pool: asyncpg.Pool, sql: str, *values: str) -> None:
    """Write one row. A row that cannot be written is logged and counted; the request it belongs to goes on.

    A server that does not answer is not waited for, not even for the end of the cancelled write.
    """
    writing = asyncio.ensure_future(pool.execute(sql, *values))
    done, _ = await asyncio.wait([writing], timeout=WRITE_TIMEOUT_S)
    if not done:
        kit.abandon(writing)
        error: BaseException | None = TimeoutError(f"no answer within {WRITE_TIMEOUT_S} s")
    else:
        error = writing.exception()
    if error is not None:
        kit.errors.inc()
        kit.log("error", "database_write_failed", error=str(error))
