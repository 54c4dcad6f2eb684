"""Approvals: a person's yes or no to one exact command.

An approval is bound to the SHA-256 of the command's JSON text, carries a name and ends at a time. Every request and
every decision, also each refused one, is an audit row in the caller's transaction; that is why refusals are returned
and not raised.
"""

from __future__ import annotations

from typing import Literal

import asyncpg
from msgspec import Struct

from engine.core.messages import Command, SignedCommand, decode_command
from engine.edge import audit
from engine.response.signing import body_sha256

Decision = Literal["approved", "denied"]
DecideReason = Literal["accepted", "unknown", "nameless", "expired", "already_decided", "changed_command"]
ApprovalState = Literal[
    "approved",
    "approval_missing",
    "approval_waiting",
    "approval_denied",
    "approval_expired",
    "approval_for_other_command",
]
_COLUMNS = "command, incident, body, body_sha256, requested_ms, expires_ms, state, decided_by, decided_ms"


class Approval(Struct, frozen=True):
    """A command that waits, or waited, for a person. `body` is its exact JSON text."""

    command: str
    incident: int
    body: str
    body_sha256: str
    requested_ms: int
    expires_ms: int
    state: Literal["waiting", "approved", "denied"]
    decided_by: str | None
    decided_ms: int | None

    def decoded(self) -> Command:
        """The command itself."""
        return decode_command(self.body)


class Decided(Struct, frozen=True):
    """What became of a decision: "accepted", or the reason why it does not count.

    `repeated`: the same person had decided the same before, as when an answer was lost; nothing was written.
    """

    reason: DecideReason
    approval: Approval | None
    repeated: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the decision counts."""
        return self.reason == "accepted"


async def request(conn: asyncpg.Connection, body: str, *, now_ms: int, expires_ms: int, by: str) -> Approval:
    """Ask for approval of a command (its exact JSON text). Asking again for the same text changes nothing.

    Raises `ValueError` when the same command id was asked for with another text.
    """
    command = decode_command(body)
    added = await conn.fetchval(
        "insert into approvals (command, incident, body, body_sha256, requested_ms, expires_ms) "
        "values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning command",
        command.id,
        command.incident,
        body,
        body_sha256(body),
        now_ms,
        expires_ms,
    )
    approval = await find(conn, command.id)
    if approval is None or approval.body_sha256 != body_sha256(body):
        raise ValueError(f"command {command.id} already waits for approval with another text")
    if added:
        data: dict[str, object] = {"sha256": approval.body_sha256, "expires_ms": expires_ms}
        await _record(conn, "approval.requested", by, now_ms, (approval.incident, command.id), data)
    return approval


async def find(conn: asyncpg.Connection, command_id: str, *, lock: bool = False) -> Approval | None:
    """The approval asked for a command."""
    query = f"select {_COLUMNS} from approvals where command = $1"  # noqa: S608  # constants
    row = await conn.fetchrow(query + (" for update" if lock else ""), command_id)
    return Approval(**dict(row)) if row is not None else None


async def waiting(conn: asyncpg.Connection, now_ms: int) -> list[Approval]:
    """What a person can decide now, oldest first."""
    rows = await conn.fetch(
        f"select {_COLUMNS} from approvals where state = 'waiting' and expires_ms > $1 "  # noqa: S608  # constants
        "order by requested_ms, command",
        now_ms,
    )
    return [Approval(**dict(row)) for row in rows]


async def decide(
    conn: asyncpg.Connection,
    command_id: str,
    decision: Decision,
    *,
    by: str,
    now_ms: int,
    seen_sha256: str | None = None,
) -> Decided:
    """Approve or deny, in the caller's transaction. `seen_sha256` is the hash of what the person was shown.

    The same decision by the same person again is accepted and changes nothing.
    """
    approval = await find(conn, command_id, lock=True)
    if approval is not None and _is_repeated(approval, decision, by, seen_sha256):
        return Decided("accepted", approval, repeated=True)
    reason = _refusal(approval, by, now_ms, seen_sha256)
    if reason == "accepted":
        await conn.execute(
            "update approvals set state = $2, decided_by = $3, decided_ms = $4 where command = $1",
            command_id,
            decision,
            by,
            now_ms,
        )
        approval = await find(conn, command_id)
    kind = f"approval.{decision}" if reason == "accepted" else "approval.refused"
    data: dict[str, object] = {"decision": decision, "reason": reason}
    if approval is not None:
        data["sha256"] = approval.body_sha256
    subject = (approval.incident if approval is not None else None, command_id)
    await _record(conn, kind, by, now_ms, subject, data)
    return Decided(reason, approval)


def _is_repeated(approval: Approval, decision: Decision, by: str, seen_sha256: str | None) -> bool:
    same = (approval.state, approval.decided_by) == (decision, by)
    return same and seen_sha256 in (None, approval.body_sha256)


def _refusal(approval: Approval | None, by: str, now_ms: int, seen_sha256: str | None) -> DecideReason:
    if approval is None:
        return "unknown"
    if not by.strip():
        return "nameless"
    if approval.state != "waiting":
        return "already_decided"
    if now_ms >= approval.expires_ms:
        return "expired"
    if body_sha256(approval.body) != approval.body_sha256 or seen_sha256 not in (None, approval.body_sha256):
        return "changed_command"
    return "accepted"


async def approved_for(conn: asyncpg.Connection, signed: SignedCommand, command_id: str, now_ms: int) -> ApprovalState:
    """Whether exactly this command may run now as far as a person is concerned, else why not."""
    approval = await find(conn, command_id)
    if approval is None:
        return "approval_missing"
    if approval.body != signed.body or approval.body_sha256 != body_sha256(signed.body):
        return "approval_for_other_command"
    if approval.state == "denied":
        return "approval_denied"
    if now_ms >= approval.expires_ms:
        return "approval_expired"
    return "approved" if approval.state == "approved" else "approval_waiting"


async def _record(
    conn: asyncpg.Connection,
    kind: str,
    by: str,
    now_ms: int,
    subject: tuple[int | None, str],
    data: dict[str, object],
) -> None:
    incident, command = subject
    actor = by.strip() or "unnamed"
    await audit.append(conn, at_ms=now_ms, actor=actor, kind=kind, incident=incident, command=command, data=data)
