"""`postgres.analyze` and `postgres.vacuum` on a real PostgreSQL: the named tables, counted by the server itself."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import asyncpg
import pytest

from engine.actions import Action, Environment, Plan, RefusedError, load_actions
from engine.core.messages import Target
from tests.actions.conftest import Work

ACTIONS = load_actions()
ANALYZE, VACUUM = ACTIONS["postgres.analyze"], ACTIONS["postgres.vacuum"]
BOTH = pytest.mark.parametrize("action", [ANALYZE, VACUUM], ids=["analyze", "vacuum"])
TARGET = Target("postgres", "main")
HOSTILE = (
    'a"; drop table shop.orders; --',
    "it's",
    "select",
    "Orders",
    "a.b.c",
    "new\nline",
    "$1 %s {0} \\",
    "naïve 表",
    "; vacuum full",
    "x" * 63,
)


def params(action: Action, *tables: str, **changes: Any) -> Any:
    return action.decode_params({"tables": list(tables or ("shop.orders",)), **changes})


async def refused(action: Action, env: Environment, wanted: Any, target: Target = TARGET) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        await action.plan(env, target, wanted)
    return caught.value


@BOTH
async def test_it_is_done_to_the_table_and_the_server_says_so(work: Work, env: Environment, action: Action) -> None:
    wanted = params(action)
    plan = await action.plan(env, TARGET, wanted)
    (change,) = plan.changes
    assert (change["table"], change["last_us"]) == ("shop.orders", None)
    assert (await action.verify(env, TARGET, wanted, plan)).state == "no"
    result = await action.run(env, TARGET, wanted, plan)
    assert (result.status, result.detail) == ("done", {"done": ["shop.orders"]})
    assert (await action.verify(env, TARGET, wanted, plan)).state == "yes"


@BOTH
async def test_done_before_the_plan_is_not_done_since(work: Work, env: Environment, action: Action) -> None:
    wanted = params(action)
    await action.run(env, TARGET, wanted, await action.plan(env, TARGET, wanted))
    plan = await action.plan(env, TARGET, wanted)
    assert (await action.verify(env, TARGET, wanted, plan)).state == "no"


async def test_analyze_tells_the_planner_how_many_rows_there_are(work: Work, env: Environment) -> None:
    await ANALYZE.run(env, TARGET, params(ANALYZE), await ANALYZE.plan(env, TARGET, params(ANALYZE)))
    assert await work.admin.fetchval("select reltuples from pg_class where oid = 'shop.orders'::regclass") == 1000


async def test_vacuum_makes_the_space_of_dead_rows_usable_and_never_rewrites_the_table(
    work: Work, env: Environment
) -> None:
    file = "select pg_relation_filenode('shop.orders')"
    before = await work.admin.fetchval(file)
    await work.admin.execute("delete from shop.orders where id > 500")
    wanted = params(VACUUM, analyze=True)
    plan = await VACUUM.plan(env, TARGET, wanted)
    assert plan.changes[0]["statement"] == "vacuum (analyze) shop.orders"
    await VACUUM.run(env, TARGET, wanted, plan)
    check = await VACUUM.verify(env, TARGET, wanted, plan)
    assert (check.state, check.why) == ("yes", "vacuum has been done to 1 tables; 0 dead rows are left")
    assert await work.admin.fetchval(file) == before
    assert await work.admin.fetchval("select reltuples from pg_class where oid = 'shop.orders'::regclass") == 500


@BOTH
@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("shop.nothing", "no_such_table"),
        ("public.orders", "no_such_table"),
        ("shop.Orders; drop table shop.orders", "bad_name"),
        ("shop.orders (note)", "bad_name"),
        ("shop.orders\0x", "bad_name"),
        ("work.shop.orders", "bad_name"),
        ("shop.seen", "wrong_kind"),
    ],
)
async def test_what_is_no_table_is_refused_with_a_reason(
    work: Work, env: Environment, action: Action, table: str, reason: str
) -> None:
    await work.admin.execute("create view shop.seen as select 1")
    assert (await refused(action, env, params(action, table))).reason == reason


@BOTH
async def test_a_hostile_name_is_a_name(work: Work, env: Environment, action: Action) -> None:
    tables = []
    for name in HOSTILE:
        schema, table = await work.admin.fetchrow("select quote_ident($1), quote_ident($2)", name[:60], name)
        await work.admin.execute(f"create schema {schema}; create table {schema}.{table} (a int)")
        await work.admin.execute(f"grant usage on schema {schema} to doer")
        tables.append(f"{schema}.{table}")
    wanted = params(action, *tables, "shop.orders")
    plan = await action.plan(env, TARGET, wanted)
    result = await action.run(env, TARGET, wanted, plan)
    assert result.detail["done"] == [*tables, "shop.orders"]
    assert (await action.verify(env, TARGET, wanted, plan)).state == "yes"


async def test_a_table_of_one_session_only_is_refused(work: Work, env: Environment) -> None:
    await work.admin.execute("create temporary table mine (a int)")
    name = await work.admin.fetchval(
        "select relnamespace::regnamespace || '.mine' from pg_class where relname = 'mine'"
    )
    error = await refused(VACUUM, env, params(VACUUM, name))
    assert (error.reason, "temporary" in error.message) == ("wrong_kind", True)


@BOTH
async def test_a_table_named_twice_is_done_once(work: Work, env: Environment, action: Action) -> None:
    plan = await action.plan(env, TARGET, params(action, "shop.orders", 'SHOP."orders"'))
    assert [change["table"] for change in plan.changes] == ["shop.orders"]


@BOTH
async def test_a_role_without_the_grant_is_told_which_one(work: Work, env: Environment, action: Action) -> None:
    """The server itself would only warn, skip the table, and report success."""
    await work.admin.execute("revoke pg_maintain from doer")
    error = await refused(action, env, params(action))
    assert (error.reason, error.message) == (
        "forbidden",
        "grant maintain on shop.orders to 'doer', or pg_maintain",
    )
    await work.admin.execute("grant maintain on shop.orders to doer")
    assert (await action.plan(env, TARGET, params(action))).changes
    error = await refused(action, env, params(action), Target("postgres", "weak"))
    assert error.message == "grant pg_read_all_stats to 'weak', the executor's role"


@BOTH
async def test_a_lock_that_is_not_to_be_had_in_time_is_named(work: Work, env: Environment, action: Action) -> None:
    wanted = params(action, lock_timeout_s=0.05)
    plan = await action.plan(env, TARGET, wanted)
    async with work.admin.transaction():
        await work.admin.execute("lock table shop.orders in share update exclusive mode")
        result = await action.run(env, TARGET, wanted, plan)
    assert (result.status, result.reason, result.detail["done"]) == ("failed", "lock_not_available", [])
    assert (await action.verify(env, TARGET, wanted, plan)).state == "no"


@BOTH
async def test_a_table_that_was_made_anew_since_the_plan_is_left_alone(
    work: Work, env: Environment, action: Action
) -> None:
    plan = await action.plan(env, TARGET, params(action))
    await work.admin.execute("drop table shop.orders; create table shop.orders (id int)")
    result = await action.run(env, TARGET, params(action), plan)
    assert (result.status, result.reason, result.detail["done"]) == ("failed", "table_changed", [])


@BOTH
async def test_a_pause_stops_between_two_tables(work: Work, env: Environment, action: Action) -> None:
    await work.admin.execute("create table shop.more (a int)")
    wanted = params(action, "shop.orders", "shop.more")
    plan = await action.plan(env, TARGET, wanted)
    answers = iter([False, True])

    async def paused() -> bool:
        return next(answers)

    result = await action.run(dataclasses.replace(env, paused=paused), TARGET, wanted, plan)
    assert (result.reason, result.detail) == ("paused", {"done": ["shop.orders"], "of": 2})
    check = await action.verify(env, TARGET, wanted, plan)
    assert (check.state, "shop.more" in check.why, "orders" in check.why) == ("no", True, False)


async def test_a_vacuum_that_takes_too_long_ends_and_tells_how_far_it_was(work: Work, env: Environment) -> None:
    await work.admin.execute("alter role doer set vacuum_cost_delay = 100; alter role doer set vacuum_cost_limit = 1")
    await work.admin.execute("insert into shop.orders select n, n, repeat('x', 500) from generate_series(1, 20000) n")
    # The executor's connections have a limit for ordinary queries, which is not to end this one.
    env = dataclasses.replace(env, connect=partial(asyncpg.connect, command_timeout=1.0))
    wanted = params(VACUUM, timeout_s=1.5)
    plan = await VACUUM.plan(env, TARGET, wanted)
    result = await VACUUM.run(env, TARGET, wanted, plan)
    assert (result.status, result.reason) == ("failed", "time_limit")
    progress = result.detail["progress"]
    assert progress["phase"] == "scanning heap"
    assert 0 < progress["heap_blks_scanned"] < progress["heap_blks_total"]
    assert (await VACUUM.verify(env, TARGET, wanted, plan)).state == "no"


async def test_vacuum_takes_no_partitioned_table_and_analyze_does(work: Work, env: Environment) -> None:
    await work.admin.execute("create table shop.parts (a int) partition by range (a)")
    await work.admin.execute("create table shop.part_1 partition of shop.parts for values from (0) to (9)")
    assert (await refused(VACUUM, env, params(VACUUM, "shop.parts"))).reason == "wrong_kind"
    wanted = params(ANALYZE, "shop.parts")
    plan = await ANALYZE.plan(env, TARGET, wanted)
    await ANALYZE.run(env, TARGET, wanted, plan)
    assert (await ANALYZE.verify(env, TARGET, wanted, plan)).state == "yes"


@BOTH
async def test_another_server_is_refused(work: Work, env: Environment, action: Action) -> None:
    plan = await action.plan(env, TARGET, params(action))
    changes = [{**one, "server": {**one["server"], "timeline": 2}} for one in plan.changes]
    with pytest.raises(RefusedError) as caught:
        await action.run(env, TARGET, params(action), Plan("", changes))
    assert caught.value.reason == "server_changed"
