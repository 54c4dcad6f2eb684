"""`postgres.create_index_concurrently`: an index on named columns, built while the table is in use.

A build that fails leaves an INVALID index, which costs every write and serves no query, and which `if not exists` would
take for the wished one. So the name is derived from what is asked for, and an invalid index of that name is dropped
first; if the build fails here, its remains are dropped at once. An index under construction is left to its builder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import asyncpg
from msgspec import Meta, Struct

from engine.actions import (
    Action,
    Check,
    Environment,
    Permission,
    Plan,
    RefusedError,
    Result,
    SqlGrant,
    SqlNote,
    SqlOwner,
    SqlPrivilege,
)
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
from engine.actions._sql import table_path
from engine.core.messages import Target

_KINDS = "rm"
_NAME_MAX_BYTES = 63
_FIRST_USER_OID = 16384  # lower ones are given out by initdb

_COLUMNS = """
select wanted.name, quote_ident(a.attname) as quoted from unnest($2::text[]) with ordinality as wanted(name, place)
left join pg_attribute a on a.attrelid = $1 and a.attname = wanted.name and a.attnum > 0 and not a.attisdropped
order by wanted.place
"""
# An index of another collation or operator class, of expressions or of some rows only does not serve the same queries.
_INDEXES = """
select c.relname::text as name, i.indexrelid::bigint as oid, i.indisvalid and i.indisready and i.indislive as valid,
       m.amname::text as method, i.indpred is null and i.indexprs is null and usual.all_usual as plain,
       array(select a.attname::text from unnest(i.indkey) with ordinality as k(attnum, place)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.place <= i.indnkeyatts order by k.place) as columns,
       exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid) as being_built
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam,
     lateral (select bool_and(o.opcdefault and (coll.oid = 0 or coll.oid = coalesce(a.attcollation, 0))) as all_usual
              from unnest(i.indclass, i.indcollation) with ordinality as coll(opclass, oid, place)
              join pg_opclass o on o.oid = coll.opclass
              left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[coll.place - 1]) as usual
where i.indrelid = $1 order by c.relname
"""
_TAKEN = """
select c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2
"""


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """The columns, in the order of the index, by their exact names; no expressions.

    `timeout_s` is for the build. `lock_timeout_s` is also how long it waits for each transaction that began before it.
    """

    table: TableName
    columns: Annotated[list[Annotated[str, Meta(min_length=1, max_length=63)]], Meta(min_length=1, max_length=32)]
    method: Literal["btree", "hash", "gin", "gist", "brin"] = "btree"
    timeout_s: StatementLimit = 1800.0
    lock_timeout_s: LockLimit = 60.0


class Index(Struct, frozen=True):
    """An index of the table. `plain`: on all rows, of columns only, with the usual order."""

    name: str
    oid: int
    valid: bool
    method: str
    plain: bool
    columns: list[str]
    being_built: bool

    def serves(self, params: Params) -> bool:
        """Whether the wished index would bring nothing that this one does not; a B-tree also serves its beginning."""
        begins = self.columns[: len(params.columns)] if self.method == "btree" else self.columns
        return self.valid and self.plain and self.method == params.method and begins == params.columns


def index_name(schema: str, table: str, params: Params) -> str:
    """The name of the index: the seed's `idx_<table>_<columns>`, cut, and a digest of what was asked for.

    At most 63 bytes in UTF-8, PostgreSQL's limit; the same request has the same name.
    """
    identity = "\0".join([schema, table, params.method, *params.columns])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    head = "_".join(["idx", table, *params.columns]).encode()[: _NAME_MAX_BYTES - len(digest) - 1]
    return f"{head.decode(errors='ignore')}_{digest}"


class _Survey(Struct, frozen=True):
    """What there is, and the statements that lead to the wished index; none if `serving` does already."""

    table: Table
    name: str
    serving: str | None
    drop: str | None
    create: str

    def statements(self) -> list[str]:
        return [] if self.serving else [self.create] if self.drop is None else [self.drop, self.create]


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """What would be dropped and built; nothing if an index of the table already serves."""
    async with connection(env, target) as conn:
        await require_member(conn, "pg_read_all_stats")
        server = await server_of(conn, primary=True)
        survey = await _survey(conn, await find_table(conn, params.table, _KINDS), params)
    table = survey.table
    of_table = {"server": server, "table": table.quoted, "oid": table.oid, "size_bytes": table.size_bytes}
    changes = [{**of_table, "name": survey.name, "statement": statement} for statement in survey.statements()]
    if survey.serving is not None:
        return Plan(f"nothing to do: {table.quoted} has the index {survey.serving}", changes)
    return Plan(f"build {survey.name} on {table.quoted} in {target.name}", changes)


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Drop an invalid leftover, build, and drop what a failed build leaves."""
    async with connection(env, target, total_s(3, params.timeout_s)) as conn:
        await refuse_other_server(conn, plan)
        survey = await _survey(conn, await same_table(conn, plan.changes[0], _KINDS), params)
        if survey.serving is None and survey.statements() != [change["statement"] for change in plan.changes]:
            raise RefusedError("index_changed", f"the invalid index {survey.name} has come or gone since the plan")
        await set_limits(conn, params.timeout_s, params.lock_timeout_s)
        done: list[str] = []
        for statement in survey.statements():
            if await env.paused():
                return Result("failed", "paused", {"done": done})
            try:
                await execute(conn, statement, params.timeout_s)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                remains = await _drop_remains(conn, survey, params)
                return failure(env, error, {"done": done, "statement": statement, "remains": remains})
            done.append(statement)
    return Result("done", "built", {"index": survey.serving or survey.name, "done": done})


