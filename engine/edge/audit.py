"""The audit in PostgreSQL: rows are appended inside the transaction of the decision they record, or not at all."""

from __future__ import annotations

import asyncpg
from msgspec import structs

from engine.response.audit import AuditBreak, AuditHead, AuditRow, ChainCheck, canonical_data, next_row

_COLUMNS = "seq, at_ms, actor, kind, incident, command, data::text as data, previous, hash"


async def append(
    conn: asyncpg.Connection,
    *,
    at_ms: int,
    actor: str,
    kind: str,
    incident: int | None,
    command: str | None,
    data: dict[str, object],
) -> int:
    """Append one row within the caller's transaction; returns its number.

    The head stays locked until that transaction ends, so the chain never forks: append last, and keep the transaction
    short. `kind` is `subject.what_happened`, e.g. `command.refused`.
    """
    if not conn.is_in_transaction():
        raise RuntimeError("audit.append needs the transaction of the decision it records")
    held = await conn.fetchrow("select seq, hash from audit_head for update")
    if held is None:
        raise RuntimeError("the head of the audit chain is gone; `sentinel audit verify` tells more")
    bare = AuditRow(0, at_ms, actor, kind, incident, command, canonical_data(data), "", "")
    row = next_row(AuditHead(held["seq"], held["hash"]), bare)
    await conn.execute(
        "insert into audit (seq, at_ms, actor, kind, incident, command, data, previous, hash) "
        "values ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9)",
        *structs.astuple(row),
    )
    await conn.execute("update audit_head set seq = $1, hash = $2", row.seq, row.hash)
    return row.seq


async def verify(conn: asyncpg.Connection) -> AuditBreak | None:
    """The first place where the stored chain does not hold, None if it does."""
    check = ChainCheck()
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        async for found in conn.cursor(f"select {_COLUMNS} from audit order by seq", prefetch=1000):  # noqa: S608  # a constant
            broken = check.add(AuditRow(**dict(found)))
            if broken is not None:
                return broken
        held = await conn.fetchrow("select seq, hash from audit_head")
    return check.finish(AuditHead(held["seq"], held["hash"]) if held is not None else None)


async def rows(conn: asyncpg.Connection, *, incident: int | None = None, command: str | None = None) -> list[AuditRow]:
    """The rows of an incident or of a command (or all of them), oldest first."""
    found = await conn.fetch(
        f"select {_COLUMNS} from audit where ($1::bigint is null or incident = $1) "  # noqa: S608  # a constant
        "and ($2::text is null or command = $2) order by seq",
        incident,
        command,
    )
    return [AuditRow(**dict(row)) for row in found]


async def between(conn: asyncpg.Connection, from_ms: int, to_ms: int) -> list[AuditRow]:
    """The rows of a span of time, its end left out, in their order."""
    query = f"select {_COLUMNS} from audit where at_ms >= $1 and at_ms < $2 order by seq"  # noqa: S608  # a constant
    return [AuditRow(**dict(row)) for row in await conn.fetch(query, from_ms, to_ms)]
