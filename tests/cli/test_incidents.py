"""The commands about incidents, word for word, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from engine.cli import decide as cli_decide
from engine.cli import incidents as cli_incidents
from engine.core.messages import encode
from engine.edge import approvals, claims
from tests.console.data import OPENED_MS, command, fill

NOW_MS = OPENED_MS + 60_000
SHA256 = approvals.body_sha256(encode(command("restart", "/api/admin/restart")).decode())
QUESTION = [
    f"restart-id incident 1, sha256 {SHA256[:12]}",
    "Restart Bridge?",
    "http.request on http:bridge",
    '{"method": "POST", "path": "/api/admin/restart"}',
    "until 2027-01-15 08:15:00 UTC (14 min):",
    f"sentinel approve restart-id --by NAME --sha256 {SHA256[:12]} (or deny)",
]


@pytest.fixture
async def cli(sentinel, database, monkeypatch):
    """Run a command on the database of this test, one minute after the incident opened."""
    await fill(database)
    for module in (cli_incidents, cli_decide):
        monkeypatch.setattr(module, "now_ms", lambda: NOW_MS)

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
        "acknowledged by bob, 2027-01-15 08:00:30 UTC",
        "waits for a person's decision about a command, until 2027-01-15 08:15:00 UTC",
        "",
        "Timeline",
        "2027-01-15 08:00:00 UTC incident.opened Messages are tampered with",
        "2027-01-15 08:00:01 UTC evidence.gathered failures: 1 row",
        "2027-01-15 08:00:03 UTC approval.requested approval requested",
        "",
        "Evidence",
        "2027-01-15 08:00:01 UTC failures key_id=k-7, reason=tampered",
        "",
        "Commands",
        "STEP ACTION TARGET OUTCOME WHY",
        "reload http.request http:bridge succeeded HTTP 200",
        "",
        "Notices",
        "2027-01-15 08:00:04 UTC notify lead, devops Bridge refuses messages",
        "",
        *QUESTION,
    ]
    assert json.loads((await cli("incident", "1", "--json")).out)["approvals"][0]["command"] == "restart-id"


async def test_of_much_evidence_the_first_rows_are_shown(cli, database):
    rows = [{"source": f"s{n}", "failures": 9 - n} for n in range(7)]
    async with database.connection() as conn:
        await conn.execute(
            "update evidence set result = (result::jsonb || jsonb_build_object('rows', $1::jsonb))::json", rows
        )
    shown = told((await cli("incident", "1")).out)
    begin = shown.index("Evidence")
    assert shown[begin + 1].endswith("failures 7 rows")
    assert shown[begin + 2 : begin + 8] == [
        *(f"source=s{n}, failures={9 - n}" for n in range(5)),
        "and 2 more; `sentinel report 1` has them",
    ]


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
async def test_what_waits_is_listed_whole_and_decided_once(cli, verb, word):
    assert told((await cli("approvals")).out) == QUESTION
    decide = (verb, "restart-id", "--by", "ada", "--reason", "checked", "--sha256", SHA256[:12])
    ran = await cli(*decide)
    assert told(ran.out) == [
        f"{word} by ada: http.request on http:bridge",
        QUESTION[3],
        f"command restart-id, sha256 {SHA256}",
    ]
    assert (await cli("approvals")).out == "nothing waits for approval\n"
    assert (await cli(*decide)).out == ran.out, "a retry whose first answer was lost"
    other = await cli(verb, "restart-id", "--by", "bob")
    assert (other.code, other.err) == (1, "sentinel: not decided: it was decided already\n")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--sha256", "00000000"), 1, f"not decided: the command's sha256 is {SHA256}; look at it again"),
        (("--sha256", SHA256[:4]), 2, "--sha256 must have 8 digits or more"),
    ],
)
async def test_a_hash_that_is_not_that_of_the_command_decides_nothing(cli, args, code, said):
    ran = await cli("approve", "restart-id", "--by", "ada", *args)
    assert (ran.code, ran.err) == (code, f"sentinel: {said}\n")
    assert told((await cli("approvals")).out) == QUESTION


async def test_an_unknown_command_is_named(cli):
    ran = await cli("approve", "other", "--by", "ada")
    assert (ran.code, ran.err) == (
        1,
        "sentinel: no command other waits for approval; `sentinel approvals` lists them\n",
    )


@pytest.mark.parametrize(
    ("typed", "args", "code", "last"),
    [
        ("y\n", (), 0, f"command restart-id, sha256 {SHA256}"),
        ("n\n", (), 1, "approve? [y/N]:"),
        ("\n", (), 1, "approve? [y/N]:"),
        ("", ("--yes",), 0, f"command restart-id, sha256 {SHA256}"),
    ],
)
async def test_on_a_terminal_the_command_is_shown_and_asked_about(cli, monkeypatch, typed, args, code, last):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(typed))
    ran = await cli("approve", "restart-id", "--by", "ada", *args)
    lines = told(ran.out)
    assert (ran.code, lines[-1]) == (code, last)
    assert (lines[: len(QUESTION)] == QUESTION) is (not args)


@pytest.mark.parametrize(
    ("args", "row", "said"),
    [
        (("acknowledge", "1"), ("acknowledge", "ada", ""), "incident 1: acknowledged by ada"),
        (("close", "1", "--reason", "a drill"), ("close", "ada", "a drill"), "incident 1: closed by ada: a drill"),
        (("note", "1", "see ticket 7"), ("note", "ada", "see ticket 7"), "incident 1: note by ada"),
    ],
)
async def test_what_people_say_is_handed_to_the_responder(cli, database, args, row, said):
    async with database.connection() as conn:
        await conn.execute("update incidents set state = (state::jsonb - 'acknowledged_by')::json where id = 1")
    assert (await cli(*args, "--by", "ada")).out == f"{said}\n"
    async with database.connection() as conn:
        [found] = await conn.fetch("select incident, kind, by_name, text, at_ms, done_ms from operator_events")
    assert tuple(found) == (1, *row, NOW_MS, None)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("acknowledge", "99", "--by", "ada"), 1, "there is no incident 99; `sentinel incidents` lists them"),
        (
            ("acknowledge", "1", "--by", "ada"),
            1,
            "incident 1 was acknowledged by bob, who looks after it; add a note for them",
        ),
        (("close", "2", "--by", "ada", "--reason", "x"), 1, "incident 2 is resolved already"),
        (("note", "2", "x", "--by", "ada"), 1, "incident 2 is resolved already"),
        (("note", "1", " ", "--by", "ada"), 2, "the note is empty"),
        (("close", "1", "--by", "ada", "--reason", " "), 2, "--reason must say why"),
        (("acknowledge", "1", "--by", " "), 2, "--by must be a name"),
    ],
)
async def test_what_cannot_be_said_is_refused_clearly(cli, database, args, code, said):
    ran = await cli(*args)
    assert (ran.code, ran.err) == (code, f"sentinel: {said}\n")
    async with database.connection() as conn:
        assert not await conn.fetchval("select count(*) from operator_events")


async def test_a_decision_needs_a_name(cli):
    assert (await cli("approve", "restart-id")).code == 2
    assert (await cli("approve", "restart-id", "--by", " ")).code == 2
    assert json.loads((await cli("approvals", "--json")).out)[0]["command"] == "restart-id"


async def test_pause_says_what_is_under_way_and_resume_what_stays_refused(cli, database):
    assert (await cli("pause", "--by", "ada")).out == "paused by ada\nno command is under way\n"
    async with database.transaction() as conn:
        taken = command("reload", "/api/admin/keys/reload")
        await claims.take(conn, taken, encode(taken).decode(), "one", NOW_MS - 4_000, 60_000)
    assert (await cli("pause", "--by", "ada")).out == (
        "paused by ada\nunder way: http.request on http:bridge, incident 1, for 4 s by one\n"
    )
    ran = await cli("resume", "--by", "ada")
    assert ran.out == "resumed by ada; commands that were refused while paused stay refused\n"


async def test_the_audit_chain_is_checked(cli, database):
    assert (await cli("audit", "verify")).out == "the audit chain holds: 4 rows\n"
    async with database.connection() as conn:
        await conn.execute("alter table audit disable trigger audit_append_only")
        await conn.execute("update audit set actor = 'mallory' where seq = 2")
    ran = await cli("audit", "verify")
    assert (ran.code, ran.out) == (1, "")
    assert "the audit chain is broken at row 2: was changed" in ran.err