async def _drop_remains(conn: asyncpg.Connection, survey: _Survey, params: Params) -> str:
    """Drop what a failed build has left, if it can be had; the next command for the same index tries again."""
    try:
        left = _named(await _indexes(conn, survey.table.oid), survey.name)
        if left is None or left.valid or left.being_built:
            return "none"
        await execute(conn, await _drop_of(conn, survey.table, survey.name), params.timeout_s)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return f"the invalid index {survey.name} may be left: {error or type(error).__name__}"
    return f"the invalid index {survey.name} was dropped"


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether the planned index is there and valid."""
    return await ask(env, target, plan, _check)


async def _check(conn: asyncpg.Connection, plan: Plan) -> Check:
    await require_member(conn, "pg_read_all_stats")
    for change in plan.changes[-1:]:
        index = _named(await _indexes(conn, change["oid"]), change["name"])
        if index is None:
            return Check("no", f"there is no index {change['name']} on {change['table']}")
        if index.being_built:
            return Check("unknown", f"the index {index.name} is still being built")
        if not index.valid:
            return Check("no", f"the index {index.name} is invalid: its build has failed")
    return Check("yes", "the index is there and valid")


async def _survey(conn: asyncpg.Connection, table: Table, params: Params) -> _Survey:
    """Raises `RefusedError` for what stands against the index."""
    if table.oid < _FIRST_USER_OID:
        raise RefusedError("system_table", f"{table.quoted} belongs to the server")
    await _require_rights(conn, table)
    columns = await _quoted_columns(conn, table, params.columns)
    name = index_name(table.schema, table.name, params)
    indexes = await _indexes(conn, table.oid)
    serving = next((index.name for index in indexes if index.serves(params)), None)
    same_name = _named(indexes, name)
    if same_name is not None and same_name.being_built:
        raise RefusedError("index_being_built", f"{name} on {table.quoted} is being built right now")
    if serving is None and (same_name.valid if same_name else await conn.fetchval(_TAKEN, table.schema, name)):
        raise RefusedError("name_taken", f"{name} in the schema {table.schema} is something else; rename it")
    quoted = await conn.fetchval("select quote_ident($1)", name)
    create = f"create index concurrently {quoted} on {table.quoted} using {params.method} ({', '.join(columns)})"
    drop = await _drop_of(conn, table, name) if same_name is not None else None
    return _Survey(table, name, serving, drop, create)


async def _require_rights(conn: asyncpg.Connection, table: Table) -> None:
    user = await conn.fetchval("select current_user::text")
    if not table.owned:
        raise RefusedError("forbidden", f"only an owner can index {table.quoted}: grant {table.owner} to {user}")
    await require_schema(conn, table)
    if not table.may_create:
        raise RefusedError("forbidden", f"grant create on schema {table.quoted_schema} to {user}")


async def _quoted_columns(conn: asyncpg.Connection, table: Table, columns: list[str]) -> list[str]:
    rows = await conn.fetch(_COLUMNS, table.oid, columns)
    missing = [row["name"] for row in rows if row["quoted"] is None]
    if missing:
        raise RefusedError("no_such_column", f"{table.quoted} has no column {', '.join(map(repr, missing))}")
    return [row["quoted"] for row in rows]


async def _indexes(conn: asyncpg.Connection, table_oid: int) -> list[Index]:
    return [Index(**dict(row)) for row in await conn.fetch(_INDEXES, table_oid)]


def _named(indexes: list[Index], name: str) -> Index | None:
    return next((index for index in indexes if index.name == name), None)


async def _drop_of(conn: asyncpg.Connection, table: Table, name: str) -> str:
    return f"drop index concurrently {table.quoted_schema}.{await conn.fetchval('select quote_ident($1)', name)}"


def _permissions_for(literal: Mapping[str, Any]) -> tuple[Permission, ...] | None:
    path = table_path(literal.get("table"))
    if path is None:
        return None
    schema = path[:1]
    on_schema = SqlPrivilege("USAGE", "SCHEMA", schema), SqlPrivilege("CREATE", "SCHEMA", schema)
    return SqlGrant("pg_read_all_stats"), *on_schema, SqlOwner(path)


ACTION = Action(
    name="postgres.create_index_concurrently",
    summary="Build an index while its table is in use.",
    target_kind="postgres",
    params=Params,
    destructive=False,
    permissions=(
        SqlGrant("pg_read_all_stats"),
        SqlNote("membership of the table's owner, and USAGE and CREATE on its schema"),
    ),
    permissions_for=_permissions_for,
    plan=plan,
    run=run,
    verify=verify,
)
