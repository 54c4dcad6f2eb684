"""The audit's hash chain: every row carries the hash of the row before it, so that nothing can be altered unseen.

`hash` is SHA-256 over the canonical JSON array of (seq, at_ms, actor, kind, incident, command, data, previous hash),
where `data` is the very text that is stored. The head (last seq and hash) is stored apart, so that rows cut off the
end show too. Who can rewrite all rows *and* the head can rewrite history; keep a copy of the head elsewhere against
that.

The next module in the flow is `edge.audit`, which keeps the chain in PostgreSQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct

GENESIS = "0" * 64
_canonical = msgspec.json.Encoder(order="deterministic")


class AuditRow(Struct, frozen=True):
    """One decision. `seq` counts from 1 without gaps; `data` is JSON text; `previous` is the hash of row `seq` - 1."""

    seq: int
    at_ms: int
    actor: str
    kind: str
    incident: int | None
    command: str | None
    data: str
    previous: str
    hash: str


class AuditHead(Struct, frozen=True):
    """The end of the chain: the last row's number and hash, (0, GENESIS) when it is empty."""

    seq: int
    hash: str


class AuditBreak(Struct, frozen=True):
    """The first place where the chain does not hold."""

    seq: int
    problem: str

    def __str__(self) -> str:
        return f"row {self.seq}: {self.problem}"


def canonical_data(data: object) -> str:
    """The JSON text of a row's data: keys sorted, no blanks."""
    return _canonical.encode(data).decode()


def row_hash(row: AuditRow) -> str:
    """What `row.hash` has to be."""
    parts = (row.seq, row.at_ms, row.actor, row.kind, row.incident, row.command, row.data, row.previous)
    return hashlib.sha256(_canonical.encode(parts)).hexdigest()


def next_row(head: AuditHead, row: AuditRow) -> AuditRow:
    """The row made to follow the head: numbered, linked and sealed."""
    linked = msgspec.structs.replace(row, seq=head.seq + 1, previous=head.hash)
    return msgspec.structs.replace(linked, hash=row_hash(linked))


class ChainCheck:
    """Checks a chain row by row, in order of `seq`, so that a long one need not be in memory."""

    def __init__(self) -> None:
        self.head = AuditHead(0, GENESIS)

    def add(self, row: AuditRow) -> AuditBreak | None:
        """Take the next row; what is wrong with it, if anything. Stop at the first break."""
        due = self.head.seq + 1
        if row.seq > due:
            return AuditBreak(due, "is missing")
        if row.seq < due:
            return AuditBreak(row.seq, "stands out of order or twice")
        if row_hash(row) != row.hash:
            return AuditBreak(row.seq, _what_became_of(row))
        if row.previous != self.head.hash:
            return AuditBreak(row.seq, "does not follow the row before it: one of the two was replaced or inserted")
        self.head = AuditHead(row.seq, row.hash)
        return None

    def finish(self, head: AuditHead | None) -> AuditBreak | None:
        """Compare the end of the rows with the stored head (None: the head is gone)."""
        end = self.head
        if head is None:
            return AuditBreak(end.seq, "the stored head of the chain is missing")
        if head.seq > end.seq:
            return AuditBreak(end.seq + 1, f"is missing: the chain was cut off, its head is row {head.seq}")
        if head.seq < end.seq:
            return AuditBreak(head.seq + 1, f"was inserted: the chain's head is row {head.seq}")
        if head.hash != end.hash:
            return AuditBreak(end.seq, "is not the row the stored head names")
        return None


def _what_became_of(row: AuditRow) -> str:
    for was in (row.seq - 1, row.seq + 1):
        if row_hash(msgspec.structs.replace(row, seq=was)) == row.hash:
            return f"was row {was} when it was written: a row was inserted, removed or moved here or right before"
    return "was changed: its content does not give its hash"


def verify(rows: Iterable[AuditRow], head: AuditHead | None) -> AuditBreak | None:
    """The first place where the rows, in their order, are not the chain that ends at the head; None if they are."""
    check = ChainCheck()
    for row in rows:
        broken = check.add(row)
        if broken is not None:
            return broken
    return check.finish(head)
