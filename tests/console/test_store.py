"""What the responder wrote, read back from a real PostgreSQL as people are shown it."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.console.model import Decision, DecisionRefusedError
from engine.console.server import Console
from engine.edge import approvals, audit
from engine.edge.console_store import PostgresStore
from tests.console.data import EXPIRES_MS, OPENED_MS, fill

NOW_MS = OPENED_MS + 60_000


@pytest.fixture
async def store(database) -> PostgresStore:
    await fill(database)
    return PostgresStore(database, lambda: NOW_MS)


async def test_incidents_come_newest_first_and_can_be_limited_to_open_ones(store):
    found = await store.incidents(open_only=False, limit=10)
    assert [(one.id, one.title, one.state, one.closed_ms) for one in found] == [
        (2, "Too many connections", "resolved", OPENED_MS + 200_000),
        (1, "Messages are tampered with", "awaiting approval", 0),
    ]
    assert [one.id for one in await store.incidents(open_only=True, limit=10)] == [1]
    assert [one.id for one in await store.incidents(open_only=False, limit=1)] == [2]


async def test_an_incident_comes_with_timeline_evidence_commands_and_its_question(store):
    detail = await store.incident(1)
    assert [entry.text for entry in detail.timeline][:2] == ["Messages are tampered with", "failures: 1 row"]
    [evidence] = detail.evidence
    assert evidence.question == "postgres bridge: select key_id, reason from audit_log"
    assert (evidence.columns, evidence.rows) == (["key_id", "reason"], [["k-7", "tampered"]])
    assert [(one.step, one.status, one.reason) for one in detail.commands] == [("reload", "succeeded", "HTTP 200")]
    [question] = detail.approvals
    assert (question.command, question.target, question.expires_ms) == ("restart-id", "http:bridge", EXPIRES_MS)
    assert question.question == "Restart Bridge?"
    assert (detail.acknowledged_by, detail.acknowledged_ms) == ("bob", OPENED_MS + 30_000)
    assert (detail.waits_for, detail.waits_until_ms) == ("a person's decision about a command", EXPIRES_MS)
    assert [(notice.kind, notice.told) for notice in detail.notices] == [("notify", ["lead", "devops"])]
    assert (await store.incident(2)).waits_for == ""


async def test_an_unknown_number_is_none(store):
    assert await store.incident(99) is None
    assert await store.report(99) is None


async def test_the_report_is_written_from_the_rows(store):
    assert "SignatureFailures" in await store.report(1)


async def test_a_decision_is_stored_with_name_and_reason_and_only_once(store, database):
    [question] = await store.approvals()
    decision = Decision(approve=True, by="ada", body_sha256=question.body_sha256, reason="looks right")
    await store.decide("restart-id", decision, NOW_MS)
    async with database.connection() as conn:
        assert (await approvals.find(conn, "restart-id")).decided_by == "ada"
        assert await audit.verify(conn) is None
    assert await store.approvals() == []
    shown = [entry.text for entry in (await store.incident(1)).timeline]
    assert "looks right (by ada)" in shown
    again = await store.decide("restart-id", decision, NOW_MS)
    assert again.command == "restart-id", "a retry is not an error, and writes nothing"
    assert [entry.text for entry in (await store.incident(1)).timeline] == shown
    other = Decision(approve=False, by="ada", body_sha256=question.body_sha256)
    with pytest.raises(DecisionRefusedError, match="it was decided already"):
        await store.decide("restart-id", other, NOW_MS)


@pytest.mark.parametrize(
    ("command", "sha256", "now_ms", "said"),
    [
        ("other", "", NOW_MS, "no such command waits for approval"),
        ("restart-id", "cd" * 32, NOW_MS, "the command is not the one that was shown"),
        ("restart-id", None, EXPIRES_MS, "the approval has expired"),
    ],
)
async def test_a_decision_that_does_not_count_says_why(store, command, sha256, now_ms, said):
    [question] = await store.approvals()
    decision = Decision(True, "ada", question.body_sha256 if sha256 is None else sha256)
    with pytest.raises(DecisionRefusedError, match=said):
        await store.decide(command, decision, now_ms)


async def test_pausing_is_remembered_with_its_name(store):
    await store.set_pause(paused=True, by="ada", now_ms=NOW_MS)
    assert ((await store.pause()).paused, (await store.pause()).by) == (True, "ada")
    await store.set_pause(paused=False, by="bob", now_ms=NOW_MS)
    assert not (await store.pause()).paused


async def test_the_console_shows_it_all(store):
    async def no_alerts():
        return []

    app = web.Application()
    app.add_routes(Console(store, no_alerts, lambda: NOW_MS).routes())
    async with TestClient(TestServer(app)) as client:
        for path, text in [("/", "Messages are tampered with"), ("/incidents/1", "k-7"), ("/incidents/1/report", "# ")]:
            async with client.get(path) as response:
                assert response.status == 200
                assert text in await response.text()
