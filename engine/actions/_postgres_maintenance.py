"""`postgres.analyze` and `postgres.vacuum`: a statement for each of some named tables, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import asyncpg
from msgspec import Meta, Struct

from engine.actions import Check, Environment, Permission, Plan, RefusedError, Result, SqlGrant, SqlNote, SqlPrivilege
from engine.actions._postgres import (
    LockLimit,
    StatementLimit,
    Table,
    TableName,
    ask,
    connection,
    execute,
    failure,
    find_table,
    refuse_other_server,
    require_member,
    require_schema,
    same_table,
    server_of,
    set_limits,
    total_s,
)
from engine.actions._sql import table_paths
from engine.core.messages import Target

_WATCH_S = 0.5
_MAINTAIN_SINCE = 170000
_STATE = """
select (extract(epoch from {last}) * 1000000)::bigint as last_us,
       pg_stat_get_live_tuples($1) as live_rows, pg_stat_get_dead_tuples($1) as dead_rows
"""
_OWNS_DATABASE = "select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()"


class Params(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tables with their schemas, e.g. `public.orders`; the longest time for each, and for its lock."""

    tables: Annotated[list[TableName], Meta(min_length=1, max_length=100)]
    timeout_s: StatementLimit = 300.0
    lock_timeout_s: LockLimit = 5.0


@dataclass(frozen=True)
class Maintenance:
    """A statement that the server counts when it has been done to a table.

    `command(params)` is all of it but the table. `last` names the function that tells when it was last done by hand,
    `kinds` the relations it is for, `progress` the view that shows how far it is.
    """

    verb: str
    command: Callable[[Any], str]
    last: str
    kinds: str
    progress: str

    async def plan(self, env: Environment, target: Target, params: Params) -> Plan:
        """Each table with its size, its rows, and when this was last done to it."""
        changes: list[dict[str, Any]] = []
        async with connection(env, target) as conn:
            await require_member(conn, "pg_read_all_stats")
            server = await server_of(conn, primary=True)
            for name in params.tables:
                table = await find_table(conn, name, self.kinds)
                if all(change["oid"] != table.oid for change in changes):
                    await require_schema(conn, table)
                    await _require_maintain(conn, table)
                    found = {"table": table.quoted, "oid": table.oid, "size_bytes": table.size_bytes}
                    state = await self._state(conn, table.oid)
                    statement = f"{self.command(params)} {table.quoted}"
                    changes.append({"server": server, **found, **state, "statement": statement})
        return Plan(f"{self.verb} {', '.join(change['table'] for change in changes)} in {target.name}", changes)

    async def run(self, env: Environment, target: Target, params: Params, plan: Plan) -> Result:
        """One table after the other; the first that fails ends it."""
        done: list[str] = []
        limit_s = total_s(len(plan.changes), params.timeout_s)
        async with connection(env, target, limit_s) as conn, connection(env, target, limit_s) as watcher:
            await refuse_other_server(conn, plan)
            await set_limits(conn, params.timeout_s, params.lock_timeout_s)
            for change in plan.changes:
                detail: dict[str, Any] = {"done": done, "of": len(plan.changes)}
                if await env.paused():
                    return Result("failed", "paused", detail)
                progress: dict[str, Any] = {}
                try:
                    table = await same_table(conn, change, self.kinds)
                    work = execute(conn, f"{self.command(params)} {table.quoted}", params.timeout_s)
                    await self._watched(work, watcher, conn.get_server_pid(), progress)
                except RefusedError as error:
                    return Result("failed", error.reason, detail | {"error": error.message})
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    return failure(env, error, detail | {"table": change["table"], "progress": progress})
                done.append(change["table"])
        return Result("done", "done", {"done": done})

    async def verify(self, env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
        """Whether the server has counted it for each planned table since the plan."""
        return await ask(env, target, plan, self._check)

    async def _check(self, conn: asyncpg.Connection, plan: Plan) -> Check:
        undone: list[str] = []
        dead_rows = 0
        for change in plan.changes:
            state = await self._state(conn, change["oid"])
            dead_rows += state["dead_rows"]
            if (state["last_us"] or 0) <= (change["last_us"] or 0):
                undone.append(change["table"])
        if undone:
            return Check("no", f"{self.verb} has not been done to {', '.join(undone)}")
        return Check("yes", f"{self.verb} has been done to {len(plan.changes)} tables; {dead_rows} dead rows are left")

    async def _state(self, conn: asyncpg.Connection, oid: int) -> dict[str, Any]:
        return dict(await conn.fetchrow(_STATE.format(last=f"{self.last}($1)"), oid))

    async def _watched(self, work: Any, watcher: asyncpg.Connection, pid: int, progress: dict[str, Any]) -> None:
        """Await the work, and keep in `progress` the last that the server said of it."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_WATCH_S))[0]:
                # Only for the report: not to know how far it is must not end it.
                with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    row = await watcher.fetchrow(f"select * from {self.progress} where pid = $1", pid)  # noqa: S608
                    progress.update({} if row is None else {k: v for k, v in row.items() if isinstance(v, int | str)})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        await task


def permissions_for(literal: Mapping[str, Any]) -> tuple[Permission, ...] | None:
    """What is enough for the tables that a runbook names."""
    tables = table_paths(literal.get("tables"))
    if tables is None:
        return None
    schemas = sorted({schema for schema, _ in tables})
    on_schemas = [SqlPrivilege("USAGE", "SCHEMA", (schema,)) for schema in schemas]
    on_tables = [SqlPrivilege("MAINTAIN", "TABLE", path) for path in tables]
    return SqlGrant("pg_read_all_stats"), *on_schemas, *on_tables


PERMISSIONS: tuple[Permission, ...] = (
    SqlGrant("pg_read_all_stats"),
    SqlGrant("pg_maintain", "the tables are known only at run time, so this is for every table"),
    SqlNote("USAGE on the schemas of the tables"),
)


async def _require_maintain(conn: asyncpg.Connection, table: Table) -> None:
    """Without it the server only warns and skips the table, which would look like work done."""
    if table.owned or await conn.fetchval(_OWNS_DATABASE):
        return
    version = int(await conn.fetchval("select current_setting('server_version_num')"))
    user = await conn.fetchval("select current_user::text")
    if version < _MAINTAIN_SINCE:
        raise RefusedError("forbidden", f"grant {table.owner}, the owner of {table.quoted}, to {user!r}")
    if not await conn.fetchval("select has_table_privilege($1::oid, 'MAINTAIN')", table.oid):
        raise RefusedError("forbidden", f"grant maintain on {table.quoted} to {user!r}, or pg_maintain")
