"""Change, delete, insert or move any one row of the audit, and `sentinel audit verify` names the place.

Every position of a chain of five, the first and the last, and the head beside it; by somebody who may do everything in
the database, also switch off its triggers, and who knows how a row is sealed.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from engine.edge import audit
from engine.edge.database import Database
from engine.response.audit import GENESIS, AuditHead, next_row
from tests.cli.conftest import Ran
from tests.guardrails.world import World

COUNT = 5
ROWS = range(1, COUNT + 1)
COLUMNS = {
    "at_ms": "at_ms + 1",
    "actor": "'mallory'",
    "kind": "'command.succeeded'",
    "incident": "8",
    "command": "'another'",
    "data": """'{"decision":"approved"}'""",
    "previous": "repeat('a', 64)",
    "hash": "repeat('b', 64)",
}
Tamper = Callable[[asyncpg.Connection], Awaitable[None]]


def change(row: int, column: str) -> Tamper:
    async def tamper(conn: asyncpg.Connection) -> None:
        await conn.execute(f"update audit set {column} = {COLUMNS[column]} where seq = $1", row)  # noqa: S608  # ours

    return tamper


def delete(row: int, *, renumber: bool = False) -> Tamper:
    async def tamper(conn: asyncpg.Connection) -> None:
        await conn.execute("delete from audit where seq = $1", row)
        if renumber:
            await _renumber(conn, row + 1, -1)

    return tamper


def insert(row: int) -> Tamper:
    """A well-sealed row is put before `row`, whose number it takes."""

    async def tamper(conn: asyncpg.Connection) -> None:
        rows = await audit.rows(conn)
        before = AuditHead(row - 1, rows[row - 2].hash if row > 1 else GENESIS)
        made = next_row(before, rows[0])
        await _renumber(conn, row, 1)
        await conn.execute(
            "insert into audit (seq, at_ms, actor, kind, incident, command, data, previous, hash) "
            "values ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9)",
            *(getattr(made, name) for name in made.__struct_fields__),
        )

    return tamper


def exchange(one: int, other: int) -> Tamper:
    async def tamper(conn: asyncpg.Connection) -> None:
        await conn.execute("update audit set seq = -1 where seq = $1", one)
        await conn.execute("update audit set seq = $1 where seq = $2", one, other)
        await conn.execute("update audit set seq = $1 where seq = -1", other)

    return tamper


def head(statement: str) -> Tamper:
    async def tamper(conn: asyncpg.Connection) -> None:
        await conn.execute(statement)

    return tamper


async def _renumber(conn: asyncpg.Connection, first: int, by: int) -> None:
    await conn.execute("update audit set seq = -(seq + $2) where seq >= $1", first, by)
    await conn.execute("update audit set seq = -seq where seq < 0")


# what is done, the row that is named, what is said of it
TAMPERINGS = [
    *((f"change {column} of 3", change(3, column), 3, "was changed") for column in COLUMNS),
    *((f"change actor of {row}", change(row, "actor"), row, "was changed") for row in ROWS if row != 3),
    *((f"delete {row}", delete(row), row, "is missing") for row in ROWS),
    *((f"delete {row}, close the gap", delete(row, renumber=True), row, f"was row {row + 1}") for row in ROWS[:-1]),
    (f"delete {COUNT}, close the gap", delete(COUNT, renumber=True), COUNT, "is missing: the chain was cut off"),
    *((f"insert before {row}", insert(row), row + 1, f"was row {row}") for row in ROWS),
    (f"insert after {COUNT}", insert(COUNT + 1), COUNT + 1, "was inserted"),
    *((f"exchange {one} and {two}", exchange(one, two), one, "was ") for one, two in itertools.combinations(ROWS, 2)),
    ("head: removed", head("delete from audit_head"), COUNT, "head of the chain is missing"),
    ("head: another hash", head("update audit_head set hash = repeat('c', 64)"), COUNT, "not the row the stored head"),
    ("head: set back", head("update audit_head set seq = 3"), 4, "was inserted"),
    ("head: set forward", head("update audit_head set seq = 9"), COUNT + 1, "is missing"),
]


@pytest.mark.parametrize(("tamper", "row", "said"), [pytest.param(*given, id=done) for done, *given in TAMPERINGS])
async def test_verify_names_the_place_that_was_tampered_with(
    tamper: Tamper, row: int, said: str, world: World, database: Database
) -> None:
    for number in ROWS:
        async with database.transaction() as conn:
            data: dict[str, object] = {"number": number}
            await audit.append(
                conn, at_ms=number, actor="responder", kind="step.done", incident=7, command="c", data=data
            )
    assert (await world.cli("audit", "verify")).out == f"the audit chain holds: {COUNT} rows\n"
    async with database.connection() as conn:
        await conn.execute("set session_replication_role = replica")  # triggers do not fire
        await tamper(conn)
        await conn.execute("set session_replication_role = origin")
    ran: Ran = await world.cli("audit", "verify")
    assert (ran.code, f"the audit chain is broken at row {row}: " in ran.err, said in ran.err) == (1, True, True), ran
