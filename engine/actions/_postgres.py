"""What the PostgreSQL actions share: a fenced connection, which server it is, and names that the server itself reads.

No text from outside becomes SQL here. A table's name goes to the server as a bound parameter, is taken apart there
(`parse_ident`), looked up in the catalogue, and comes back quoted (`quote_ident`); only that is put into a statement.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from msgspec import Meta, Struct

from engine.actions import Check, Environment, Plan, RefusedError, Result
from engine.core.messages import Target

LOOK_S = 60.0
_CLOSE_S = 5.0
_MARGIN_S = 5.0

TableName = Annotated[str, Meta(pattern=r"\.", max_length=300)]
"""A table as SQL writes it, with its schema: `public.orders`, `public."Order Items"`."""

StatementLimit = Annotated[float, Meta(gt=0, le=14400)]
LockLimit = Annotated[float, Meta(gt=0, le=600)]

# The last checkpoint's timeline is an old one for a while after a promotion; the name of a WAL file is not.
_SERVER = """
select (select system_identifier::text from pg_control_system()) as system_identifier,
       current_database()::text as database, d.oid::bigint as database_oid, pg_is_in_recovery() as standby,
       case when pg_is_in_recovery() then (select timeline_id::int from pg_control_checkpoint())
            else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end as timeline
from pg_database d where d.datname = current_database()
"""
_TABLE = """
select c.oid::bigint as oid, c.relkind::text as kind, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as quoted,
       quote_ident(n.nspname) as quoted_schema, n.nspname::text as schema, c.relname::text as name,
       pg_total_relation_size(c.oid) as size_bytes, pg_get_userbyid(c.relowner)::text as owner,
       pg_has_role(c.relowner, 'usage') as owned, has_schema_privilege(n.oid, 'create') as may_create,
       has_schema_privilege(n.oid, 'usage') as usable,
       c.relpersistence = 't' as temporary
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2
"""


class Table(Struct, frozen=True):
    """A relation as the catalogue has it. What is `quoted` is fit for a statement, `quoted` itself with its schema.

    `owned` says whether the connected role has its owner's rights, `may_create` whether it may create in its schema,
    `usable` whether it may use the schema at all.
    """

    oid: int
    kind: str
    quoted: str
    quoted_schema: str
    schema: str
    name: str
    size_bytes: int
    owner: str
    owned: bool
    may_create: bool
    usable: bool
    temporary: bool


@asynccontextmanager
async def connection(env: Environment, target: Target, limit_s: float = LOOK_S) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the target's database, open for at most `limit_s`; names resolve in `pg_catalog` only."""
    conn = await env.connect(env.databases[target.name])
    try:
        async with asyncio.timeout(limit_s):
            await conn.execute("set search_path = pg_catalog")
            yield conn
    finally:
        with contextlib.suppress(TimeoutError):
            await conn.close(timeout=_CLOSE_S)


async def set_limits(conn: asyncpg.Connection, statement_s: float, lock_s: float) -> None:
    """Let the server end each following statement after so long, and each wait for a lock."""
    await conn.execute(
        "select set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)",
        f"{round(statement_s * 1000)}ms",
        f"{round(lock_s * 1000)}ms",
    )


async def execute(conn: asyncpg.Connection, statement: str, statement_s: float) -> None:
    """Run a statement that has no parameters; the server's own limit comes first, ours is for one that is cut off."""
    await conn.execute(statement, timeout=statement_s + _MARGIN_S)


def total_s(statements: int, statement_s: float) -> float:
    """How long a connection for so many statements may be needed."""
    return LOOK_S + statements * (statement_s + _MARGIN_S)


async def require_member(conn: asyncpg.Connection, *roles: str) -> None:
    """Raise `RefusedError` unless the connected role has the rights of each of these predefined roles."""
    for role in roles:
        if not await conn.fetchval("select pg_has_role($1, 'usage')", role):
            user = await conn.fetchval("select current_user::text")
            raise RefusedError("forbidden", f"grant {role} to {user!r}, the executor's role")


