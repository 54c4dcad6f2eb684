"""`postgres.create_index_concurrently` on a real PostgreSQL, with what failed builds leave behind."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engine.actions import Environment, Plan, RefusedError, load_actions
from engine.actions.postgres_create_index_concurrently import Index, Params, index_name
from engine.core.messages import Target
from tests.actions.conftest import Work
from tests.waiting import until

ACTION = load_actions()["postgres.create_index_concurrently"]
TARGET = Target("postgres", "owner")
NAME = index_name("shop", "orders", Params("shop.orders", ["customer"]))
HOSTILE = 'a"; drop table shop.orders; --'


def params(**changes: Any) -> Any:
    return ACTION.decode_params({"table": "shop.orders", "columns": ["customer"], **changes})


async def refused(env: Environment, wanted: Any, target: Target = TARGET) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        await ACTION.plan(env, target, wanted)
    return caught.value


# The name, and which index serves -----------------------------------------------------------------------------------


@given(
    schema=st.text(min_size=1, max_size=63),
    table=st.text(min_size=1, max_size=63),
    columns=st.lists(st.text(min_size=1, max_size=63), min_size=1, max_size=4),
)
def test_a_name_is_within_the_limit_and_says_what_was_asked_for(schema: str, table: str, columns: list[str]) -> None:
    wanted = Params("x.y", columns)
    name = index_name(schema, table, wanted)
    assert len(name.encode()) <= 63
    assert name == index_name(schema, table, wanted)
    others = [
        index_name(schema + "x", table, wanted),
        index_name(schema, table + "x", wanted),
        index_name(schema, table, Params("x.y", [*columns, "x"])),
        index_name(schema, table, Params("x.y", columns, method="hash")),
    ]
    assert name not in others


def test_the_name_begins_as_the_seed_names_it() -> None:
    assert NAME.startswith("idx_orders_customer_")


@pytest.mark.parametrize(
    ("there", "serves"),
    [
        ({}, True),
        ({"columns": ["a", "b", "c"]}, True),
        ({"columns": ["a"]}, False),
        ({"columns": ["b", "a"]}, False),
        ({"method": "hash"}, False),
        ({"valid": False}, False),
        ({"plain": False}, False),
    ],
    ids=str,
)
def test_an_index_serves_if_the_wished_one_would_bring_nothing(there: dict[str, Any], serves: bool) -> None:
    index = Index("i", 1, valid=True, method="btree", plain=True, columns=["a", "b"], being_built=False)
    assert structs.replace(index, **there).serves(Params("s.t", ["a", "b"])) is serves


def test_other_methods_serve_only_the_very_columns() -> None:
    index = Index("i", 1, valid=True, method="brin", plain=True, columns=["a", "b"], being_built=False)
    assert not index.serves(Params("s.t", ["a"], method="brin"))
    assert index.serves(Params("s.t", ["a", "b"], method="brin"))


# On a server --------------------------------------------------------------------------------------------------------


async def test_an_index_is_built_once_and_then_there_is_nothing_to_do(work: Work, env: Environment) -> None:
    plan = await ACTION.plan(env, TARGET, params())
    create = f"create index concurrently {NAME} on shop.orders using btree (customer)"
    assert [change["statement"] for change in plan.changes] == [create]
    assert await work.indexes() == {}
    assert (await ACTION.verify(env, TARGET, params(), plan)).state == "no"
    result = await ACTION.run(env, TARGET, params(), plan)
    assert (result.status, result.detail) == ("done", {"index": NAME, "done": [create]})
    assert await work.indexes() == {f"shop.{NAME}": True}
    assert (await ACTION.verify(env, TARGET, params(), plan)).state == "yes"
    again = await ACTION.plan(env, TARGET, params())
    assert (again.changes, again.summary) == ([], f"nothing to do: shop.orders has the index {NAME}")


async def test_an_index_that_came_since_the_plan_is_not_built_twice(work: Work, env: Environment) -> None:
    plan = await ACTION.plan(env, TARGET, params())
    await ACTION.run(env, TARGET, params(), plan)
    result = await ACTION.run(env, TARGET, params(), plan)
    assert (result.status, result.detail["done"]) == ("done", [])
    assert await work.indexes() == {f"shop.{NAME}": True}


@pytest.mark.parametrize(
    ("there", "enough"),
    [
        ("(customer)", True),
        ("(customer, id)", True),
        ("(customer desc)", True),
        ("(id, customer)", False),
        ("(customer) where id > 5", False),
        ("((customer + 1))", False),
        ("using hash (customer)", False),
    ],
)
async def test_an_index_of_somebody_else_is_enough_if_it_serves(
    work: Work, env: Environment, there: str, enough: bool
) -> None:
    on = there if there.startswith("using") else f"using btree {there}"
    await work.admin.execute(f"create index theirs on shop.orders {on}")
    assert ((await ACTION.plan(env, TARGET, params())).changes == []) is enough


async def test_a_build_that_was_killed_leaves_an_invalid_index_that_the_next_one_drops(
    work: Work, env: Environment
) -> None:
    """The transaction below holds the first build back; then its executor is gone."""
    holder = await work.connect("owner")
    async with holder.transaction():
        await holder.execute("insert into shop.orders values (0)")
        plan = await ACTION.plan(env, TARGET, params())
        building = asyncio.ensure_future(ACTION.run(env, TARGET, params(), plan))
        await until(lambda: _has(work, NAME), what="the build has begun")
        error = await refused(env, params())
        assert (error.reason, NAME in error.message) == ("index_being_built", True)
        check = await ACTION.verify(env, TARGET, params(), plan)
        assert (check.state, check.why) == ("unknown", f"the index {NAME} is still being built")
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        await until(lambda: _builds_nothing(work), what="the server has ended the build")
    assert await work.indexes() == {f"shop.{NAME}": False}
    check = await ACTION.verify(env, TARGET, params(), plan)
    assert (check.state, check.why) == ("no", f"the index {NAME} is invalid: its build has failed")

    anew = await ACTION.plan(env, TARGET, params())
    drop = f"drop index concurrently shop.{NAME}"
    assert [change["statement"] for change in anew.changes] == [drop, plan.changes[0]["statement"]]
    result = await ACTION.run(env, TARGET, params(), anew)
    assert (result.status, len(result.detail["done"])) == ("done", 2)
    assert await work.indexes() == {f"shop.{NAME}": True}
    assert (await ACTION.verify(env, TARGET, params(), anew)).state == "yes"


async def _has(work: Work, name: str) -> bool:
    return f"shop.{name}" in await work.indexes() and not await _builds_nothing(work)


async def _builds_nothing(work: Work) -> bool:
    return not await work.admin.fetchval("select exists (select from pg_stat_progress_create_index)")


async def test_an_invalid_index_that_came_since_the_plan_is_not_dropped_unplanned(work: Work, env: Environment) -> None:
    plan = await ACTION.plan(env, TARGET, params())
    await _leave_invalid(work)
    with pytest.raises(RefusedError) as caught:
        await ACTION.run(env, TARGET, params(), plan)
    assert caught.value.reason == "index_changed"
    assert await work.indexes() == {f"shop.{NAME}": False}


async def _leave_invalid(work: Work) -> None:
    """As a failed build does."""
    await work.admin.execute(f"create index {NAME} on shop.orders (customer)")
    invalid = "update pg_index set indisvalid = false, indisready = false where indexrelid = $1::text::regclass"
    await work.admin.execute(invalid, f"shop.{NAME}")


async def test_a_lock_that_is_not_to_be_had_in_time_leaves_nothing(work: Work, env: Environment) -> None:
    wanted = params(lock_timeout_s=0.05)
    plan = await ACTION.plan(env, TARGET, wanted)
    async with work.admin.transaction():
        await work.admin.execute("lock table shop.orders in share mode")
        result = await ACTION.run(env, TARGET, wanted, plan)
    assert (result.status, result.reason, result.detail["remains"]) == ("failed", "lock_not_available", "none")
    assert await work.indexes() == {}


async def test_a_build_that_waits_too_long_for_old_transactions_says_what_it_left(work: Work, env: Environment) -> None:
    """While the old transaction lasts its remains cannot be dropped either; the next command does that."""
    wanted = params(lock_timeout_s=0.2)
    plan = await ACTION.plan(env, TARGET, wanted)
    holder = await work.connect("owner")
    async with holder.transaction():
        await holder.execute("insert into shop.orders values (0)")
        result = await ACTION.run(env, TARGET, wanted, plan)
    assert (result.status, result.reason) == ("failed", "lock_not_available")
    assert result.detail["remains"].startswith(f"the invalid index {NAME} may be left: ")
    anew = await ACTION.plan(env, TARGET, wanted)
    assert len(anew.changes) == 2
    assert (await ACTION.run(env, TARGET, wanted, anew)).status == "done"
    assert await work.indexes() == {f"shop.{NAME}": True}


async def test_what_a_failed_build_left_is_dropped_at_once(work: Work, env: Environment) -> None:
    """A row that has no place in an index: the build fails after the index was entered in the catalogue."""
    await work.admin.execute("alter table shop.orders alter column note set storage plain")
    await work.admin.execute("update shop.orders set note = repeat('x', 4000) where id = 1")
    plan = await ACTION.plan(env, TARGET, params(columns=["note"]))
    result = await ACTION.run(env, TARGET, params(columns=["note"]), plan)
    assert (result.status, result.reason) == ("failed", "statement_failed")
    assert "exceeds" in result.detail["error"]
    assert result.detail["remains"].endswith("was dropped")
    assert await work.indexes() == {}


async def test_hostile_names_are_names(work: Work, env: Environment) -> None:
    quoted = await work.admin.fetchval("select quote_ident($1)", HOSTILE)
    await work.admin.execute(
        f"create schema {quoted} authorization owner; create table {quoted}.{quoted} ({quoted} int);"
        f"alter table {quoted}.{quoted} owner to owner"
    )
    wanted = params(table=f"{quoted}.{quoted}", columns=[HOSTILE])
    plan = await ACTION.plan(env, TARGET, wanted)
    result = await ACTION.run(env, TARGET, wanted, plan)
    assert result.status == "done", result
    assert list((await work.indexes(f"{quoted}.{quoted}")).values()) == [True]
    assert (await ACTION.verify(env, TARGET, wanted, plan)).state == "yes"
    assert await work.admin.fetchval("select count(*) from shop.orders") == 1000


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"table": "shop.nothing"}, "no_such_table"),
        ({"table": "shop.orders; drop table shop.orders"}, "bad_name"),
        ({"table": "pg_catalog.pg_class", "columns": ["relname"]}, "system_table"),
        ({"columns": ["nothing"]}, "no_such_column"),
        ({"columns": ["customer) where (true"]}, "no_such_column"),
        ({"columns": ["lower(note)"]}, "no_such_column"),
        ({"columns": ["ctid"]}, "no_such_column"),
    ],
    ids=str,
)
async def test_what_cannot_be_indexed_is_refused_with_a_reason(
    work: Work, env: Environment, wanted: dict[str, Any], reason: str
) -> None:
    assert (await refused(env, params(**wanted))).reason == reason


async def test_a_name_that_something_else_has_is_left_to_it(work: Work, env: Environment) -> None:
    await work.admin.execute(f"create table shop.{NAME} (a int)")
    assert (await refused(env, params())).reason == "name_taken"


async def test_a_role_without_rights_is_told_which_ones(work: Work, env: Environment) -> None:
    await work.admin.execute("grant pg_read_all_stats to weak")
    error = await refused(env, params(), Target("postgres", "weak"))
    assert (error.reason, "grant owner to weak" in error.message) == ("forbidden", True)
    await work.admin.execute("alter schema shop owner to postgres; grant usage on schema shop to owner")
    error = await refused(env, params())
    assert error.message == "grant create on schema shop to owner"
    await work.admin.execute("revoke pg_read_all_stats from owner")
    assert "pg_read_all_stats" in (await refused(env, params())).message


async def test_another_server_is_refused(work: Work, env: Environment) -> None:
    plan = await ACTION.plan(env, TARGET, params())
    changes = [{**one, "server": {**one["server"], "database_oid": 5}} for one in plan.changes]
    with pytest.raises(RefusedError) as caught:
        await ACTION.run(env, TARGET, params(), Plan("", changes))
    assert caught.value.reason == "server_changed"
    assert await work.indexes() == {}


async def test_a_pause_before_the_build_leaves_nothing(work: Work, env: Environment) -> None:
    async def paused() -> bool:
        return True

    plan = await ACTION.plan(env, TARGET, params())
    result = await ACTION.run(dataclasses.replace(env, paused=paused), TARGET, params(), plan)
    assert (result.status, result.reason) == ("failed", "paused")
    assert await work.indexes() == {}


async def test_a_connection_that_is_cut_off_leaves_it_open_what_happened(work: Work, env: Environment) -> None:
    plan = await ACTION.plan(env, TARGET, params())
    holder = await work.connect("owner")
    async with holder.transaction():
        await holder.execute("insert into shop.orders values (0)")
        building = asyncio.ensure_future(ACTION.run(env, TARGET, params(), plan))
        await until(lambda: _has(work, NAME))
        await work.admin.fetchval("select pg_terminate_backend(pid, 5000) from pg_stat_progress_create_index")
        result = await building
    assert (result.status, result.reason) == ("unknown", "no_answer")
    assert (await ACTION.verify(env, TARGET, params(), plan)).state == "no"
