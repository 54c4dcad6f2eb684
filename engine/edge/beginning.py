"""What an executor looks at right before it acts, with the plan made: its lease, the pause switch, the blast radius.

One transaction keeps the plan and judges it, and executors do so one after the other for each fleet: of two at once
the second sees the first.
"""

from __future__ import annotations

import asyncpg
import msgspec
from msgspec import Struct

from engine.actions import Plan
from engine.core.messages import Command
from engine.edge import approvals, claims, control
from engine.edge.lease import LeaseLostError
from engine.response.blast_radius import BlastRadius


class Forbidden(Struct, frozen=True):
    """Why a command is not begun: the name of the reason, and words."""

    reason: str
    message: str


async def begin(
    conn: asyncpg.Connection, command: Command, token: int, plan: Plan, limit: BlastRadius, now_ms: int
) -> Forbidden | None:
    """Keep the plan; None when the command may be carried out now. Raises `LeaseLostError`."""
    beyond = await _beyond(conn, command, plan, limit, now_ms)
    if not await claims.begin(conn, command.id, token, msgspec.to_builtins(plan)):
        raise LeaseLostError("taken over")
    # Locked: a pause that is being set is waited for, and then obeyed.
    if await control.is_paused(conn, lock=True):
        return Forbidden("paused", "everything is paused")
    return beyond


async def _beyond(
    conn: asyncpg.Connection, command: Command, plan: Plan, limit: BlastRadius, now_ms: int
) -> Forbidden | None:
    """Whether it would be too much of a fleet. A person who has agreed to the command has answered for that."""
    if plan.fleet is None or not plan.changes:
        return None
    acted_on = await claims.acted_on(conn, plan.fleet.name, command.id, now_ms - limit.window_ms)
    why = limit.beyond(plan.fleet, command.target.key(), acted_on)
    approval = await approvals.find(conn, command.id) if why else None
    if why is None or (approval is not None and approval.state == "approved"):
        return None
    return Forbidden("blast_radius", why)
