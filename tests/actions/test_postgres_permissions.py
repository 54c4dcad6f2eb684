"""Least privilege on PostgreSQL: what `sentinel permissions` prints is enough, and with any one less it is named."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import Environment, Plan, RefusedError, SqlGrant, SqlOwner, SqlPrivilege, load_actions
from engine.actions._sql import quoted, sql_grants, table_path
from engine.cli.permissions import Format, permissions
from engine.core.messages import Target
from engine.edge.database import url_of
from engine.edge.lacking import lacking_in_database
from tests.postgresql import oldest_postgresql, running_postgresql

ACTIONS = load_actions()
TARGET = Target("postgres", "main")
TABLE = 'shop."Order Items"'
_numbers = itertools.count(1)
_SCENE = """
create role keeper; create role owner; create role app login; create role exec login; create role less login;
create schema shop authorization keeper;
create table shop."Order Items" (id int, customer int);
alter table shop."Order Items" owner to owner;
"""
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "postgres.analyze",
        {"tables": [TABLE]},
        ["member of pg_read_all_stats", "USAGE on schema shop", "MAINTAIN on table shop.Order Items"],
    ),
    (
        "postgres.vacuum",
        {"tables": [TABLE], "analyze": True},
        ["member of pg_read_all_stats", "USAGE on schema shop", "MAINTAIN on table shop.Order Items"],
    ),
    (
        "postgres.create_index_concurrently",
        {"table": TABLE, "columns": ["customer"]},
        [
            "member of pg_read_all_stats",
            "USAGE on schema shop",
            "CREATE on schema shop",
            "member of the owner of shop.Order Items",
        ],
    ),
    (
        "postgres.alter_system",
        {"setting": "log_lock_waits", "value": True},
        [
            "member of pg_read_all_settings",
            "EXECUTE on function pg_catalog.pg_reload_conf",
            "ALTER SYSTEM on parameter log_lock_waits",
        ],
    ),
    (
        "postgres.terminate_idle",
        {"idle_minutes": 0.000001, "roles": ["app"]},
        ["member of pg_signal_backend", "member of pg_read_all_stats"],
    ),
    (
        "postgres.cancel_long_queries",
        {"older_than_s": 0.000001, "roles": ["app"]},
        ["member of pg_signal_backend", "member of pg_read_all_stats"],
    ),
]
Printed = Callable[[str, dict[str, Any]], str]


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Printed:
    """What the command prints for a runbook of one action."""

    def ask(action: str, params: dict[str, Any]) -> str:
        steps = [
            {"name": "act", "act": {"action": action, "target": "main", "params": params}},
            {"name": "seen", "verify": {}},
        ]
        head = {"name": "One", "match": ['alertname="One"'], "priority": "P2", "summary": "one"}
        file = tmp_path / "runbooks.yml"
        file.write_text(yaml.safe_dump({"runbooks": [head | {"escalation": [{"to": "on-call"}], "steps": steps}]}))
        permissions([file], Format.sql, role="exec")
        return capsys.readouterr().out

    return ask


class Scene:
    """A database with a table whose owner owns nothing else, and two connections of somebody who is idle."""

    def __init__(self, url: str, admin: asyncpg.Connection, app: asyncpg.Connection) -> None:
        self.url = url
        self.admin = admin
        self._app = app
        self._queries: list[asyncio.Task[object]] = []

    def begin_query(self) -> None:
        """One of them is at a long query from now on."""
        self._queries.append(asyncio.ensure_future(self._app.execute("select pg_sleep(60)")))

    async def end_query(self) -> None:
        """As it was before."""
        for task in self._queries:
            task.cancel()
        await asyncio.gather(*self._queries, return_exceptions=True)

    def env(self, role: str) -> Environment:
        connect = partial(asyncpg.connect, timeout=10, command_timeout=30)
        databases = {"main": self.url.replace("postgres@", f"{role}@")}
        settings = frozenset({"log_lock_waits"})
        return Environment({}, databases, httpx.AsyncClient(), connect, asyncio.sleep, postgres_settings=settings)

    async def lacking(self, role: str, action: str, params: dict[str, Any]) -> list[str]:
        conn = await asyncpg.connect(self.url.replace("postgres@", f"{role}@"))
        try:
            return await lacking_in_database(conn, ACTIONS[action].needed(params))  # type: ignore[arg-type]  # all SQL
        finally:
            await conn.close()


@pytest.fixture(scope="module")
def oldest_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL 15, as superuser."""
    with running_postgresql(tmp_path_factory.mktemp("oldest"), {}, oldest_postgresql()) as url:
        yield url


