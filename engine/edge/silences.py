"""Silences in PostgreSQL; each change is an audit row in the caller's transaction."""

from __future__ import annotations

import uuid

import asyncpg
import msgspec

from engine.core.labels import Matcher
from engine.edge import audit
from engine.response.silences import Silence, checked
from engine.response.words import cleaned

_COLUMNS = "id::text, kind, matchers, starts_ms, ends_ms, by_name, comment"


def new_id() -> str:
    """The id of a silence to be; given before its transaction, so that one done twice keeps it once."""
    return str(uuid.uuid4())


async def add(conn: asyncpg.Connection, silence: Silence, now_ms: int) -> Silence:
    """Keep a new silence; one that begins in the past begins now. Raises `ValueError`."""
    starts_ms = max(silence.starts_ms, now_ms)
    given = checked(cleaned(msgspec.structs.replace(silence, starts_ms=starts_ms)))
    made = await conn.fetchval(
        "insert into silences (id, kind, matchers, starts_ms, ends_ms, by_name, comment) "
        "values ($1::uuid, $2, $3, $4, $5, $6, $7) on conflict do nothing returning id::text",
        given.id,
        given.kind,
        msgspec.to_builtins(given.matchers),
        given.starts_ms,
        given.ends_ms,
        given.by,
        given.comment,
    )
    if made is not None:
        await _record(conn, "silence.added", given, given.by, now_ms)
    return given


async def expire(conn: asyncpg.Connection, silence_id: str, by: str, now_ms: int) -> Silence | None:
    """End a silence now, also one that has not begun; None when there is none of this id that has not ended."""
    row = await conn.fetchrow(
        "update silences set ends_ms = $2, starts_ms = least(starts_ms, $2), version = nextval('silence_versions') "  # noqa: S608  # constants
        f"where id = $1::uuid and ends_ms > $2 returning {_COLUMNS}",
        silence_id,
        now_ms,
    )
    if row is None:
        return None
    expired = _silence(row)
    await _record(conn, "silence.expired", expired, by, now_ms)
    return expired


async def not_over(conn: asyncpg.Connection, now_ms: int) -> tuple[Silence, ...]:
    """Silences that hold or will, the first to end first."""
    query = f"select {_COLUMNS} from silences where ends_ms > $1 order by ends_ms, id"  # noqa: S608  # constants
    return tuple(_silence(row) for row in await conn.fetch(query, now_ms))


async def newest(conn: asyncpg.Connection, limit: int) -> list[Silence]:
    """Silences, also those that are over, the last to end first."""
    query = f"select {_COLUMNS} from silences order by ends_ms desc, id limit $1"  # noqa: S608  # constants
    return [_silence(row) for row in await conn.fetch(query, limit)]


async def find(conn: asyncpg.Connection, silence_id: str) -> Silence | None:
    """The silence of an id; None also for what is no id."""
    try:
        known = uuid.UUID(silence_id)
    except ValueError:
        return None
    row = await conn.fetchrow(f"select {_COLUMNS} from silences where id = $1", known)  # noqa: S608  # constants
    return _silence(row) if row is not None else None


async def version(conn: asyncpg.Connection) -> int:
    """Another number after every change of a silence: a sum, as transactions need not end in the order they began."""
    return int(await conn.fetchval("select coalesce(sum(version), 0) from silences"))


def _silence(row: asyncpg.Record) -> Silence:
    matchers = msgspec.convert(row["matchers"], tuple[Matcher, ...])
    fields = (row["starts_ms"], row["ends_ms"], row["by_name"], row["comment"], row["kind"])
    return Silence(row["id"], matchers, *fields)


async def _record(conn: asyncpg.Connection, kind: str, silence: Silence, by: str, now_ms: int) -> None:
    data: dict[str, object] = {
        "silence": silence.id,
        "kind": silence.kind,
        "matchers": [str(matcher) for matcher in silence.matchers],
        "starts_ms": silence.starts_ms,
        "ends_ms": silence.ends_ms,
        "comment": silence.comment,
    }
    await audit.append(conn, at_ms=now_ms, actor=by, kind=kind, incident=None, command=None, data=data)
