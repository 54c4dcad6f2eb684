"""`postgres.cancel_long_queries` on a real PostgreSQL: exactly the long queries of whom was named."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import asyncpg
import pytest

from engine.actions import Environment, Plan, RefusedError, load_actions
from engine.core.messages import Target
from tests.actions.conftest import Work
from tests.waiting import until

ACTION = load_actions()["postgres.cancel_long_queries"]
TARGET = Target("postgres", "main")


def params(**changes: Any) -> Any:
    return ACTION.decode_params({"older_than_s": 1e-6, "roles": ["app"], **changes})


def pids(plan: Plan) -> list[int]:
    return [change["pid"] for change in plan.changes]


async def test_the_long_queries_of_the_role_end_and_their_connections_stay(work: Work, env: Environment) -> None:
    one, first = await work.busy()
    two, second = await work.busy()
    plan = await ACTION.plan(env, TARGET, params())
    assert pids(plan) == [one.get_server_pid(), two.get_server_pid()], "the longest first"
    assert plan.changes[0]["query"] == "select pg_sleep(60)"
    assert (await ACTION.verify(env, TARGET, params(), plan)).state == "no"
    result = await ACTION.run(env, TARGET, params(), plan)
    assert (result.status, result.detail) == ("done", {"cancelled": pids(plan), "kept": [], "still_running": []})
    for task in (first, second):
        with pytest.raises(asyncpg.QueryCanceledError):
            await task
    assert await one.fetchval("select 1") == 1
    check = await ACTION.verify(env, TARGET, params(), plan)
    assert (check.state, check.why) == ("yes", "of 2 planned queries 0 still run")


@pytest.mark.parametrize(
    ("role", "how", "wanted"),
    [
        ("other", {}, {}),
        ("boss", {}, {"roles": ["boss"]}),
        ("replicator", {}, {"roles": ["replicator"]}),
        ("doer", {}, {"roles": ["doer"]}),
        ("app", {"database": "postgres"}, {}),
        ("app", {"application": "pg_dump"}, {}),
        ("app", {}, {"applications": ["reports"]}),
        ("app", {}, {"older_than_s": 3600}),
        ("app", {}, {"roles": ["app' or true --"]}),
        ("app", {}, {"applications": ["%"]}),
    ],
    ids=str,
)
async def test_nobody_else_is_planned_for(
    work: Work, env: Environment, role: str, how: dict[str, str], wanted: dict[str, Any]
) -> None:
    await work.busy(role, **how)
    assert (await ACTION.plan(env, TARGET, params(**wanted))).changes == []


async def test_an_idle_transaction_and_a_table_under_vacuum_are_left_alone(work: Work, env: Environment) -> None:
    waiting = await work.connect("app")
    await waiting.execute("begin; select 1")
    await work.admin.execute("grant maintain on shop.orders to app")
    conn = await work.connect("app")
    await conn.execute("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1")
    work.tasks.append(asyncio.ensure_future(conn.execute("vacuum (disable_page_skipping) shop.orders")))
    pid = conn.get_server_pid()

    async def vacuums() -> bool:
        return bool(await work.admin.fetchval("select 1 from pg_stat_progress_vacuum where pid = $1", pid))

    await until(vacuums)
    assert (await ACTION.plan(env, TARGET, params())).changes == []


async def test_only_connections_of_the_named_applications_and_no_more_than_the_maximum(
    work: Work, env: Environment
) -> None:
    await work.busy(application="web")
    reports = [(await work.busy(application='it\'s "reports"; --'))[0].get_server_pid() for _ in range(2)]
    plan = await ACTION.plan(env, TARGET, params(applications=['it\'s "reports"; --'], max_count=1))
    assert pids(plan) == reports[:1]


async def test_each_is_looked_at_again_before_it_is_cancelled(work: Work, env: Environment) -> None:
    """One has gone, one process id belongs to another backend now, one is at its next query, one is the same."""
    (gone, _), (reused, _), (onward, ended), (same, _) = [await work.busy() for _ in range(4)]
    plan = await ACTION.plan(env, TARGET, params())
    pid = reused.get_server_pid()
    changes = [{**one, "backend_start_us": one["backend_start_us"] - (one["pid"] == pid)} for one in plan.changes]
    left = sorted(one.get_server_pid() for one in (gone, reused, onward))
    await work.admin.fetchval("select pg_terminate_backend($1, 5000)", gone.get_server_pid())
    await work.admin.fetchval("select pg_cancel_backend($1)", onward.get_server_pid())
    with pytest.raises(asyncpg.QueryCanceledError):
        await ended
    work.tasks.append(asyncio.ensure_future(onward.execute("select pg_sleep(61)")))
    await until(lambda: work.is_active(onward.get_server_pid(), "select pg_sleep(61)"))
    result = await ACTION.run(env, TARGET, params(), Plan("", changes))
    assert result.detail["cancelled"] == [same.get_server_pid()]
    assert sorted(result.detail["kept"]) == left
    assert await work.is_active(pid)
    assert await work.is_active(onward.get_server_pid())
    assert (await ACTION.verify(env, TARGET, params(), Plan("", changes))).state == "yes"


async def test_a_pause_stops_between_two_queries(work: Work, env: Environment) -> None:
    running = [(await work.busy())[0].get_server_pid() for _ in range(2)]
    plan = await ACTION.plan(env, TARGET, params())
    answers = iter([False, True])

    async def paused() -> bool:
        return next(answers)

    result = await ACTION.run(dataclasses.replace(env, paused=paused), TARGET, params(), plan)
    assert (result.status, result.reason) == ("failed", "paused")
    assert result.detail == {"cancelled": running[:1], "kept": [], "of": 2}
    assert await work.is_active(running[1])


async def test_another_server_under_the_same_address_is_refused(work: Work, env: Environment) -> None:
    conn, _ = await work.busy()
    plan = await ACTION.plan(env, TARGET, params())
    for key, value in {"system_identifier": "1", "timeline": 7, "database_oid": 1}.items():
        changes = [{**one, "server": {**one["server"], key: value}} for one in plan.changes]
        with pytest.raises(RefusedError) as caught:
            await ACTION.run(env, TARGET, params(), Plan("", changes))
        assert caught.value.reason == "server_changed"
        assert (await ACTION.verify(env, TARGET, params(), Plan("", changes))).state == "unknown"
    assert await work.is_active(conn.get_server_pid())


@pytest.mark.parametrize("role", ["pg_signal_backend", "pg_read_all_stats"])
async def test_a_role_without_a_grant_is_told_which_one(work: Work, env: Environment, role: str) -> None:
    await work.busy()
    await work.admin.execute(f"revoke {role} from doer")
    with pytest.raises(RefusedError, match=f"grant {role} to 'doer'") as caught:
        await ACTION.plan(env, TARGET, params())
    assert caught.value.reason == "forbidden"


async def test_a_database_that_is_away_is_unknown_and_not_healthy(env: Environment) -> None:
    check = await ACTION.verify(env, Target("postgres", "away"), params(), Plan("", []))
    assert (check.state, "pa55" in check.why) == ("unknown", False)
    assert (await ACTION.verify(env, TARGET, params(), None)).state == "unknown"
