"""The SQL of the shipped runbooks on a real PostgreSQL: it gives what their tests are written with, and finds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import yaml

from engine.edge.database import Database
from engine.loading import load
from engine.response.steps import Investigate, PostgresSource, Step, Verify, route
from examples.aureus.database import AUDIT_LOG, POLICY_VIOLATIONS

RULES = Path(__file__).parents[2] / "rules"
RUNBOOKS = load([RULES]).runbooks
AUREUS = """
create role aureus;
create table orders (id bigint primary key, customer bigint);
create table "Order Lines" (id bigint primary key, "order" bigint not null references orders, note text);
create table payments (id bigint primary key, paid bigint not null references orders);
create index on payments (paid);
"""


def sources() -> Iterator[tuple[str, str, PostgresSource]]:
    """Every question to a database with its runbook and step."""
    for runbook in RUNBOOKS:
        for step in runbook.steps:
            asked = question(step)
            if asked is not None and isinstance(asked.source, PostgresSource):
                yield runbook.name, step.name, asked.source


def question(step: Step) -> Investigate | None:
    if isinstance(step.body, Verify):
        return step.body.fresh
    return step.body if isinstance(step.body, Investigate) else None


SOURCES = {(runbook, step): source for runbook, step, source in sources()}
# The embedded server has no pg_stat_statements; tests/nine asks a server that has.
HERE = {place: source for place, source in SOURCES.items() if "pg_stat_statements" not in source.query}


def written_rows(runbook: str, step: str) -> Iterator[dict[str, Any]]:
    """The rows of a step that the cases in rules/tests give."""
    for file in sorted((RULES / "tests").glob("*_test.yml")):
        for case in yaml.safe_load(file.read_text()).get("runbook_tests", ()):
            taken = route(RUNBOOKS, case["alert"]["labels"])
            rows = case.get("evidence", {}).get(step)
            if taken is not None and taken.name == runbook and isinstance(rows, list):
                yield from rows


@pytest_asyncio.fixture
async def aureus(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A database with the tables of the stack, and with what the runbooks look for."""
    conn = await asyncpg.connect(database.url)
    try:
        await conn.execute(AUDIT_LOG + POLICY_VIOLATIONS + AUREUS)
        yield conn
    finally:
        await conn.execute("drop owned by aureus; drop role aureus")
        await conn.close()


def test_there_are_questions_to_databases() -> None:
    assert len(HERE) > 10


@pytest.mark.parametrize(("runbook", "step"), HERE)
async def test_the_rows_of_the_tests_have_the_columns_of_the_query(
    runbook: str, step: str, aureus: asyncpg.Connection
) -> None:
    prepared = await aureus.prepare(SOURCES[runbook, step].query)
    columns = {column.name for column in prepared.get_attributes()}
    written = {key for row in written_rows(runbook, step) for key in row}
    assert written <= columns


async def rows_of(conn: asyncpg.Connection, runbook: str, step: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await conn.fetch(SOURCES[runbook, step].query)]


async def fill(conn: asyncpg.Connection, scans: int) -> None:
    """Orders with lines, whose lines are read whole so often; then wait until the server has counted it."""
    await conn.execute("insert into orders select n, n from generate_series(1, 100) n; analyze orders")
    await conn.execute('insert into "Order Lines" select n, n % 100 + 1 from generate_series(1, 12000) n')
    await conn.execute("insert into payments select n, n % 100 + 1 from generate_series(1, 12000) n")
    await conn.execute("select pg_stat_force_next_flush()")
    await conn.execute('analyze "Order Lines", payments')
    await conn.execute("set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off")
    for table in ('"Order Lines"', "payments"):
        await conn.execute(f"do $$ begin for i in 1..{scans} loop perform 1 from {table} limit 1; end loop; end $$")
    await conn.execute("select pg_stat_force_next_flush()")


async def test_a_foreign_key_without_an_index_is_found_by_its_quoted_name(aureus: asyncpg.Connection) -> None:
    await fill(aureus, 1001)
    found = await rows_of(aureus, "HighLatency", "keys")
    assert [(row["table"], row["column"], row["rows"]) for row in found] == [('public."Order Lines"', "order", 12_000)]
    await aureus.execute('create index on "Order Lines" ("order", note)')
    assert await rows_of(aureus, "HighLatency", "keys") == []


async def test_a_foreign_key_of_a_table_that_is_seldom_read_whole_is_left_alone(aureus: asyncpg.Connection) -> None:
    await fill(aureus, 10)
    assert await rows_of(aureus, "HighLatency", "keys") == []


async def test_statistics_are_out_of_date_once_a_fifth_of_the_rows_has_changed(aureus: asyncpg.Connection) -> None:
    await fill(aureus, 1)
    assert await rows_of(aureus, "HighLatency", "tables") == []
    await aureus.execute("update payments set paid = 1 where id <= 2401; select pg_stat_force_next_flush()")
    found = await rows_of(aureus, "HighLatency", "tables")
    assert [(row["table"], row["modified"]) for row in found] == [("public.payments", 2401)]


async def test_connections_are_counted_by_database_and_role_the_services_first(
    aureus: asyncpg.Connection, database: Database
) -> None:
    await aureus.execute("alter role aureus login")
    service = await asyncpg.connect(database.url, user="aureus")
    try:
        found = await rows_of(aureus, "DatabaseConnections", "sessions")
    finally:
        await service.close()
    name = await aureus.fetchval("select current_database()")
    first = {"database": name, "role": "aureus", "sessions": 1, "idle": 0, "running": 0, "in_transaction": 0}
    assert found[0] == first


async def test_who_holds_up_the_others_is_found_and_not_those_that_only_wait(
    aureus: asyncpg.Connection, database: Database
) -> None:
    holder = await asyncpg.connect(database.url, server_settings={"application_name": "a migration"})
    waiters = [await asyncpg.connect(database.url) for _ in range(2)]
    try:
        async with asyncio.timeout(20), holder.transaction():
            await holder.execute("lock table orders")
            waiting = [asyncio.create_task(one.execute("truncate orders cascade")) for one in waiters]
            lacking = "select count(*) from pg_locks where not granted"
            while await aureus.fetchval(lacking) < len(waiters):
                pass  # each question is a turn of the server
            found = await rows_of(aureus, "HighLatency", "holders")
        await asyncio.gather(*waiting)
    finally:
        for conn in (holder, *waiters):
            await conn.close()
    assert [(row["application"], row["state"]) for row in found] == [("a migration", "idle in transaction")]
    assert found[0]["blocks"] >= 1


async def test_nothing_that_is_well_is_found(aureus: asyncpg.Connection) -> None:
    for runbook, step in (
        ("HighLatency", "slow"),
        ("HighLatency", "holders"),
        ("DatabaseDown", "damage"),
        ("DatabaseDisk", "slots"),
    ):
        assert await rows_of(aureus, runbook, step) == []


async def test_a_slot_that_nobody_reads_is_found(aureus: asyncpg.Connection) -> None:
    await aureus.execute("select pg_create_physical_replication_slot('forgotten', true)")
    try:
        [row] = await rows_of(aureus, "DatabaseDisk", "slots")
    finally:
        await aureus.execute("select pg_drop_replication_slot('forgotten')")
    assert (row["slot"], row["active"]) == ("forgotten", False)
