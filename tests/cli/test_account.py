"""`sentinel account`, `sentinel stats` and the report's page, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import pytest

from engine.cli import account as cli_account
from engine.cli import incidents as cli_incidents
from tests.console.data import OPENED_MS, fill

NOW_MS = OPENED_MS + 60_000


@pytest.fixture
async def cli(sentinel, database, monkeypatch):
    await fill(database)
    for module in (cli_account, cli_incidents):
        monkeypatch.setattr(module, "now_ms", lambda: NOW_MS)

    async def run(*args: str):
        return await asyncio.to_thread(sentinel, *args, "--set", f"database.url={database.url}")

    return run


async def test_the_account_of_a_day_is_markdown_or_json(cli):
    ran = await cli("account", "--day", "2027-01-15")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "# Account of 2027-01-15")
    assert ran.out.count("\n## ") == 2
    assert json.loads((await cli("account", "--json")).out)["day"] == "2027-01-15"
    assert (await cli("account", "--day", "yesterday")).code == 2


async def test_times_are_a_table_with_the_whole_first(cli):
    ran = await cli("stats", "--since", "1d")
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0][:3] == ["RUNBOOK", "SEVERITY", "INCIDENTS"]
    assert lines[1][:3] == ["all", "2", "1"]
    assert json.loads((await cli("stats", "--json")).out)[0]["incidents"] == 2
    assert (await cli("stats", "--since", "ever")).code == 2


async def test_the_report_can_be_a_page(cli, tmp_path):
    ran = await cli("report", "1", "--html", "--output", str(tmp_path / "report.html"))
    assert ran.code == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert (await cli("report", "99", "--html")).code == 1
