"""The account of a day, from PostgreSQL; written once when the day is over, and told if somebody is named for it."""

from __future__ import annotations

import datetime as dt

import asyncpg
import structlog

from engine.edge import audit, incidents
from engine.edge.database import Database
from engine.response.account import DayAccount, IncidentOfDay, account, day_bounds_ms, render_account, summary_of
from engine.response.guardrails import Policy
from engine.response.model import Notice

log = structlog.get_logger(__name__)

_DAYS_MAX = 7


async def read(conn: asyncpg.Connection, day: dt.date, policy: Policy) -> DayAccount:
    """The account of a day, also of one that is not over."""
    from_ms, to_ms = day_bounds_ms(day)
    rows = await audit.between(conn, from_ms, to_ms)
    numbers = sorted({row.incident for row in rows if row.incident is not None})
    found = await conn.fetch(
        "select id, runbook, title, status, state->>'resolution' as resolution, "
        "exists (select 1 from commands c where c.incident = i.id) as acted "
        "from incidents i where id = any($1) order by id",
        numbers,
    )
    incidents = [IncidentOfDay(**{**dict(row), "resolution": row["resolution"] or ""}) for row in found]
    return account(day, incidents, rows, policy)


async def write_missing(database: Database, now_ms: int, policy: Policy, told: str) -> list[dt.date]:
    """Write the accounts of the days that are over and have none: since the last one, of a week at most.

    `told` ("": nobody) gets a notice of each day that had an incident. A day on which nothing happened has an account
    too, so that a missing one means something.
    """
    yesterday = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).date() - dt.timedelta(days=1)
    async with database.connection() as conn:
        last = await conn.fetchval("select max(day) from daily_accounts") or yesterday - dt.timedelta(days=1)
    days = [yesterday - dt.timedelta(days=back) for back in range(_DAYS_MAX)]
    missing = [day for day in reversed(days) if day > last]
    return [day for day in missing if await _write(database, day, now_ms, policy, told)]


async def _write(database: Database, day: dt.date, now_ms: int, policy: Policy, told: str) -> bool:
    async def work(conn: asyncpg.Connection) -> DayAccount | None:
        if await conn.fetchval("select 1 from daily_accounts where day = $1", day):
            return None
        found = await read(conn, day, policy)
        text = render_account(found)
        added = await conn.fetchval(
            "insert into daily_accounts (day, at_ms, markdown) values ($1, $2, $3) on conflict do nothing returning 1",
            day,
            now_ms,
            text,
        )
        numbers = [incident.id for one in found.runbooks for incident in one.incidents]
        if added is not None and told and numbers:
            # A notice belongs to an incident: the day's last one.
            said = f"{summary_of(found)} sentinel account --day {day.isoformat()}"
            await incidents.write_notice(
                conn, Notice(f"account-{day.isoformat()}", max(numbers), "notify", (told,), "P3", said), now_ms
            )
        return found if added is not None else None

    found = await database.run(work)
    if found is None:
        return False
    log.info(
        "account.written",
        day=day.isoformat(),
        incidents=sum(len(one.incidents) for one in found.runbooks),
        would=sum(len(one.would) for one in found.runbooks),
        would_refused=sum(bool(command.refused) for one in found.runbooks for command in one.would),
    )
    return True
