"""Approvals: a person's yes or no to one exact command, or that of two people.

An approval is bound to the SHA-256 of the command's JSON text, carries a name and ends at a time. Where two must agree
the first yes is noted and the command goes on waiting; one no decides. Every request and
every decision, also each refused one, is an audit row in the caller's transaction; that is why refusals are returned
and not raised.
"""

from __future__ import annotations

import re
from typing import Literal

import asyncpg
from msgspec import Struct, structs

from engine.core.messages import Command, SignedCommand, decode_command
from engine.edge import audit
from engine.response.signing import body_sha256

Decision = Literal["approved", "denied"]
DecideReason = Literal[
    "accepted", "unknown", "nameless", "expired", "already_decided", "changed_command", "same_person"
]
ApprovalState = Literal[
    "approved",
    "approval_missing",
    "approval_waiting",
    "approval_denied",
    "approval_expired",
    "approval_for_other_command",
    "approval_by_too_few",
]
_OF_A_SERVICE = re.compile(r"(\w+:\S+) \(")
_COLUMNS = (
    "command, incident, body, body_sha256, requested_ms, expires_ms, state, decided_by, decided_ms, people, yes_by"
)


class Approval(Struct, frozen=True):
    """A command that waits, or waited, for `people` to agree; `yes_by` have. `body` is its exact JSON text."""

    command: str
    incident: int
    body: str
    body_sha256: str
    requested_ms: int
    expires_ms: int
    state: Literal["waiting", "approved", "denied"]
    decided_by: str | None
    decided_ms: int | None
    people: int = 1
    yes_by: list[str] = []

    @property
    def deciders(self) -> str:
        """Who has decided, as one reads it; "" for nobody."""
        return " and ".join(self.yes_by) if self.state == "approved" else self.decided_by or ""

    def has_yes_of(self, by: str) -> bool:
        """Whether this person has agreed: names differ by more than capitals and blanks."""
        return _person(by) in map(_person, self.yes_by)

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


async def request(
    conn: asyncpg.Connection, body: str, *, now_ms: int, expires_ms: int, by: str, people: int = 1
) -> Approval:
    """Ask one or two people to approve a command (its exact JSON text).

    Asking again for the same text changes nothing, but that more people than before must agree while it is open.

    Raises `ValueError` when the same command id was asked for with another text.
    """
    command = decode_command(body)
    added = await conn.fetchval(
        "insert into approvals (command, incident, body, body_sha256, requested_ms, expires_ms, people) "
        "values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning command",
        command.id,
        command.incident,
        body,
        body_sha256(body),
        now_ms,
        expires_ms,
        people,
    )
    approval = await find(conn, command.id)
    if approval is None or approval.body_sha256 != body_sha256(body):
        raise ValueError(f"command {command.id} already waits for approval with another text")
    more = "update approvals set people = $2 where command = $1 and state = 'waiting' and people < $2 returning people"
    if await conn.fetchval(more, command.id, people) is not None:
        added, approval = True, structs.replace(approval, people=people)
    if added:
        data: dict[str, object] = {"sha256": approval.body_sha256, "expires_ms": approval.expires_ms, "people": people}
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

    A yes that is not enough alone is accepted, and the approval goes on waiting for another person's. The same decision
    by the same person again is accepted and changes nothing, once it is one.
    """
    approval = await find(conn, command_id, lock=True)
    if approval is not None and _is_repeated(approval, decision, by, seen_sha256):
        return Decided("accepted", approval, repeated=True)
    reason = _refusal(approval, decision, by, now_ms, seen_sha256)
    kind = "approval.refused"
    if approval is not None and reason == "accepted":
        approval = await _write(conn, approval, decision, by, now_ms)
        kind = "approval.first_of_two" if approval.state == "waiting" else f"approval.{approval.state}"
    data: dict[str, object] = {"decision": decision, "reason": reason}
    if approval is not None:
        data |= {"sha256": approval.body_sha256, "yes": f"{len(approval.yes_by)} of {approval.people}"}
    subject = (approval.incident if approval is not None else None, command_id)
    await _record(conn, kind, by, now_ms, subject, data)
    return Decided(reason, approval)


async def _write(conn: asyncpg.Connection, approval: Approval, decision: Decision, by: str, now_ms: int) -> Approval:
    """Keep a decision that counts; the approval as it is then."""
    yes_by = [*approval.yes_by, by] if decision == "approved" else approval.yes_by
    is_final = decision == "denied" or len(yes_by) >= approval.people
    await conn.execute(
        "update approvals set state = $2, decided_by = $3, decided_ms = $4, yes_by = $5 where command = $1",
        approval.command,
        decision if is_final else "waiting",
        by if is_final else None,
        now_ms if is_final else None,
        yes_by,
    )
    written = await find(conn, approval.command)
    if written is None:
        raise RuntimeError(f"the approval of command {approval.command} is gone")
    return written


def _person(name: str) -> str:
    """Whoever a name stands for: of another service's user (`slack:U0123 (ada)`) the number, which stays the same."""
    user = _OF_A_SERVICE.match(name)
    return " ".join((user[1] if user else name).split()).casefold()


def _is_repeated(approval: Approval, decision: Decision, by: str, seen_sha256: str | None) -> bool:
    decided = approval.state == decision and (approval.decided_by == by or approval.has_yes_of(by))
    return decided and seen_sha256 in (None, approval.body_sha256)


def _refusal(
    approval: Approval | None, decision: Decision, by: str, now_ms: int, seen_sha256: str | None
) -> DecideReason:
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
    return "same_person" if decision == "approved" and approval.has_yes_of(by) else "accepted"


async def approved_for(
    conn: asyncpg.Connection, signed: SignedCommand, command_id: str, now_ms: int, people: int = 1
) -> ApprovalState:
    """Whether exactly this command may run now as far as `people` persons are concerned, else why not."""
    approval = await find(conn, command_id)
    if approval is None:
        return "approval_missing"
    if approval.body != signed.body or approval.body_sha256 != body_sha256(signed.body):
        return "approval_for_other_command"
    if approval.state == "denied":
        return "approval_denied"
    if now_ms >= approval.expires_ms:
        return "approval_expired"
    if approval.state == "waiting":
        return "approval_waiting"
    return "approved" if len(set(map(_person, approval.yes_by))) >= people else "approval_by_too_few"


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
