"""The account of a day, times, and the report's page in the console."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from engine.response.account import IncidentOfDay, RunbookDay, Would
from engine.response.report_html import POLICY
from engine.response.stats import Lifetime
from tests.console.conftest import NOW_MS, Site, make_incident

TODAY = dt.date(2027, 1, 15)


async def test_the_account_of_a_day_is_a_page_with_everything_escaped(site: Site) -> None:
    one = IncidentOfDay(7, "ServiceDown", "<i>", "resolved", "cleared", acted=False)
    would = Would(NOW_MS, 7, "restart <b>", "cooldown", "acted on <b>")
    site.store.days[TODAY] = [RunbookDay("ServiceDown", [one], [would], {"paused": 2}, {}, ["ada: <script>"])]
    status, page = await site.get("/account")
    assert status == 200
    for said in (
        "Account of 2027-01-15",
        "restart &lt;b&gt;",
        "<strong>cooldown</strong>",
        "paused 2",
        "day=2027-01-14",
    ):
        assert said in page
    assert "<script>" not in page
    _, empty = await site.get("/account?day=2027-01-14")
    assert "No incident on this day" in empty


@pytest.mark.parametrize("day", ["soon", "2027-02-30", "0001-01-01", "9999-12-31"])
async def test_what_is_no_day_is_said(site: Site, day: str) -> None:
    status, page = await site.get(f"/account?day={day}")
    assert (status, "No such day" in page) == (400, True)


async def test_times_are_on_the_first_page_and_in_the_api(site: Site) -> None:
    site.store.lives = [
        Lifetime(1, "HighLatency", "warning", NOW_MS - 600_000, NOW_MS - 540_000, NOW_MS - 300_000),
        Lifetime(2, "HighLatency", "warning", NOW_MS - 60_000, None, None),
        Lifetime(3, "HighLatency", "warning", NOW_MS - 40 * 86_400_000, None, None),
    ]
    _, page = await site.get("/")
    assert "(1 unacknowledged)" in page
    assert "5 min" in page
    status, text = await site.get("/api/stats?since=30d")
    whole, part = json.loads(text)
    assert status == 200
    assert (whole["incidents"], part["mtta_ms"], part["mttr_ms"]) == (2, 60_000, 300_000)
    assert (await site.get("/api/stats?since=ever"))[0] == 400


async def test_the_reports_page_has_a_policy_of_its_own_that_allows_its_style_and_nothing_else(site: Site) -> None:
    site.store.add(make_incident(7))
    async with site.client.get("/incidents/7/report?html=1") as response:
        assert response.status == 200
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with site.client.get("/incidents/7/report?html=1&download=1") as response:
        assert response.headers["Content-Disposition"] == 'attachment; filename="incident-7.html"'
    assert (await site.get("/incidents/8/report?html=1"))[0] == 404
    async with site.client.get("/incidents/7") as response:
        assert "sha256" not in response.headers["Content-Security-Policy"]


async def test_a_person_merges_and_opens_again_by_api(site: Site) -> None:
    site.store.add(make_incident(7))
    for path, body, status in (
        ("merge", {"by": "ada", "into": 5}, 200),
        ("merge", {"by": "ada"}, 400),
        ("reopen", {"by": "ada", "text": "not over"}, 200),
        ("reopen", {"by": "ada"}, 400),
        ("merge", {"by": "ada", "into": "x"}, 400),
    ):
        async with site.client.post(f"/api/incidents/7/{path}", json=body) as response:
            assert response.status == status, path
    assert site.store.merged == [(7, 5), (7, None)]
