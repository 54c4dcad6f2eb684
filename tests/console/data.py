"""One incident as the responder writes it into PostgreSQL: a signature failure that waits for a person."""

from __future__ import annotations

from engine.core.messages import Command, Target
from engine.edge import incidents
from engine.edge.database import Database
from engine.response.model import (
    ActionTaken,
    AlertSeen,
    Awaiting,
    Decision,
    Evidence,
    IncidentState,
    Investigate,
    Note,
    Notice,
    PostgresQuery,
    RequestApproval,
)

OPENED_MS = 1_800_000_000_000
EXPIRES_MS = OPENED_MS + 900_000

ALERT = AlertSeen(
    fingerprint="f1",
    alertname="SignatureFailures",
    rule="bridge/SignatureFailures",
    labels={"alertname": "SignatureFailures", "job": "bridge", "namespace": "aureus", "severity": "critical"},
    annotations={"summary": "Bridge refuses messages"},
    value="17",
    standing="firing",
    fired_ms=OPENED_MS - 1_000,
    at_ms=OPENED_MS - 1_000,
    window_ms=60_000,
    transition="t1",
)


def command(name: str, path: str) -> Command:
    return Command(
        id=f"{name}-id",
        incident=1,
        rule=ALERT.rule,
        runbook="signature-failures",
        step=name,
        action="http.request",
        target=Target("http", "bridge"),
        params={"method": "POST", "path": path},
        severity="critical",
        issued_ms=OPENED_MS + 2_000,
        expires_ms=EXPIRES_MS,
    )


async def fill(database: Database) -> None:
    """Write the incident and one that is resolved."""
    question = RequestApproval(command("restart", "/api/admin/restart"), "Restart Bridge?", EXPIRES_MS)
    asked = Investigate(
        incident=1,
        attempt=1,
        step="failures",
        query=PostgresQuery("bridge", "select key_id, reason from audit_log", []),
        timeout_ms=1_000,
        max_rows=10,
    )
    found = Evidence(True, OPENED_MS + 1_000, [{"key_id": "k-7", "reason": "tampered"}])
    taken = ActionTaken(
        command("reload", "/api/admin/keys/reload"), 1, OPENED_MS + 2_000, "succeeded", "HTTP 200", OPENED_MS + 2_500
    )
    state = IncidentState(
        id=1,
        runbook="signature-failures",
        group={"job": "bridge"},
        status="open",
        priority="P0",
        severity="critical",
        opened_ms=OPENED_MS,
        trigger="f1",
        alerts={"f1": ALERT},
        step="restart",
        acknowledged_by="bob",
        acknowledged_ms=OPENED_MS + 30_000,
        awaiting=Awaiting("approval", EXPIRES_MS, question),
        evidence={"failures": found},
        actions=[taken],
    )
    notes = [
        Note("incident.opened", "Messages are tampered with", OPENED_MS),
        Note("evidence.gathered", "failures: 1 row", OPENED_MS + 1_000),
    ]
    async with database.transaction() as conn:
        await incidents.store(conn, "g1", Decision(state, list(notes)), OPENED_MS)
        for note in notes:
            await incidents.write_note(conn, 1, note, note.at_ms)
        await incidents.write_evidence(conn, asked, found)
        told = Notice("n1", 1, "notify", ("lead", "devops"), "P0", "Bridge refuses messages")
        await incidents.write_notice(conn, told, OPENED_MS + 4_000)
        await incidents.write_question(conn, question, OPENED_MS + 3_000)
        over = IncidentState(
            id=2,
            runbook="connection-overload",
            group={},
            status="resolved",
            priority="P2",
            severity="warning",
            opened_ms=OPENED_MS,
            trigger="f1",
            alerts={"f1": ALERT},
            resolved_ms=OPENED_MS + 200_000,
            resolution="verified",
        )
        opened = Note("incident.opened", "Too many connections", OPENED_MS)
        await incidents.store(conn, "g2", Decision(over, [opened]), OPENED_MS)
        await incidents.write_note(conn, 2, opened, OPENED_MS)
