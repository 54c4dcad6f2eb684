"""The outbox of notices in PostgreSQL: who is to be told what, and how far that is. In the caller's transaction.

```
 notices ──route──> deliveries: waiting ──claim──> (leased) ──┬──> delivered, or standing: repeated while it is open
                                   ^                          ├──> waiting again, later
                                   ├──────── lease over ──────┼──> given_up: audited, and the next level is told
                                   └─ P2, P3: until its hours ┘
```

Of one incident, a receiver is told in order: a row waits for those before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import asyncpg
from msgspec import Struct

from engine.edge import audit
from engine.response.hours import URGENT
from engine.response.model import NoticeKind
from engine.response.steps import Priority

_ROUTING = 0x5E47_0712  # any constant of ours: notices become deliveries in their order, whoever does it
ACTOR = "notifier"


class NoticeRow(Struct, frozen=True):
    """A notice that no notifier has seen yet."""

    id: str
    incident: int
    kind: NoticeKind
    told: list[str]
    at_ms: int


class Delivery(Struct, frozen=True):
    """A row that was claimed; `attempts` names this attempt, `priority` is its incident's now."""

    seq: int
    notice: str
    incident: int
    receiver: str
    calls: bool
    state: str
    attempts: int
    created_ms: int
    held_until_ms: int | None
    priority: Priority

    @property
    def due_ms(self) -> int:
        """When it was first to be delivered."""
        return max(self.created_ms, self.held_until_ms or 0)


class Trouble(Struct, frozen=True):
    """A receiver that cannot be told: what waits since when, what was given up, and the last reason."""

    receiver: str
    waiting: int
    given_up: int
    since_ms: int
    last_error: str

    def __str__(self) -> str:
        waiting = f"{self.waiting} undelivered" if self.waiting else ""
        given_up = f"{self.given_up} given up" if self.given_up else ""
        return f"{self.receiver}: {', '.join(part for part in (waiting, given_up) if part)} ({self.last_error})"


async def unrouted(conn: asyncpg.Connection, most: int = 100) -> list[NoticeRow]:
    """Notices to make deliveries of, in their order; none while another notifier does so."""
    if not await conn.fetchval("select pg_try_advisory_xact_lock($1)", _ROUTING):
        return []
    rows = await conn.fetch(
        "select id, incident, kind, told, at_ms from notices where routed_ms is null order by seq limit $1", most
    )
    return [NoticeRow(**dict(row)) for row in rows]


async def told_before(conn: asyncpg.Connection, incident: int) -> list[str]:
    """The receivers that were told of an incident, in the order in which they were."""
    rows = await conn.fetch(
        "select receiver from deliveries where incident = $1 group by receiver order by min(seq)", incident
    )
    return [row["receiver"] for row in rows]


async def add(conn: asyncpg.Connection, notice: NoticeRow, receivers: Iterable[str], calls: bool, now_ms: int) -> None:
    """Make a notice's deliveries; it is routed then."""
    await conn.executemany(
        "insert into deliveries (notice, incident, receiver, calls, created_ms, next_ms) "
        "values ($1, $2, $3, $4, $5, $5) on conflict do nothing",
        [(notice.id, notice.incident, receiver, calls, now_ms) for receiver in receivers],
    )
    if notice.kind == "resolved":
        query = "update deliveries set state = 'delivered' where incident = $1 and state = 'standing'"
        await conn.execute(query, notice.incident)
    await conn.execute("update notices set routed_ms = $2 where id = $1", notice.id, now_ms)


async def claim(conn: asyncpg.Connection, busy: Collection[str], now_ms: int, lease_ms: int) -> list[Delivery]:
    """Take what is due, one row for each receiver not busy, calls first; others leave it alone for the lease."""
    rows = await conn.fetch(
        "update deliveries set next_ms = $1 + $3, attempts = attempts + 1 where seq in ("
        "  select due.seq from (select distinct receiver from deliveries where state in ('waiting', 'standing')"
        "    and next_ms <= $1 and receiver <> all($2::text[])) r"
        "  cross join lateral (select d.seq from deliveries d where d.receiver = r.receiver"
        "    and d.state in ('waiting', 'standing') and d.next_ms <= $1 and not exists ("
        "      select 1 from deliveries e where e.incident = d.incident and e.receiver = d.receiver"
        "      and e.seq < d.seq and e.state = 'waiting')"
        "    order by d.calls desc, d.seq limit 1 for update skip locked) due) "
        "returning seq, notice, incident, receiver, calls, state, attempts, created_ms, held_until_ms, "
        "(select priority from incidents i where i.id = deliveries.incident) as priority",
        now_ms,
        list(busy),
        lease_ms,
    )
    return [Delivery(**dict(row)) for row in rows]