@pytest_asyncio.fixture
async def scene(postgres_url: str) -> AsyncIterator[Scene]:
    async with _built(postgres_url) as made:
        yield made


@pytest_asyncio.fixture
async def oldest_scene(oldest_url: str) -> AsyncIterator[Scene]:
    async with _built(oldest_url) as made:
        yield made


@asynccontextmanager
async def _built(postgres_url: str) -> AsyncIterator[Scene]:
    name = f"least_{next(_numbers)}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"create database {name}")
    url = url_of(postgres_url, name)
    admin = await asyncpg.connect(url)
    await admin.execute(_SCENE)
    idle, busy = [await asyncpg.connect(url.replace("postgres@", "app@")) for _ in range(2)]
    made = Scene(url, admin, busy)
    yield made
    await made.end_query()
    for conn in (idle, busy):
        conn.terminate()
    await admin.execute("alter system reset all")
    await admin.close()
    await server.execute(f"drop database {name} with (force)")
    await server.execute("drop owned by exec, less; drop role exec, less, app, owner, keeper")
    await server.close()


async def plan_of(env: Environment, action: str, params: dict[str, Any]) -> Plan:
    one = ACTIONS[action]
    return await one.plan(env, TARGET, one.decode_params(params))


@pytest.mark.parametrize(("action", "params", "named"), CASES, ids=lambda value: str(value)[:30])
async def test_with_what_is_printed_the_action_works_and_with_one_less_it_names_what_is_missing(
    scene: Scene, printed: Printed, action: str, params: dict[str, Any], named: list[str]
) -> None:
    if action == "postgres.cancel_long_queries":
        scene.begin_query()
    needed = list(ACTIONS[action].needed(params))
    assert sorted(map(str, needed)) == sorted(named)
    for one in needed:
        await scene.admin.execute("\n".join(sql_grants([other for other in needed if other != one], "less")))
        with pytest.raises(RefusedError) as caught:
            await plan_of(scene.env("less"), action, params)
        assert caught.value.reason == "forbidden"
        assert _what(one) in caught.value.message.lower(), caught.value
        assert await scene.lacking("less", action, params) == [one.statement("less")]  # type: ignore[union-attr]
        await _take_all(scene.admin, "less")
    await scene.admin.execute(printed(action, params))
    assert await scene.lacking("exec", action, params) == []
    env, given_params = scene.env("exec"), ACTIONS[action].decode_params(params)
    plan = await plan_of(env, action, params)
    assert plan.changes
    assert (await ACTIONS[action].run(env, TARGET, given_params, plan)).status == "done"
    assert (await ACTIONS[action].verify(env, TARGET, given_params, plan)).state == "yes"


@pytest.mark.real
@pytest.mark.parametrize(("action", "params", "named"), CASES, ids=lambda value: str(value)[:30])
async def test_on_the_oldest_postgresql_what_the_executor_says_it_lacks_is_enough_and_no_part_can_be_left_out(
    oldest_scene: Scene, action: str, params: dict[str, Any], named: list[str]
) -> None:
    scene = oldest_scene
    if action == "postgres.cancel_long_queries":
        scene.begin_query()
    lacking = await scene.lacking("less", action, params)
    assert len(lacking) == len(named)
    assert not any("MAINTAIN" in statement for statement in lacking), "the owner's role instead: there is no MAINTAIN"
    assert [name.startswith(("MAINTAIN", "member of the owner")) for name in named].count(True) == sum(
        statement.startswith("DO") for statement in lacking
    )
    for one in lacking:
        await scene.admin.execute("\n".join(other for other in lacking if other != one))
        with pytest.raises(RefusedError) as caught:
            await plan_of(scene.env("less"), action, params)
        assert caught.value.reason == "forbidden"
        assert await scene.lacking("less", action, params) == [one]
        await _take_all(scene.admin, "less")
    for one in await scene.lacking("exec", action, params):
        await scene.admin.execute(one)
    env, given_params = scene.env("exec"), ACTIONS[action].decode_params(params)
    plan = await plan_of(env, action, params)
    assert plan.changes
    assert (await ACTIONS[action].run(env, TARGET, given_params, plan)).status == "done"
    assert (await ACTIONS[action].verify(env, TARGET, given_params, plan)).state == "yes"


