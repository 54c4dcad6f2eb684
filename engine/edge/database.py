"""The program's PostgreSQL: embedded by default, any other by its URL; a pool that outlives outages.

At the start a wrong URL is an error that names the setting. Later an outage is not an error but a state: work waits,
is tried again with a growing pause, and each change of state is one line in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import msgspec
import structlog

from engine.core.masking import PERCENT_ENCODE, mask_text
from engine.edge import embedded_postgres
from engine.edge.migrate import migrate

masked = mask_text

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
log = structlog.get_logger(__name__)

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # the old primary after a switch-over
    asyncpg.InternalClientError,  # what asyncpg says when the server's farewell comes between two queries
)
DATABASE_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What may be raised in the middle of work on a connection whose database goes away."""

_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.05, 5.0
_ANSWER_S = 10.0
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class DatabaseError(Exception):
    """The database cannot be used as configured; names the setting, with the password masked."""


class Database:
    """A pool of connections to one database. `url` is complete: other parts of the program may connect with it.

    Columns of type json and jsonb read and write Python data.
    """

    def __init__(self, url: str, pool: asyncpg.Pool, sleep: Sleep = asyncio.sleep) -> None:
        self.url = url
        self.pool = pool
        self._sleep = sleep
        self._away = False

    @property
    def is_away(self) -> bool:
        """Whether it was lost and has not answered since; whoever needs it waits."""
        return self._away

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection, waiting for as long as the database is away. Errors inside the block are the caller's."""
        conn = await self._acquire()
        try:
            yield conn
        except asyncio.CancelledError:
            _abandon(conn)  # tidying up would wait for a server that may be the reason for the cancellation
            raise
        except Exception as error:
            if _is_lost(error):
                _abandon(conn)
            raise
        finally:
            await self.pool.release(conn)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection in a transaction, as `connection`. The block is not tried again; see `run`."""
        async with self.connection() as conn, conn.transaction():
            yield conn

    async def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do work in one transaction, again from its start when the database was lost or it lost a deadlock.

        A connection may be lost after the commit and before its answer, so work has to bear being done twice. It must
        not do anything but talk to the database: its time-outs and broken connections are taken for the database's.
        """
        pause_s = _PAUSE_FIRST_S
        while True:
            try:
                async with self.transaction() as conn:
                    return await work(conn)
            except _AGAIN as error:
                log.info("database.transaction_again", reason=str(error))
            except Exception as error:
                if not _is_lost(error):
                    raise
                self._note_away(error)
            pause_s = await self._pause(pause_s)

    async def _acquire(self) -> asyncpg.Connection:
        pause_s = _PAUSE_FIRST_S
        while True:
            try:
                conn = await self._acquire_once()
            except Exception as error:
                if not _is_lost(error):
                    raise
                self._note_away(error)
                pause_s = await self._pause(pause_s)
                continue
            if self._away:
                self._away = False
                log.info("database.back", database=mask_text(self.url))
            return conn

    async def _acquire_once(self) -> asyncpg.Connection:
        """A connection that answers: one from the pool may have died since it was used."""
        conn = await self.pool.acquire(timeout=_ANSWER_S)
        try:
            await conn.execute("select 1", timeout=_ANSWER_S)
        except BaseException:
            _abandon(conn)
            await self.pool.release(conn)
            raise
        return conn

    async def _pause(self, pause_s: float) -> float:
        """Wait about so long; returns how long to wait the next time."""
        await self._sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, not a secret
        return min(2 * pause_s, _PAUSE_MAX_S)

    def _note_away(self, error: BaseException) -> None:
        if not self._away:
            self._away = True
            log.error("database.away", database=mask_text(self.url), reason=str(error) or type(error).__name__)

    async def create_database(self, name: str) -> str:
        """Make sure a database exists on the same server; returns its URL. `name` is lower case letters, digits, _."""
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a database name: lower case letters, digits and _ only, at most 63")
        async with self.connection() as conn:
            if not await conn.fetchval("select 1 from pg_database where datname = $1", name):
                # Somebody else may be faster; then it exists, which is what was asked for.
                with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                    await conn.execute(f'create database "{name}"')
        return url_of(self.url, name)


