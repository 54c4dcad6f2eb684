"""`sentinel silence`, word for word, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import pytest

from engine.cli import silences as cli_silences

NOW_MS = 1_800_000_000_000


@pytest.fixture
async def cli(sentinel, database, monkeypatch):
    monkeypatch.setattr(cli_silences, "now_ms", lambda: NOW_MS)

    async def run(*args: str):
        return await asyncio.to_thread(sentinel, "silence", *args, "--set", f"database.url={database.url}")

    return run


BY = ("--by", "ada", "--comment", "load test")


async def test_a_silence_is_made_listed_and_expired_by_the_beginning_of_its_id(cli):
    made = await cli("add", 'service="bridge"', "severity!=critical", "--for", "2h", *BY)
    kind, name = made.out.splitlines()[0].split()
    assert kind == "silence"
    assert 'service="bridge" severity!="critical"' in made.out
    assert "from 2027-01-15 08:00:00 UTC until 2027-01-15 10:00:00 UTC" in made.out
    [found] = json.loads((await cli("list", "--json")).out)
    assert (found["id"], found["createdBy"], found["status"]) == (name, "ada", {"state": "active"})
    ended = await cli("expire", name[:8], "--by", "bob")
    assert (ended.code, f"silence {name} is over" in ended.out) == (0, True)
    assert (await cli("list")).out == "no silence\n"
    assert len(json.loads((await cli("list", "--all", "--json")).out)) == 1
    assert (await cli("expire", name, "--by", "bob")).code == 1


async def test_planned_work_may_begin_later_and_windows_of_the_settings_that_hold_are_listed(cli):
    made = await cli("add", "service=bridge", "--maintenance", "--for", "2027-01-16T22:00:00Z/3h", *BY)
    assert made.out.startswith("maintenance ")
    assert "from 2027-01-16 22:00:00 UTC until 2027-01-17 01:00:00 UTC" in made.out
    window = '[{"name": "nightly", "match": ["service=openclaw"], "start": "07:00", "duration_s": 7200}]'
    listed = " ".join((await cli("list", "--set", f"responder.maintenance={window}")).out.split())
    assert "maintenance pending" in listed
    assert 'window active 2027-01-15 09:00:00 UTC service="openclaw" settings nightly' in listed


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("service", "--for", "2h", *BY), "not a matcher"),
        (("a=b", "--for", "soon", *BY), "not a duration"),
        (("a=b", "--for", "tomorrow/2h", *BY), "not a time"),
        (("a=b", "--for", "2020-01-01T00:00:00Z/1h", *BY), "ends after its start"),
        (("a=b", "--for", "2h", "--by", "ada", "--comment", " "), "needs a comment"),
        (('a=~".*"', "--for", "2h", *BY), "fit every alert"),
    ],
)
async def test_what_cannot_be_a_silence_is_refused(cli, args, words):
    ran = await cli("add", *args)
    assert (ran.code, words in ran.err) == (2, True), ran.err
