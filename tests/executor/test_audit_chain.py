"""The audit in PostgreSQL: append-only, one chain, and any tampering is named by its row."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from engine.edge import audit
from engine.edge.database import Database
from engine.response.audit import AuditBreak, row_hash


async def fill(db: Database, count: int = 5) -> None:
    for number in range(1, count + 1):
        async with db.transaction() as conn:
            await append(conn, number)


async def append(conn: asyncpg.Connection, number: int) -> int:
    return await audit.append(
        conn,
        at_ms=number * 1000,
        actor="responder",
        kind="step.done",
        incident=7,
        command=f"c{number}",
        data={"note": 'ü "quoted" \\', "value": 0.1, "big": 2**60, "list": [1, None]},
    )


async def test_rows_count_from_one_and_the_chain_holds(database: Database) -> None:
    await fill(database)
    async with database.connection() as conn:
        assert [row.seq for row in await audit.rows(conn)] == [1, 2, 3, 4, 5]
        assert await audit.verify(conn) is None


async def test_an_empty_chain_holds(database: Database) -> None:
    async with database.connection() as conn:
        assert await audit.verify(conn) is None


async def test_a_rolled_back_decision_leaves_no_row_and_no_gap(database: Database) -> None:
    async with database.connection() as conn:
        decision = conn.transaction()
        await decision.start()
        await append(conn, 1)
        await decision.rollback()
    await fill(database, 2)
    async with database.connection() as conn:
        assert await audit.verify(conn) is None
        assert len(await audit.rows(conn)) == 2


async def test_appending_outside_a_transaction_is_a_mistake(database: Database) -> None:
    async with database.connection() as conn:
        with pytest.raises(RuntimeError, match="needs the transaction"):
            await append(conn, 1)


async def test_forty_writers_at_once_make_one_chain_without_a_fork(database: Database) -> None:
    async def one(number: int) -> None:
        async with database.transaction() as conn:
            await append(conn, number)

    await asyncio.gather(*(one(number) for number in range(40)))
    async with database.connection() as conn:
        assert await audit.verify(conn) is None
        assert [row.seq for row in await audit.rows(conn)] == list(range(1, 41))


async def test_rows_are_found_by_incident_and_by_command(database: Database) -> None:
    await fill(database, 3)
    async with database.connection() as conn:
        assert [row.seq for row in await audit.rows(conn, command="c2")] == [2]
        assert len(await audit.rows(conn, incident=7)) == 3
        assert await audit.rows(conn, incident=8) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update audit set actor = 'somebody' where seq = 2",
        "delete from audit where seq = 2",
        "truncate audit",
        "delete from audit_head",
        "truncate audit_head",
        "update audit_head set seq = 1",
    ],
)
async def test_the_database_refuses_to_rewrite_the_past(database: Database, statement: str) -> None:
    await fill(database)
    async with database.connection() as conn:
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await conn.execute(statement)
        assert await audit.verify(conn) is None


COPY = (
    "insert into audit select {seq}, at_ms, actor, kind, incident, command, data, previous, hash "
    "from audit where seq = {of}"
)


@pytest.mark.parametrize(
    ("tampering", "row", "problem"),
    [
        (["update audit set at_ms = 1 where seq = 3"], 3, "changed"),
        (["update audit set actor = 'mallory' where seq = 3"], 3, "changed"),
        (["update audit set kind = 'x' where seq = 1"], 1, "changed"),
        (["update audit set incident = null where seq = 3"], 3, "changed"),
        (["update audit set command = 'c9' where seq = 5"], 5, "changed"),
        (["""update audit set data = '{"note":""}' where seq = 2"""], 2, "changed"),
        (["update audit set data = (data::text || ' ')::json where seq = 2"], 2, "changed"),
        (["update audit set previous = repeat('0', 64) where seq = 4"], 4, "changed"),
        (["update audit set hash = repeat('a', 64) where seq = 5"], 5, "changed"),
        (["delete from audit where seq = 1"], 1, "missing"),
        (["delete from audit where seq = 3"], 3, "missing"),
        (["delete from audit where seq = 5"], 5, "cut off"),
        (["delete from audit"], 1, "cut off"),
        (["delete from audit where seq >= 4"], 4, "cut off"),
        ([COPY.format(seq=6, of=5)], 6, "was row 5"),
        (
            [
                "update audit set seq = seq + 100 where seq >= 3",
                "update audit set seq = seq - 99 where seq >= 103",
                COPY.format(seq=3, of=2),
            ],
            3,
            "was row 2",
        ),
        (
            [
                "update audit set seq = 99 where seq = 2",
                "update audit set seq = 2 where seq = 3",
                "update audit set seq = 3 where seq = 99",
            ],
            2,
            "was row 3",
        ),
        (["delete from audit_head"], 5, "head of the chain is missing"),
        (["update audit_head set hash = repeat('b', 64)"], 5, "not the row the stored head names"),
        (["update audit_head set seq = 3"], 4, "inserted"),
    ],
)
async def test_tampering_as_superuser_is_named_by_its_row(
    database: Database, tampering: list[str], row: int, problem: str
) -> None:
    await fill(database)
    async with database.connection() as conn:
        await conn.execute("set session_replication_role = replica")  # triggers do not fire
        for statement in tampering:
            await conn.execute(statement)
        await conn.execute("set session_replication_role = origin")
        broken = await audit.verify(conn)
    assert isinstance(broken, AuditBreak)
    assert (broken.seq, problem in broken.problem) == (row, True), broken


async def test_a_changed_row_with_its_hash_mended_is_found_at_the_next_row(database: Database) -> None:
    await fill(database)
    async with database.connection() as conn:
        await conn.execute("set session_replication_role = replica")
        await conn.execute("update audit set actor = 'mallory' where seq = 3")
        changed = (await audit.rows(conn))[2]
        await conn.execute("update audit set hash = $1 where seq = 3", row_hash(changed))
        broken = await audit.verify(conn)
    assert broken is not None
    assert broken.seq == 4
    assert "does not follow" in broken.problem