async def server_of(conn: asyncpg.Connection, *, primary: bool) -> dict[str, Any]:
    """Which server and database this is: `system_identifier`, `database`, `database_oid`, `timeline`.

    With `primary`, raises `RefusedError` on a standby, which nothing but its primary can change.
    """
    row = dict(await conn.fetchrow(_SERVER))
    if row.pop("standby") and primary:
        raise RefusedError("server_is_standby", f"database {row['database']!r}: the server is a standby")
    return row


async def refuse_other_server(conn: asyncpg.Connection, plan: Plan) -> None:
    """Raise `RefusedError` if this is not the server of the plan: failed over, restored, or another address."""
    now = await server_of(conn, primary=False)
    for change in plan.changes:
        if change["server"] != now:
            raise RefusedError("server_changed", f"planned on {change['server']}, connected to {now}")


async def find_table(conn: asyncpg.Connection, text: str, kinds: str) -> Table:
    """The table that SQL would take a text for. `kinds` are letters of `pg_class.relkind`.

    Raises `RefusedError`: `bad_name` for what is no name with a schema, `no_such_table`, `wrong_kind`.
    """
    try:
        parts = await conn.fetchval("select parse_ident($1)", text)
    except (asyncpg.DataError, asyncpg.PostgresSyntaxError) as error:
        raise RefusedError("bad_name", f"{text!r} is not a table's name: {error}") from error
    if len(parts) != 2:
        raise RefusedError("bad_name", f"{text!r} must be a schema and a table, e.g. public.orders")
    row = await conn.fetchrow(_TABLE, *parts)
    if row is None:
        raise RefusedError("no_such_table", f"there is no table {text} in this database")
    table = Table(**dict(row))
    if table.kind not in kinds or table.temporary:
        what = "temporary" if table.temporary else f"of kind {table.kind!r} (pg_class.relkind)"
        raise RefusedError("wrong_kind", f"{table.quoted} is {what}; this action takes {', '.join(kinds)}")
    return table


async def require_schema(conn: asyncpg.Connection, table: Table) -> None:
    """Raise `RefusedError` unless the connected role may use the table's schema."""
    if not table.usable:
        user = await conn.fetchval("select quote_ident(current_user)")
        raise RefusedError("forbidden", f"grant usage on schema {table.quoted_schema} to {user}")


async def same_table(conn: asyncpg.Connection, change: dict[str, Any], kinds: str) -> Table:
    """The table of a planned change. Raises `RefusedError` if it is gone or another has taken its name."""
    table = await find_table(conn, change["table"], kinds)
    if table.oid != change["oid"]:
        raise RefusedError("table_changed", f"{table.quoted} is not the one that was planned for: oid {table.oid}")
    return table


def failure(env: Environment, error: Exception, detail: dict[str, Any]) -> Result:
    """The result of a statement that raised. It did not happen, unless the connection went with it."""
    detail = {**detail, "error": env.redact(str(error)) or type(error).__name__}
    cut_off = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InterfaceError)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return Result("failed", "lock_not_available", detail)
    if isinstance(error, asyncpg.QueryCanceledError):
        return Result("failed", "time_limit", detail)
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return Result("failed", "forbidden", detail)
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, cut_off):
        return Result("failed", "statement_failed", detail)
    return Result("unknown", "no_answer", detail)


_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def ask(
    env: Environment,
    target: Target,
    plan: Plan | None,
    question: Callable[[asyncpg.Connection, Plan], Awaitable[Check]],
) -> Check:
    """Put a question to the server of the plan. No answer, or another server, is neither yes nor no."""
    if plan is None:
        return Check("unknown", "there is no plan: nothing was begun")
    try:
        async with connection(env, target) as conn:
            await refuse_other_server(conn, plan)
            return await question(conn, plan)
    except RefusedError as error:
        return Check("unknown", error.message)
    except _LOST as error:
        return Check("unknown", f"the database could not be asked: {env.redact(str(error)) or type(error).__name__}")
