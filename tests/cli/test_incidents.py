"""The commands about incidents, word for word, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from engine.cli import incidents as cli_incidents
from tests.console.data import OPENED_MS, fill

NOW_MS = OPENED_MS + 60_000


@pytest.fixture
async def cli(sentinel, database, monkeypatch):
    """Run a command on the database of this test, one minute after the incident opened."""
    await fill(database)
    monkeypatch.setattr(cli_incidents, "now_ms", lambda: NOW_MS)

    async def run(*args: str):
        return await asyncio.to_thread(sentinel, *args, "--set", f"database.url={database.url}")

    return run


def told(text: str) -> list[str]:
    """The lines of a transcript, with runs of blanks as one."""
    return [" ".join(line.split()) for line in text.splitlines()]


async def test_incidents_are_listed_newest_first(cli):
    ran = await cli("incidents")
    assert told(ran.out) == [
        "N PRIORITY STATE AGE LASTED INCIDENT WHERE",
        "2 P2 resolved 1 min 3 min 20 s Too many connections job=bridge namespace=aureus",
        "1 P0 awaiting approval 1 min Messages are tampered with job=bridge namespace=aureus",
    ]
    assert [row["id"] for row in json.loads((await cli("incidents", "--open", "--json")).out)] == [1]


async def test_one_incident_is_told_as_a_story_that_ends_with_what_to_do(cli):
    ran = await cli("incident", "1")
    assert ran.code == 0
    assert told(ran.out) == [
        "#1 Messages are tampered with",
        "P0 awaiting approval critical job=bridge namespace=aureus",
        "rule bridge/SignatureFailures, opened 2027-01-15 08:00:00 UTC",
        "",
        "Timeline",
        "2027-01-15 08:00:00 UTC incident.opened Messages are tampered with",
        "2027-01-15 08:00:01 UTC evidence.gathered failures: 1 row",
        "2027-01-15 08:00:03 UTC approval.requested approval requested",
        "",
        "Commands",
        "STEP ACTION TARGET OUTCOME WHY",
        "reload http.request http:bridge succeeded HTTP 200",
        "",
        'waits for a person: http.request on http:bridge {"method": "POST", "path": "/api/admin/restart"}',
        "sentinel approve restart-id --by NAME (or deny; until 2027-01-15 08:15:00 UTC)",
    ]
    assert json.loads((await cli("incident", "1", "--json")).out)["approvals"][0]["command"] == "restart-id"


@pytest.mark.parametrize("command", ["incident", "report"])
async def test_an_unknown_incident_exits_1(cli, command):
    ran = await cli(command, "99")
    assert (ran.code, ran.err) == (1, "sentinel: there is no incident 99; `sentinel incidents` lists them\n")


async def test_the_report_goes_to_the_screen_or_to_a_file(cli):
    printed = (await cli("report", "1")).out
    assert printed.startswith("# ")
    assert (await cli("report", "1", "--output", "r.md")).out == "written to r.md\n"
    assert await asyncio.to_thread(Path("r.md").read_text) == printed


@pytest.mark.parametrize(("verb", "word"), [("approve", "approved"), ("deny", "denied")])
async def test_what_waits_is_listed_and_decided_once(cli, verb, word):
    assert told((await cli("approvals")).out) == [
        "ID INCIDENT ACTION TARGET EXPIRES IN PARAMETERS",
        'restart-id 1 http.request http:bridge 14 min {"method": "POST", "path": "/api/admin/restart"}',
    ]
    ran = await cli(verb, "restart-id", "--by", "ada", "--reason", "checked")
    assert ran.out.startswith(f"{word} by ada: command restart-id (sha256 ")
    assert (await cli("approvals")).out == "nothing waits for approval\n"
    again = await cli(verb, "restart-id", "--by", "ada")
    assert (again.code, again.err) == (1, "sentinel: not decided: it was decided already\n")


async def test_a_decision_needs_a_name(cli):
    assert (await cli("approve", "restart-id")).code == 2
    assert (await cli("approve", "restart-id", "--by", " ")).code == 2
    assert json.loads((await cli("approvals", "--json")).out)[0]["command"] == "restart-id"


async def test_pause_and_resume_say_who_did_it(cli):
    assert (await cli("pause", "--by", "ada")).out == "paused by ada\n"
    assert (await cli("resume", "--by", "ada")).out == "resumed by ada\n"


async def test_the_audit_chain_is_checked(cli, database):
    assert (await cli("audit", "verify")).out == "the audit chain holds: 4 rows\n"
    async with database.connection() as conn:
        await conn.execute("alter table audit disable trigger audit_append_only")
        await conn.execute("update audit set actor = 'mallory' where seq = 2")
    ran = await cli("audit", "verify")
    assert (ran.code, ran.out) == (1, "")
    assert "the audit chain is broken at row 2: was changed" in ran.err
