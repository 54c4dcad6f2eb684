"""What holds everywhere at once: the pause switch (while it is on, no executor starts a command), and the time."""

from __future__ import annotations

import asyncpg
from msgspec import Struct

from engine.edge import audit


class Pause(Struct, frozen=True):
    """Whether commands are held back, by whom and since when (0: never switched)."""

    paused: bool
    by: str
    since_ms: int


async def clock_ms(conn: asyncpg.Connection) -> int:
    """The database's clock: milliseconds since 1970, UTC."""
    return int(await conn.fetchval("select floor(extract(epoch from clock_timestamp()) * 1000)::bigint"))


async def pause_state(conn: asyncpg.Connection, *, lock: bool = False) -> Pause:
    """The switch with who set it. `lock`: it stays as it is until the caller's transaction ends."""
    query = "select paused, by_name, since_ms from control"
    row = await conn.fetchrow(f"{query} for share" if lock else query)
    return Pause(row["paused"], row["by_name"], row["since_ms"])


async def is_paused(conn: asyncpg.Connection, *, lock: bool = False) -> bool:
    """Whether the switch is on; `lock` as in `pause_state`."""
    return (await pause_state(conn, lock=lock)).paused


async def set_paused(conn: asyncpg.Connection, paused: bool, by: str, now_ms: int) -> bool:
    """Set the switch within the caller's transaction; whether that changed it. Both ways it is audited."""
    was = await conn.fetchval("select paused from control for update")
    if was != paused:
        await conn.execute("update control set paused = $1, by_name = $2, since_ms = $3", paused, by, now_ms)
    await audit.append(
        conn,
        at_ms=now_ms,
        actor=by,
        kind="control.paused" if paused else "control.resumed",
        incident=None,
        command=None,
        data={"changed": was != paused},
    )
    return bool(was != paused)
