"""An approval is one person's decision about one exact command, in time."""

from __future__ import annotations

import msgspec
import pytest

from engine.edge import approvals, audit
from engine.edge.approvals import Approval
from engine.edge.database import Database
from tests.executor.conftest import START_MS, block, signed

END_MS = START_MS + 60_000


async def ask(database: Database) -> Approval:
    async with database.transaction() as conn:
        return await approvals.request(conn, signed(block()).body, now_ms=START_MS, expires_ms=END_MS, by="responder")


async def test_what_waits_is_listed_with_the_exact_command(database: Database) -> None:
    asked = await ask(database)
    async with database.connection() as conn:
        assert await approvals.waiting(conn, START_MS) == [asked]
        assert asked.decoded() == block()
        assert await approvals.waiting(conn, END_MS) == [], "its time is over"


async def test_asking_twice_for_the_same_command_is_asking_once(database: Database) -> None:
    assert await ask(database) == await ask(database)
    async with database.connection() as conn:
        assert [row.kind for row in await audit.rows(conn)] == ["approval.requested"]


async def test_asking_for_another_text_under_the_same_id_is_a_mistake(database: Database) -> None:
    await ask(database)
    other = signed(block(severity="critical")).body
    async with database.transaction() as conn:
        with pytest.raises(ValueError, match="with another text"):
            await approvals.request(conn, other, now_ms=START_MS, expires_ms=END_MS, by="responder")


@pytest.mark.parametrize("decision", ["approved", "denied"])
async def test_a_decision_carries_a_name_and_a_time(database: Database, decision: approvals.Decision) -> None:
    asked = await ask(database)
    async with database.transaction() as conn:
        decided = await approvals.decide(
            conn, "block-mallory", decision, by="ada", now_ms=START_MS + 5, seen_sha256=asked.body_sha256
        )
        assert decided.accepted
        assert decided.approval is not None
        assert (decided.approval.state, decided.approval.decided_by, decided.approval.decided_ms) == (
            decision,
            "ada",
            START_MS + 5,
        )
        assert await approvals.waiting(conn, START_MS) == []


@pytest.mark.parametrize(
    ("command", "by", "at_ms", "seen", "reason"),
    [
        ("block-nobody", "ada", START_MS, None, "unknown"),
        ("block-mallory", " ", START_MS, None, "nameless"),
        ("block-mallory", "ada", END_MS, None, "expired"),
        ("block-mallory", "ada", START_MS, "0" * 64, "changed_command"),
    ],
)
async def test_what_does_not_count_is_named_and_audited(
    database: Database, command: str, by: str, at_ms: int, seen: str | None, reason: str
) -> None:
    await ask(database)
    async with database.transaction() as conn:
        decided = await approvals.decide(conn, command, "approved", by=by, now_ms=at_ms, seen_sha256=seen)
    assert (decided.reason, decided.accepted) == (reason, False)
    async with database.connection() as conn:
        last = (await audit.rows(conn))[-1]
        assert last.kind == "approval.refused"
        assert msgspec.json.decode(last.data)["reason"] == reason
        assert await approvals.approved_for(conn, signed(block()), "block-mallory", START_MS) == "approval_waiting"


async def test_a_decision_is_final(database: Database) -> None:
    await ask(database)
    async with database.transaction() as conn:
        await approvals.decide(conn, "block-mallory", "denied", by="ada", now_ms=START_MS)
        second = await approvals.decide(conn, "block-mallory", "approved", by="bob", now_ms=START_MS)
        assert second.reason == "already_decided"
        assert await approvals.approved_for(conn, signed(block()), "block-mallory", START_MS) == "approval_denied"


@pytest.mark.parametrize(
    ("decision", "by", "seen", "reason"),
    [
        ("approved", "ada", None, "accepted"),
        ("approved", "bob", None, "already_decided"),
        ("denied", "ada", None, "already_decided"),
        ("approved", "ada", "0" * 64, "already_decided"),
    ],
)
async def test_the_same_decision_again_by_the_same_person_is_no_error_and_no_second_row(
    database: Database, decision: approvals.Decision, by: str, seen: str | None, reason: str
) -> None:
    await ask(database)
    async with database.transaction() as conn:
        first = await approvals.decide(conn, "block-mallory", "approved", by="ada", now_ms=START_MS)
        again = await approvals.decide(conn, "block-mallory", decision, by=by, now_ms=END_MS, seen_sha256=seen)
        kinds = [row.kind for row in await audit.rows(conn)]
    assert (again.reason, again.repeated) == (reason, reason == "accepted")
    assert again.approval == first.approval, "the first one stands, also after its time"
    assert kinds[:2] == ["approval.requested", "approval.approved"]
    assert kinds[2:] == ([] if reason == "accepted" else ["approval.refused"])


async def test_a_command_altered_in_the_database_cannot_be_approved(database: Database) -> None:
    await ask(database)
    async with database.transaction() as conn:
        await conn.execute("update approvals set body = replace(body, 'mallory', 'alice')")
        decided = await approvals.decide(conn, "block-mallory", "approved", by="ada", now_ms=START_MS)
        assert decided.reason == "changed_command"
