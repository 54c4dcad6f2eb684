"""The global pause switch: while it is on, no executor starts a command."""

from __future__ import annotations

import asyncpg
from msgspec import Struct

from engine.edge import audit


class Pause(Struct, frozen=True):
    """Whether commands are held back, by whom and since when (0: never switched)."""

    paused: bool
    by: str
    since_ms: int


async def pause_state(conn: asyncpg.Connection) -> Pause:
    """The switch with who set it."""
    row = await conn.fetchrow("select paused, by_name, since_ms from control")
    return Pause(row["paused"], row["by_name"], row["since_ms"])


async def is_paused(conn: asyncpg.Connection) -> bool:
    """Whether the switch is on."""
    return (await pause_state(conn)).paused


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
