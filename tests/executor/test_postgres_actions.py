"""Signed commands through the executor to a real PostgreSQL: outcomes, named refusals, and a crash in a build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from engine.actions import load_actions
from engine.actions.postgres_create_index_concurrently import Params, index_name
from engine.core.messages import Command, Outcome, Target
from engine.edge import audit
from engine.edge.database import Database
from tests.executor.conftest import MakeExecutor, block, end_leases, message
from tests.waiting import until

ALLOWED = tuple(load_actions())
INDEX = index_name("public", "goods", Params("public.goods", ["price"]))


@pytest_asyncio.fixture
async def goods(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser in the target database, which has a table."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(
        "create table goods (id int, price int); insert into goods select n, n from generate_series(1, 99) n"
    )
    yield admin
    await admin.execute("drop table goods")
    await admin.close()


def command(action: str, number: int = 1, **params: Any) -> Command:
    return block(id=f"{action}-{number}", action=action, target=Target("postgres", "main"), params=params)


def build(number: int = 1) -> Command:
    return command("postgres.create_index_concurrently", number, table="public.goods", columns=["price"])


async def carried_out(make_executor: MakeExecutor, one: Command) -> Outcome:
    outcome = await make_executor(allow=ALLOWED).execute(message(one))
    assert outcome is not None
    return outcome


async def indexes(admin: asyncpg.Connection) -> dict[str, bool]:
    found = "select indexrelid::regclass::text, indisvalid from pg_index where indrelid = 'goods'::regclass"
    return dict(await admin.fetch(found))


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("postgres.analyze", {"tables": ["public.goods"]}),
        ("postgres.vacuum", {"tables": ["public.goods"]}),
        ("postgres.create_index_concurrently", {"table": "public.goods", "columns": ["price"]}),
    ],
)
async def test_a_command_is_planned_run_and_verified_once(
    make_executor: MakeExecutor, database: Database, goods: asyncpg.Connection, action: str, params: dict[str, Any]
) -> None:
    first = await carried_out(make_executor, command(action, **params))
    assert (first.status, first.reason) == ("succeeded", "verified")
    assert await carried_out(make_executor, command(action, **params)) == first
    async with database.connection() as conn:
        assert await audit.verify(conn) is None
        kinds = [row.kind for row in await audit.rows(conn)]
    assert kinds == ["command.claimed", "command.planned", "command.succeeded"]


@pytest.mark.parametrize(
    ("action", "params", "reason"),
    [
        ("postgres.analyze", {"tables": ["public.goods; drop table goods"]}, "bad_name"),
        ("postgres.vacuum", {"tables": ["public.bads"]}, "no_such_table"),
        ("postgres.vacuum", {"tables": ["public.goods"], "full": True}, "bad_params"),
        ("postgres.create_index_concurrently", {"table": "public.goods", "columns": ["x"]}, "no_such_column"),
        ("postgres.alter_system", {"setting": "max_connections", "value": 200}, "setting_not_allowed"),
    ],
)
async def test_what_stands_against_it_is_the_reason_of_the_refusal(
    make_executor: MakeExecutor, goods: asyncpg.Connection, action: str, params: dict[str, Any], reason: str
) -> None:
    outcome = await carried_out(make_executor, command(action, **params))
    assert (outcome.status, outcome.reason) == ("refused", reason)
    assert outcome.detail["message"]


async def test_an_executor_that_dies_in_a_build_leaves_it_to_the_next_command_to_clear_up(
    make_executor: MakeExecutor, database: Database, goods: asyncpg.Connection, postgres_url: str
) -> None:
    holder = await asyncpg.connect(postgres_url)
    async with holder.transaction():
        await holder.execute("insert into goods values (0, 0)")
        dying = asyncio.create_task(make_executor("dead", allow=ALLOWED).execute(message(build())))
        await until(lambda: goods.fetchval("select 1 from pg_stat_progress_create_index where index_relid <> 0"))
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        await until(lambda: goods.fetchval("select count(*) = 0 from pg_stat_progress_create_index"))
    await holder.close()
    assert await indexes(goods) == {INDEX: False}

    await end_leases(database)
    [outcome] = await make_executor("next", allow=ALLOWED).recover()
    assert (outcome.status, outcome.reason) == ("inconclusive", "executor_lost")
    assert outcome.detail["check"]["state"] == "no"  # type: ignore[index]  # JSON
    assert await indexes(goods) == {INDEX: False}, "looked at, not touched"

    again = await carried_out(make_executor, build(2))
    assert (again.status, again.reason) == ("succeeded", "verified")
    assert await indexes(goods) == {INDEX: True}
    third = await carried_out(make_executor, build(3))
    assert (third.status, third.reason) == ("succeeded", "nothing_to_do")
