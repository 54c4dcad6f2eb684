"""`postgres.terminate_idle` on a real PostgreSQL: exactly the idle client connections of the named roles."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
import pytest_asyncio

from engine.actions import Environment, Plan, RefusedError, load_actions
from engine.actions._sql import sql_grants
from engine.core.messages import Target
from engine.edge.database import url_of

ACTION = load_actions()["postgres.terminate_idle"]
TARGET = Target("postgres", "main")
Connections = dict[str, asyncpg.Connection]


class Server:
    """A database with some roles, and connections of theirs."""

    def __init__(self, url: str, admin: asyncpg.Connection) -> None:
        self.url = url
        self.admin = admin
        self.opened: list[asyncpg.Connection] = []

    async def connect(self, role: str, database: str = "idle") -> asyncpg.Connection:
        conn = await asyncpg.connect(url_of(self.url, database).replace("postgres@", f"{role}@"))
        await conn.fetchval("select 1")
        self.opened.append(conn)
        return conn

    async def alive(self, *pids: int) -> list[bool]:
        rows = await self.admin.fetch("select pid from pg_stat_activity")
        have = {row["pid"] for row in rows}
        return [pid in have for pid in pids]


@pytest_asyncio.fixture
async def server(postgres_url: str) -> AsyncIterator[Server]:
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("create database idle")
    await admin.execute("create role app login; create role other login; create role boss login superuser")
    await admin.execute("create role weak login; create role replicator login replication")
    running = Server(postgres_url, admin)
    yield running
    for conn in running.opened:
        conn.terminate()
    await admin.execute("drop database idle with (force)")
    await admin.execute("drop role app, other, boss, weak, replicator")
    await admin.close()


@pytest_asyncio.fixture
async def env(server: Server) -> AsyncIterator[Environment]:
    async with httpx.AsyncClient() as client:
        databases = {"main": url_of(server.url, "idle")}
        databases["weak"] = databases["main"].replace("postgres@", "weak@")
        databases["away"] = "postgresql://u:pa55@127.0.0.1:9/x"
        yield Environment({}, databases, client, asyncpg.connect, asyncio.sleep)


def params(minutes: float = 1e-7, roles: tuple[str, ...] = ("app",), **more: int):  # type: ignore[no-untyped-def]  # Params
    return ACTION.decode_params({"idle_minutes": minutes, "roles": list(roles), **more})


async def test_idle_connections_of_the_role_end_and_all_others_stay(server: Server, env: Environment) -> None:
    idle = [(await server.connect("app")).get_server_pid() for _ in range(3)]
    working = await server.connect("app")
    transaction = working.transaction()
    await transaction.start()
    spared = [
        working.get_server_pid(),
        (await server.connect("other")).get_server_pid(),
        (await server.connect("app", "postgres")).get_server_pid(),
    ]
    plan = await ACTION.plan(env, TARGET, params())
    assert sorted(change["pid"] for change in plan.changes) == sorted(idle)
    assert (await ACTION.verify(env, TARGET, params(), plan)).state == "no"
    result = await ACTION.run(env, TARGET, params(), plan)
    assert (result.status, result.detail["terminated"]) == ("done", 3)
    assert await server.alive(*idle) == [False] * 3
    assert await server.alive(*spared) == [True] * 3
    assert (await ACTION.verify(env, TARGET, params(), plan)).state == "yes"


@pytest.mark.parametrize("role", ["boss", "replicator", "postgres"])
async def test_superusers_and_replication_are_left_alone_even_if_named(
    server: Server, env: Environment, role: str
) -> None:
    await server.connect(role)
    plan = await ACTION.plan(env, TARGET, params(roles=(role,)))
    assert plan.changes == []


async def test_who_is_not_idle_for_long_enough_stays(server: Server, env: Environment) -> None:
    await server.connect("app")
    plan = await ACTION.plan(env, TARGET, params(minutes=10))
    assert plan.changes == []
    assert (await ACTION.verify(env, TARGET, params(minutes=10), plan)).state == "yes"


async def test_no_more_than_the_maximum_end_the_longest_idle_first(server: Server, env: Environment) -> None:
    pids = [(await server.connect("app")).get_server_pid() for _ in range(4)]
    plan = await ACTION.plan(env, TARGET, params(max_count=2))
    await ACTION.run(env, TARGET, params(max_count=2), plan)
    assert await server.alive(*pids) == [False, False, True, True]
    check = await ACTION.verify(env, TARGET, params(max_count=2), plan)
    why = "of 2 planned connections 2 are gone, 0 in use again, 0 still idle"
    assert (check.state, check.why) == ("yes", why), "the others were not to end"


async def test_a_planned_backend_that_is_used_again_is_left_and_is_no_failure(server: Server, env: Environment) -> None:
    used, _ = [await server.connect("app") for _ in range(2)]
    plan = await ACTION.plan(env, TARGET, params())
    async with used.transaction():
        await ACTION.run(env, TARGET, params(), plan)
        check = await ACTION.verify(env, TARGET, params(), plan)
    why = "of 2 planned connections 1 are gone, 1 in use again, 0 still idle"
    assert (check.state, check.why) == ("yes", why)


async def test_a_backend_that_took_over_a_process_id_is_not_one_of_the_plan(server: Server, env: Environment) -> None:
    await server.connect("app")
    plan = await ACTION.plan(env, TARGET, params())
    before = [{**change, "backend_start_us": change["backend_start_us"] - 1} for change in plan.changes]
    assert (await ACTION.verify(env, TARGET, params(), Plan("", before))).state == "yes"
    assert (await ACTION.verify(env, TARGET, params(), None)).state == "unknown"


async def test_a_pause_stops_between_two_backends(server: Server, env: Environment) -> None:
    pids = [(await server.connect("app")).get_server_pid() for _ in range(3)]
    answers = iter([False, True])

    async def paused() -> bool:
        return next(answers)

    env = dataclasses.replace(env, paused=paused)
    plan = await ACTION.plan(env, TARGET, params())
    result = await ACTION.run(env, TARGET, params(), plan)
    assert (result.status, result.reason) == ("failed", "paused")
    assert result.detail == {"terminated": 1, "pids": pids[:1], "of": 3}
    assert await server.alive(*pids) == [False, True, True]


async def test_each_backend_is_looked_at_again_before_it_ends(server: Server, env: Environment) -> None:
    busy, reused, gone, same = [await server.connect("app") for _ in range(4)]
    plan = await ACTION.plan(env, TARGET, params())
    held = busy.transaction()
    await held.start()
    pid = reused.get_server_pid()
    changes = [
        {**change, "backend_start_us": change["backend_start_us"] - (change["pid"] == pid)} for change in plan.changes
    ]
    await gone.close()
    result = await ACTION.run(env, TARGET, params(), Plan(plan.summary, changes))
    assert result.detail["pids"] == [same.get_server_pid()]
    assert len(result.detail["kept"]) == 3
    assert await server.alive(busy.get_server_pid(), pid) == [True, True]


async def test_what_sentinel_permissions_prints_is_enough(server: Server, env: Environment) -> None:
    pid = (await server.connect("app")).get_server_pid()
    for statement in sql_grants(ACTION.permissions, "weak"):
        await server.admin.execute(statement)
    weak = Target("postgres", "weak")
    plan = await ACTION.plan(env, weak, params())
    assert (await ACTION.run(env, weak, params(), plan)).status == "done"
    assert (await ACTION.verify(env, weak, params(), plan)).state == "yes"
    assert await server.alive(pid) == [False]


async def test_a_role_that_may_not_signal_is_told_so_and_at_the_moment_of_acting_too(
    server: Server, env: Environment
) -> None:
    await server.connect("app")
    weak = Target("postgres", "weak")
    await server.admin.execute("grant pg_read_all_stats to weak")
    with pytest.raises(RefusedError, match="grant pg_signal_backend to 'weak'"):
        await ACTION.plan(env, weak, params())
    await server.admin.execute("grant pg_signal_backend to weak")
    plan = await ACTION.plan(env, weak, params())
    await server.admin.execute("revoke pg_signal_backend from weak")
    result = await ACTION.run(env, weak, params(), plan)
    assert (result.status, result.reason, result.detail["terminated"]) == ("failed", "forbidden", 0)


async def test_a_role_that_may_not_see_does_not_report_that_all_is_well(server: Server, env: Environment) -> None:
    await server.connect("app")
    with pytest.raises(RefusedError, match="pg_signal_backend") as caught:
        await ACTION.plan(env, Target("postgres", "weak"), params())
    assert caught.value.reason == "forbidden"
    check = await ACTION.verify(env, Target("postgres", "weak"), params(), Plan("", []))
    assert (check.state, "pg_read_all_stats" in check.why) == ("unknown", True)


async def test_another_server_under_the_same_address_is_refused(server: Server, env: Environment) -> None:
    conn = await server.connect("app")
    plan = await ACTION.plan(env, TARGET, params())
    changes = [{**change, "server": {**change["server"], "timeline": 2}} for change in plan.changes]
    with pytest.raises(RefusedError) as caught:
        await ACTION.run(env, TARGET, params(), Plan("", changes))
    assert caught.value.reason == "server_changed"
    assert await server.alive(conn.get_server_pid()) == [True]


async def test_a_database_that_is_away_is_unknown_and_not_healthy(env: Environment) -> None:
    check = await ACTION.verify(env, Target("postgres", "away"), params(), Plan("", []))
    assert check.state == "unknown"
    assert "pa55" not in check.why