async def delivered(
    conn: asyncpg.Connection, row: Delivery, receipt: dict[str, Any], now_ms: int, repeat_ms: int | None
) -> bool:
    """Note a success; whether this attempt still counted. `repeat_ms`: due again then, if the incident is open."""
    found = await conn.fetchval(
        "update deliveries d set receipt = $3, last_error = '', done_ms = coalesce(done_ms, $4), "
        "next_ms = $4 + coalesce($5::bigint, 0), state = case when $5::bigint is not null "
        "and exists (select 1 from incidents i where i.id = d.incident and i.status = 'open') "
        "then 'standing' else 'delivered' end "
        "where seq = $1 and attempts = $2 and state in ('waiting', 'standing') returning seq",
        row.seq,
        row.attempts,
        receipt,
        now_ms,
        repeat_ms,
    )
    if found is not None and repeat_ms is not None:  # of one incident only what was said last is repeated
        await conn.execute(
            "update deliveries set state = 'delivered' "
            "where incident = $1 and receiver = $2 and seq < $3 and state = 'standing'",
            row.incident,
            row.receiver,
            row.seq,
        )
    return found is not None


async def hold(conn: asyncpg.Connection, row: Delivery, until_ms: int) -> None:
    """Its receiver's hours begin only then; that was no attempt."""
    await conn.execute(
        "update deliveries set held_until_ms = $3, next_ms = $3, attempts = attempts - 1 "
        "where seq = $1 and attempts = $2 and state = 'waiting'",
        row.seq,
        row.attempts,
        until_ms,
    )


async def let_go(conn: asyncpg.Connection, now_ms: int) -> None:
    """What waits for somebody's hours waits no longer where the incident has become urgent."""
    await conn.execute(
        "update deliveries d set held_until_ms = $1, next_ms = $1 from incidents i "
        "where i.id = d.incident and d.state = 'waiting' and d.held_until_ms > $1 and i.priority = any($2::text[])",
        now_ms,
        sorted(URGENT),
    )


async def failed(conn: asyncpg.Connection, row: Delivery, error: str, next_ms: int) -> None:
    """Note a failure that is not the end."""
    await conn.execute(
        "update deliveries set last_error = $3, next_ms = $4 where seq = $1 and attempts = $2",
        row.seq,
        row.attempts,
        error,
        next_ms,
    )


async def give_up(conn: asyncpg.Connection, row: Delivery, error: str, now_ms: int) -> bool:
    """End a delivery that failed: an audit row, and for a call the responder is told, so that the next level is."""
    found = await conn.fetchval(
        "update deliveries set state = 'given_up', last_error = $3, done_ms = $4 "
        "where seq = $1 and attempts = $2 and state = 'waiting' returning seq",
        row.seq,
        row.attempts,
        error,
        now_ms,
    )
    if found is None:
        return False
    text = f"{row.receiver} could not be told: {error}"
    if row.calls:
        await conn.execute(
            "insert into operator_events (incident, kind, by_name, text, at_ms) values ($1, 'undelivered', $2, $3, $4)",
            row.incident,
            ACTOR,
            text,
            now_ms,
        )
    data: dict[str, object] = {"text": text, "notice": row.notice, "receiver": row.receiver, "attempts": row.attempts}
    await audit.append(
        conn, at_ms=now_ms, actor=ACTOR, kind="notice.undelivered", incident=row.incident, command=None, data=data
    )
    return True


async def troubles(conn: asyncpg.Connection) -> list[Trouble]:
    """The receivers that could not be told of something, and are still to hear of it or of an open incident."""
    rows = await conn.fetch(
        "select receiver, count(*) filter (where d.state in ('waiting', 'standing')) as waiting, "
        "count(*) filter (where d.state = 'given_up') as given_up, min(created_ms) as since_ms, "
        "(array_agg(last_error order by d.seq desc))[1] as last_error "
        "from deliveries d join incidents i on i.id = d.incident "
        "where last_error <> '' and (d.state in ('waiting', 'standing') "
        "or (d.state = 'given_up' and i.status = 'open')) "
        "group by receiver order by receiver"
    )
    return [Trouble(**dict(row)) for row in rows]


async def waiting(conn: asyncpg.Connection) -> dict[str, int]:
    """How many notices wait for each receiver that is not gone."""
    rows = await conn.fetch("select receiver, count(*) as n from deliveries where state = 'waiting' group by receiver")
    return {row["receiver"]: row["n"] for row in rows}