@asynccontextmanager
async def open_database(
    url: str | None,
    state_dir: Path,
    *,
    database: str = "sentinel",
    migrations: bool = True,
    pool_size: int = 10,
) -> AsyncIterator[Database]:
    """Open the database at a URL, or the embedded one in the state folder, and bring its schema up to date.

    `database` names the embedded one's database; with a URL its path names it. Raises `DatabaseError` for a URL that
    cannot work, `MigrationError`, `EmbeddedPostgresError`.
    """
    if url:
        async with _connected(url, migrations, pool_size) as opened:
            yield opened
        return
    async with embedded_postgres.running(state_dir) as socket_dir:
        base = socket_url(socket_dir, "postgres")
        async with _connected(base, False, 1) as server:
            own = await server.create_database(database)
        async with _connected(own, migrations, pool_size) as opened:
            yield opened


@asynccontextmanager
async def _connected(url: str, migrations: bool, pool_size: int) -> AsyncIterator[Database]:
    pool = await connect_pool(url, pool_size)
    try:
        opened = Database(url, pool)
        if migrations:
            async with opened.connection() as conn:
                for name in await migrate(conn):
                    log.info("database.migrated", migration=name)
        yield opened
    finally:
        try:
            await asyncio.wait_for(pool.close(), _ANSWER_S)
        except TimeoutError:
            pool.terminate()


async def connect_pool(url: str, size: int = 10) -> asyncpg.Pool:
    """A pool for a URL; raises `DatabaseError` with the reason in words."""
    try:
        # No minimum: asyncpg would restore it in the background, with log lines of its own.
        pool = asyncpg.create_pool(url, min_size=0, max_size=size, init=_prepare, timeout=_ANSWER_S)
        await pool
        async with pool.acquire(timeout=_ANSWER_S):
            return pool
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        why = f"the server refused the user or password ({error})"
    except asyncpg.InvalidCatalogNameError as error:
        why = f"{error}; create it first"
    except socket.gaierror:
        why = f"the host name {urlsplit(url).hostname!r} is not known"
    except (asyncpg.InterfaceError, ValueError):
        # Not the parser's own words: they quote pieces of the URL, which may be pieces of the password.
        why = f"not a PostgreSQL URL; {PERCENT_ENCODE}"
    except TimeoutError:
        why = f"no answer within {_ANSWER_S:.0f} s"
    except OSError as error:
        why = f"no server answers there ({error.strerror or error})"
    except asyncpg.PostgresError as error:
        why = f"the server said: {error}"
    raise DatabaseError(mask_text(f"database.url {url}: {why}"))


async def _prepare(conn: asyncpg.Connection) -> None:
    for kind in ("json", "jsonb"):
        await conn.set_type_codec(
            kind,
            schema="pg_catalog",
            encoder=lambda value: msgspec.json.encode(value).decode(),
            decoder=msgspec.json.decode,
        )


def socket_url(socket_dir: Path, database: str) -> str:
    """The URL of a database of the embedded server."""
    return f"postgresql://{embedded_postgres.SUPERUSER}@/{database}?host={quote(str(socket_dir), safe='/')}"


def url_of(url: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _is_lost(error: Exception) -> bool:
    """Whether the database or the connection to it is gone, as against a mistake of ours."""
    if isinstance(error, asyncpg.InterfaceError):
        signs = ("connection is closed", "connection was closed", "released back to the pool")
        return any(sign in str(error) for sign in signs)
    return isinstance(error, _LOST)


def _abandon(conn: asyncpg.Connection) -> None:
    """Cut a broken connection off, so that its release does not try to tidy it up; it may already be gone."""
    with contextlib.suppress(asyncpg.InterfaceError):
        conn.terminate()
