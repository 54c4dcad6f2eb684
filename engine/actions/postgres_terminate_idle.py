"""`postgres.terminate_idle`: end client connections that have been idle for long, of named roles, in one database.

The seed's command, mended: the column is `state_change`; only client backends; not oneself; never superusers or
replication; and each backend is looked at again at the moment of acting, because process ids are reused.
"""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, Plan, Result, SqlGrant
from engine.actions._postgres import ask, connection, failure, refuse_other_server, require_member, server_of
from engine.core.messages import Target

_GRANTS = ("pg_signal_backend", "pg_read_all_stats")

# $1 idle for so many seconds, $2 roles
_BACKENDS = "from pg_stat_activity a join pg_roles r on r.oid = a.usesysid where"
_IS_IDLE = """
  a.datname = current_database()
  and a.backend_type = 'client backend'
  and a.pid <> pg_backend_pid()
  and a.state = 'idle'
  and a.state_change < clock_timestamp() - make_interval(secs => $1)
  and a.usename = any($2::text[])
  and not r.rolsuper and not r.rolreplication
"""
_BORN_US = "(extract(epoch from a.backend_start) * 1000000)::bigint"
_LIST = f"""
select a.pid, {_BORN_US} as backend_start_us, a.usename as role, a.application_name,
       host(a.client_addr) as client, extract(epoch from clock_timestamp() - a.state_change)::bigint as idle_s
{_BACKENDS} {_IS_IDLE} order by a.state_change, a.pid limit $3
"""  # noqa: S608  # constants
# $3 process ids, $4 their starts
_LEFT = f"""
select count(*) as alive, count(*) filter (where {_IS_IDLE}) as idle {_BACKENDS}
  (a.pid, {_BORN_US}) in (select * from unnest($3::int[], $4::bigint[]))
"""  # noqa: S608  # constants
_END = f"select pg_terminate_backend(a.pid, 5000) {_BACKENDS} {_IS_IDLE} and a.pid = $3 and {_BORN_US} = $4"


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """Connections idle for longer than `idle_minutes`, of one of `roles`; of them the `max_count` longest idle."""

    idle_minutes: Annotated[float, Meta(gt=0, le=10080)]
    roles: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    max_count: Annotated[int, Meta(ge=1, le=1000)] = 50


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The backends that would be terminated."""
    async with connection(env, target) as conn:
        # Who cannot see what others do would find nothing idle, and that must not pass for health.
        await require_member(conn, *_GRANTS)
        server = await server_of(conn, primary=False)
        rows = await conn.fetch(_LIST, params.idle_minutes * 60, params.roles, params.max_count)
    changes = [{"server": server, **dict(row)} for row in rows]
    return Plan(f"terminate {len(changes)} idle connections in {target.name}", changes)


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Terminate the planned backends that are still the same and still idle."""
    ended: list[int] = []
    kept: list[dict[str, Any]] = []
    async with connection(env, target) as conn:
        await refuse_other_server(conn, plan)
        for change in plan.changes:
            pid = change["pid"]
            detail = {"terminated": len(ended), "pids": ended, "of": len(plan.changes)}
            if await env.paused():
                return Result("failed", "paused", detail)
            try:
                gone = await conn.fetchval(
                    _END, params.idle_minutes * 60, params.roles, pid, change["backend_start_us"]
                )
            except asyncpg.PostgresError as error:
                return failure(env, error, detail)
            if gone:
                ended.append(pid)
            else:
                kept.append({"pid": pid, "why": "no longer idle or gone" if gone is None else "did not end in 5 s"})
    return Result("done", "terminated", {"terminated": len(ended), "pids": ended, "kept": kept})


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether none of the planned backends is still there and idle. Others that are idle too do not count."""

    async def check(conn: asyncpg.Connection, plan: Plan) -> Check:
        await require_member(conn, "pg_read_all_stats")
        planned = [[change[key] for change in plan.changes] for key in ("pid", "backend_start_us")]
        left = await conn.fetchrow(_LEFT, params.idle_minutes * 60, params.roles, *planned)
        idle, used = left["idle"], left["alive"] - left["idle"]
        gone = len(plan.changes) - left["alive"]
        why = f"of {len(plan.changes)} planned connections {gone} are gone, {used} in use again, {idle} still idle"
        return Check("yes" if idle == 0 else "no", why)

    return await ask(env, target, plan, check)


ACTION = Action(
    name="postgres.terminate_idle",
    summary="Terminate client connections that have been idle for long.",
    target_kind="postgres",
    params=Params,
    destructive=True,
    permissions=tuple(SqlGrant(role) for role in _GRANTS),
    plan=plan,
    run=run,
    verify=verify,
)
