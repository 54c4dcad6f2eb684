"""Claims in PostgreSQL: who may carry out a command, until when, and what became of it.

A row is made before anything is done and is never removed, so an id runs at most once for ever. While a row has no
outcome its target is taken. The newest fencing token decides who may still write: an executor that lost its lease
finds its token outdated.

Leases begin and end by the database's clock alone: the clocks of executors may differ.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from engine.core.messages import Command, Outcome

_NOW = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint"
_FLEETS = 0x5E47_F1EE  # any constant of ours: the commands on one fleet are begun one after the other
_COLUMNS = f"command, body, incident, target, executor, token, claimed_ms, lease_ms <= {_NOW} as lapsed, plan, outcome"


class Claim(Struct, frozen=True):
    """A command that an executor took. `body` is the command's JSON text; `lapsed`: its lease is over."""

    command: str
    body: str
    incident: int
    target: str
    executor: str
    token: int
    claimed_ms: int
    lapsed: bool
    plan: dict[str, Any] | None
    outcome: Outcome | None


def _claim(row: asyncpg.Record | None) -> Claim | None:
    return msgspec.convert(dict(row), Claim) if row is not None else None


async def find(conn: asyncpg.Connection, command_id: str) -> Claim | None:
    """The claim on a command."""
    return _claim(await conn.fetchrow(f"select {_COLUMNS} from claims where command = $1", command_id))  # noqa: S608  # constants


async def on_target(conn: asyncpg.Connection, target: str) -> Claim | None:
    """The claim that holds a target now."""
    query = f"select {_COLUMNS} from claims where target = $1 and outcome is null"  # noqa: S608  # constants
    return _claim(await conn.fetchrow(query, target))


async def take(
    conn: asyncpg.Connection, command: Command, body: str, executor: str, now_ms: int, lease_ms: int
) -> int | None:
    """Claim a command and its target for `lease_ms`; the fencing token, or None when either is taken."""
    token: int | None = await conn.fetchval(
        "insert into claims (command, body, incident, target, executor, claimed_ms, lease_ms) "  # noqa: S608  # constants
        f"values ($1, $2, $3, $4, $5, $6, {_NOW} + $7::bigint) on conflict do nothing returning token",
        command.id,
        body,
        command.incident,
        command.target.key(),
        executor,
        now_ms,
        lease_ms,
    )
    return token


async def record_refused(conn: asyncpg.Connection, command: Command, body: str, outcome: Outcome) -> bool:
    """Keep the outcome of a command that was never begun; False when somebody else has claimed it meanwhile."""
    added = await conn.fetchval(
        "insert into claims (command, body, incident, target, executor, claimed_ms, lease_ms, outcome) "
        "values ($1, $2, $3, $4, $5, $6, $6, $7) on conflict do nothing returning command",
        command.id,
        body,
        command.incident,
        command.target.key(),
        outcome.executor,
        outcome.finished_ms,
        msgspec.to_builtins(outcome),
    )
    return added is not None


async def renew(conn: asyncpg.Connection, command_id: str, token: int, lease_ms: int) -> bool:
    """Let the lease end `lease_ms` from now; False when it was lost."""
    query = (
        f"update claims set lease_ms = {_NOW} + $3::bigint "  # noqa: S608  # constants
        "where command = $1 and token = $2 and outcome is null returning token"
    )
    return await conn.fetchval(query, command_id, token, lease_ms) is not None


async def begin(conn: asyncpg.Connection, command_id: str, token: int, plan: dict[str, Any]) -> bool:
    """Keep the plan, right before acting; False when the lease was lost or is over."""
    query = (
        "update claims set plan = $3 where command = $1 and token = $2 and outcome is null "  # noqa: S608  # constants
        f"and lease_ms > {_NOW} returning token"
    )
    return await conn.fetchval(query, command_id, token, plan) is not None


async def acted_on(conn: asyncpg.Connection, fleet: str, but: str, since_ms: int) -> set[str]:
    """The targets of a fleet that commands were begun on since then, whatever came of them, one left out.

    Until the caller's transaction ends nobody else is told of the same fleet.
    """
    await conn.execute("select pg_advisory_xact_lock($1, hashtext($2))", _FLEETS, fleet)
    rows = await conn.fetch(
        "select distinct target from claims where plan -> 'fleet' ->> 'name' = $1 and command <> $2 "
        "and claimed_ms > $3 and coalesce(outcome ->> 'status', '') <> 'refused'",
        fleet,
        but,
        since_ms,
    )
    return {row["target"] for row in rows}


async def take_over(conn: asyncpg.Connection, claim: Claim, executor: str, lease_ms: int) -> int | None:
    """Fence off the holder of a lease that is over; the new token, None when it is not over or was taken."""
    token: int | None = await conn.fetchval(
        f"update claims set executor = $3, lease_ms = {_NOW} + $4::bigint, token = nextval('fencing_tokens') "  # noqa: S608  # constants
        f"where command = $1 and token = $2 and outcome is null and lease_ms <= {_NOW} returning token",
        claim.command,
        claim.token,
        executor,
        lease_ms,
    )
    return token


async def finish(conn: asyncpg.Connection, token: int, outcome: Outcome) -> bool:
    """Keep the outcome and free the target; False when the lease was lost."""
    query = "update claims set outcome = $3 where command = $1 and token = $2 and outcome is null returning token"
    return await conn.fetchval(query, outcome.command, token, msgspec.to_builtins(outcome)) is not None


async def under_way(conn: asyncpg.Connection) -> list[Claim]:
    """Claims without outcome, oldest first. A lapsed one: its executor died in the middle, or is cut off."""
    query = f"select {_COLUMNS} from claims where outcome is null order by token"  # noqa: S608  # constants
    return [msgspec.convert(dict(row), Claim) for row in await conn.fetch(query)]


async def unpublished(conn: asyncpg.Connection) -> list[Outcome]:
    """Outcomes that may not have reached the topic, oldest first."""
    rows = await conn.fetch(
        "select outcome from claims where not published and outcome is not null order by claimed_ms, token"
    )
    return [msgspec.convert(row["outcome"], Outcome) for row in rows]


async def mark_published(conn: asyncpg.Connection, command_id: str) -> None:
    """The outcome of a command reached the topic."""
    await conn.execute("update claims set published = true where command = $1", command_id)
