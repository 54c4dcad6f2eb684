"""`postgres.cancel_long_queries`: cancel statements that have run for long, of named roles, in one database.

The connection stays; its statement ends with an error and its transaction is rolled back. Never cancelled are the
executor's own role, superusers, replication, background processes, and backends that vacuum, analyze, cluster,
build an index or take a backup. Each is looked at again by the statement that cancels it: same process, same start,
same query. PostgreSQL signals processes, so a query that begins within that last moment can still be hit.
"""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, Plan, Result, SqlGrant
from engine.actions._postgres import ask, connection, failure, refuse_other_server, require_member, server_of
from engine.core.messages import Target

_ROUNDS = 20
_PAUSE_S = 0.25
_GRANTS = ("pg_signal_backend", "pg_read_all_stats")

_FROM = "from pg_stat_activity a join pg_roles r on r.oid = a.usesysid where"
# $1 running for so many seconds, $2 roles, $3 application names or null
_IS_LONG = """
  a.datname = current_database()
  and a.backend_type = 'client backend'
  and a.pid <> pg_backend_pid()
  and a.usename not in (current_user, session_user)
  and a.state = 'active'
  and a.query_start < clock_timestamp() - make_interval(secs => $1)
  and a.usename = any($2::text[])
  and ($3::text[] is null or a.application_name = any($3::text[]))
  and a.application_name not in ('pg_dump', 'pg_dumpall', 'pg_restore', 'pg_basebackup')
  and not r.rolsuper and not r.rolreplication
  and a.pid not in (
    select pid from pg_stat_progress_vacuum union select pid from pg_stat_progress_analyze
    union select pid from pg_stat_progress_cluster union select pid from pg_stat_progress_create_index
    union select pid from pg_stat_progress_basebackup)
"""
_BACKEND_US = "(extract(epoch from a.backend_start) * 1000000)::bigint"
_QUERY_US = "(extract(epoch from a.query_start) * 1000000)::bigint"
_LIST = f"""
select a.pid, {_BACKEND_US} as backend_start_us, {_QUERY_US} as query_start_us, a.usename::text as role,
       a.application_name, host(a.client_addr) as client,
       extract(epoch from clock_timestamp() - a.query_start)::bigint as running_s,
       a.wait_event_type || ':' || a.wait_event as waits_for, left(a.query, 200) as query
{_FROM} {_IS_LONG} order by a.query_start, a.pid limit $4
"""  # noqa: S608  # constants
_CANCEL = f"""
select pg_cancel_backend(a.pid) {_FROM} {_IS_LONG}
  and a.pid = $4 and {_BACKEND_US} = $5 and {_QUERY_US} = $6
"""  # constants
_RUNNING = f"""
select a.pid from pg_stat_activity a where a.state = 'active' and (a.pid, {_BACKEND_US}, {_QUERY_US}) in
  (select * from unnest($1::int[], $2::bigint[], $3::bigint[])) order by a.pid
"""  # noqa: S608  # constants
_Name = Annotated[str, Meta(min_length=1, max_length=63)]


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """Queries running for longer than `older_than_s`, of one of `roles`; of them the `max_count` longest.

    With `applications`, only of connections that call themselves so (`application_name`).
    """

    older_than_s: Annotated[float, Meta(gt=0, le=604800)]
    roles: Annotated[list[_Name], Meta(min_length=1)]
    applications: Annotated[list[_Name], Meta(min_length=1)] | None = None
    max_count: Annotated[int, Meta(ge=1, le=1000)] = 20


def _whom(params: Params) -> tuple[float, list[str], list[str] | None]:
    return params.older_than_s, params.roles, params.applications


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The queries that would be cancelled, the longest first, with the beginning of their text."""
    async with connection(env, target) as conn:
        # Who cannot see what others run would find nothing, and that must not pass for health.
        await require_member(conn, *_GRANTS)
        server = await server_of(conn, primary=False)
        rows = await conn.fetch(_LIST, *_whom(params), params.max_count)
    changes = [{"server": server, **dict(row), "query": env.redact(row["query"])} for row in rows]
    return Plan(f"cancel {len(changes)} long queries in {target.name}", changes)


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Cancel the planned queries that are still the same, and see whether they end."""
    cancelled: list[dict[str, Any]] = []
    kept: list[int] = []
    async with connection(env, target) as conn:
        await refuse_other_server(conn, plan)
        for change in plan.changes:
            detail = {"cancelled": [one["pid"] for one in cancelled], "kept": kept, "of": len(plan.changes)}
            if await env.paused():
                return Result("failed", "paused", detail)
            identity = change["pid"], change["backend_start_us"], change["query_start_us"]
            try:
                sent = await conn.fetchval(_CANCEL, *_whom(params), *identity)
            except asyncpg.PostgresError as error:
                return failure(env, error, detail)
            if sent:
                cancelled.append(change)
            else:
                kept.append(change["pid"])
        left = await _wait_for_end(env, conn, cancelled)
    detail = {"cancelled": [one["pid"] for one in cancelled], "kept": kept, "still_running": left}
    return Result("done", "cancelled", detail)


async def _wait_for_end(env: Environment, conn: asyncpg.Connection, changes: list[dict[str, Any]]) -> list[int]:
    """The process ids of those that are still at the same query after a while; a signal is not yet an end."""
    left: list[int] = []
    for attempt in range(_ROUNDS):
        if attempt:
            await env.sleep(_PAUSE_S)
        left = await _still_running(conn, changes)
        if not left:
            break
    return left


async def _still_running(conn: asyncpg.Connection, changes: list[dict[str, Any]]) -> list[int]:
    columns = [[one[key] for one in changes] for key in ("pid", "backend_start_us", "query_start_us")]
    return [row["pid"] for row in await conn.fetch(_RUNNING, *columns)]


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether none of the planned queries runs any more. Other long ones do not count."""
    return await ask(env, target, plan, _check)


async def _check(conn: asyncpg.Connection, plan: Plan) -> Check:
    await require_member(conn, "pg_read_all_stats")
    left = await _still_running(conn, plan.changes)
    return Check("no" if left else "yes", f"of {len(plan.changes)} planned queries {len(left)} still run")


ACTION = Action(
    name="postgres.cancel_long_queries",
    summary="Cancel queries that have been running for long.",
    target_kind="postgres",
    params=Params,
    destructive=True,
    permissions=tuple(SqlGrant(role) for role in _GRANTS),
    plan=plan,
    run=run,
    verify=verify,
)