def _what(one: object) -> str:
    """What the refusal has to name."""
    if isinstance(one, SqlGrant):
        return one.role
    if isinstance(one, SqlOwner):
        return "grant owner to less"
    assert isinstance(one, SqlPrivilege)
    kind = "" if one.kind == "TABLE" else f"{one.kind} "
    return f"grant {one.privilege} on {kind}{'' if one.kind != 'TABLE' else 'shop.'}".lower()


async def _take_all(admin: asyncpg.Connection, role: str) -> None:
    """Everything that was granted to a role, memberships too."""
    await admin.execute(f"drop owned by {role}")
    member = "select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid where m.member = $1::regrole"
    for row in await admin.fetch(member, role):
        await admin.execute(f"revoke {row['rolname']} from {role}")


async def test_a_table_that_a_superuser_owns_is_not_opened_by_making_the_executor_one(scene: Scene) -> None:
    await scene.admin.execute(f"alter table {TABLE} owner to postgres")
    (statement,) = sql_grants([SqlOwner(("shop", "Order Items"))], "exec")
    with pytest.raises(asyncpg.RaiseError, match="the superuser postgres owns the table"):
        await scene.admin.execute(statement)


async def test_the_owner_needs_no_membership_of_itself(scene: Scene) -> None:
    (statement,) = sql_grants([SqlOwner(("shop", "Order Items"))], "owner")
    await scene.admin.execute(statement)


async def test_a_table_that_is_not_there_is_said_to_be_missing(scene: Scene) -> None:
    lacking = await scene.lacking("exec", "postgres.vacuum", {"tables": ["shop.nowhere"]})
    assert 'there is no "shop"."nowhere" in this database' in lacking


def test_tables_known_only_at_run_time_ask_for_all_of_them(printed: Printed) -> None:
    assert printed("postgres.vacuum", {"tables": ["public.{{ labels.table }}"]}).splitlines() == [
        "-- database main",
        '-- "exec" needs besides: USAGE on the schemas of the tables',
        "-- the tables are known only at run time, so this is for every table",
        'GRANT pg_maintain TO "exec";',
        'GRANT pg_read_all_stats TO "exec";',
    ]


def test_what_is_printed_is_exact_and_says_what_holds_before_postgresql_17(printed: Printed) -> None:
    assert printed("postgres.analyze", {"tables": ["public.orders", TABLE]}).splitlines() == [
        "-- database main",
        'GRANT MAINTAIN ON TABLE "public"."orders" TO "exec";',
        '-- before PostgreSQL 17 there is no MAINTAIN: grant the role that owns "public"."orders" instead',
        'GRANT MAINTAIN ON TABLE "shop"."Order Items" TO "exec";',
        '-- before PostgreSQL 17 there is no MAINTAIN: grant the role that owns "shop"."Order Items" instead',
        'GRANT USAGE ON SCHEMA "public" TO "exec";',
        'GRANT USAGE ON SCHEMA "shop" TO "exec";',
        'GRANT pg_read_all_stats TO "exec";',
    ]
    assert printed("postgres.alter_system", {"setting": "work_mem", "value": "64MB"}).splitlines() == [
        "-- database main",
        'GRANT ALTER SYSTEM ON PARAMETER "work_mem" TO "exec";',
        'GRANT EXECUTE ON FUNCTION "pg_catalog"."pg_reload_conf"() TO "exec";',
        'GRANT pg_read_all_settings TO "exec";',
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("public.orders", ("public", "orders")),
        ("Public.ORDERS", ("public", "orders")),
        ('public."Order ""x"" Items"', ("public", 'Order "x" Items')),
        ('"a.b" . c', ("a.b", "c")),
        ("orders", None),
        ("a.b.c", None),
        ("public.orders; drop table x", None),
        ('public."$grant$"', None),
        ("", None),
        (None, None),
    ],
)
def test_a_table_is_taken_apart_as_postgresql_does(text: object, path: tuple[str, str] | None) -> None:
    assert table_path(text) == path


@given(
    st.text(st.characters(exclude_characters="\0$"), min_size=1),
    st.text(st.characters(exclude_characters="\0$"), min_size=1),
)
def test_any_quoted_name_is_read_back(schema: str, table: str) -> None:
    assert table_path(f"{quoted(schema)}.{quoted(table)}") == (schema, table)
