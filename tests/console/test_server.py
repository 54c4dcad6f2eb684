"""The console over real loopback HTTP: what people see, who may ask, and what a click does."""

from __future__ import annotations

import re

import pytest

from engine.console.model import (
    AlertNow,
    CommandView,
    DeliveryView,
    Evidence,
    NoticeView,
    Pause,
    TimelineEntry,
    UndeliveredView,
)
from tests.console.conftest import NOW_MS, make_approval, make_incident

HOSTILE = "<script>alert(1)</script>"


async def test_the_overview_puts_what_waits_first_then_open_incidents_by_priority(site):
    site.store.add(make_incident(1, priority="P2"))
    site.store.add(make_incident(2, priority="P0"))
    site.store.add(make_incident(3, state="resolved", closed_ms=NOW_MS - 1_000))
    site.store.waiting.append(make_approval())
    site.alerts.append(AlertNow("ConnectionOverload", "firing", "warning", {"channel": "discord"}, "2140", NOW_MS))
    status, html = await site.get("/")
    assert status == 200
    places = [html.index(text) for text in ("Waits for you", "#2</strong>", "#1</strong>", "2140", "#3</strong>")]
    assert places == sorted(places)
    assert "<title>2 open" in html


async def test_when_the_alerts_are_not_known_the_page_says_so_and_shows_the_rest(site):
    site.failing.append(ConnectionError("no evaluator"))
    site.store.add(make_incident(1))
    status, html = await site.get("/")
    assert status == 200
    assert "Not known: ConnectionError: no evaluator" in html
    assert "#1</strong>" in html
    assert "No alert is pending or firing" not in html


async def test_an_incident_page_shows_timeline_evidence_commands_and_the_question(site):
    site.store.add(
        make_incident(7, title="SignatureFailures"),
        timeline=[TimelineEntry(NOW_MS - 9_000, "alert.firing", "fires, value 17")],
        evidence=[
            Evidence("failures", NOW_MS, "promql: up", ["key_id"], [["k-7"]]),
            Evidence("keys", NOW_MS, note="no rows"),
        ],
        commands=[CommandView("c0", "reload", "http.request", "http:bridge", {}, "succeeded", "k-7 loaded", NOW_MS)],
        approvals=[make_approval(question="Restart Bridge?")],
        notices=[
            NoticeView(
                NOW_MS,
                "escalate",
                "P1",
                ["lead"],
                "nothing helped",
                [DeliveryView("lead", "waiting", 3, None, "HTTP 503"), DeliveryView("ops", "delivered", 1, NOW_MS)],
            )
        ],
        acknowledged_by="bob",
        waits_for="a person's decision",
        waits_until_ms=NOW_MS + 60_000,
    )
    status, html = await site.get("/incidents/7")
    assert status == 200
    for text in ("#7 SignatureFailures", "fires, value 17", "k-7</td>", "no rows", "k-7 loaded", "expires in"):
        assert text in html
    assert "lead: not delivered yet (HTTP 503)" in html
    assert "ops: delivered" in html
    for text in ("Restart Bridge?", "http.request on http:bridge", "ab" * 6, "Acknowledged by <strong>bob", "to lead:"):
        assert text in html
    assert re.search(r"Waits for <strong>a person&#39;s decision</strong>, until [0-9: -]+ UTC", html)


async def test_the_overview_says_who_cannot_be_told(site):
    _, html = await site.get("/")
    assert "cannot be told" not in html
    site.store.troubles = [UndeliveredView("on-call", 2, 1, NOW_MS - 60_000, "HTTP 503: away")]
    _, html = await site.get("/")
    for text in (
        "People who cannot be told",
        "<strong>on-call</strong>",
        "2 undelivered",
        "1 given up",
        "HTTP 503: away",
    ):
        assert text in html


async def test_text_from_events_is_escaped_everywhere(site):
    site.store.add(
        make_incident(7, title=HOSTILE, labels={"user": HOSTILE}, state=HOSTILE),
        timeline=[TimelineEntry(NOW_MS, HOSTILE, HOSTILE)],
        evidence=[Evidence(HOSTILE, NOW_MS, HOSTILE, [HOSTILE], [[HOSTILE]], HOSTILE)],
        commands=[CommandView("c", HOSTILE, "a", HOSTILE, {"q": HOSTILE}, "failed", HOSTILE, NOW_MS)],
        notices=[
            NoticeView(
                NOW_MS, HOSTILE, HOSTILE, [HOSTILE], HOSTILE, [DeliveryView(HOSTILE, "waiting", 1, None, HOSTILE)]
            )
        ],
        acknowledged_by=HOSTILE,
        waits_for=HOSTILE,
        approvals=[make_approval(question=HOSTILE, params={"q": f'"{HOSTILE}'}, command='"><script>alert(1)</script>')],
    )
    site.store.waiting = site.store.known[7].approvals
    site.store.troubles = [UndeliveredView(HOSTILE, 1, 1, NOW_MS, HOSTILE)]
    site.alerts.append(AlertNow(HOSTILE, "firing", HOSTILE, {"user": HOSTILE}, HOSTILE, NOW_MS))
    for path in ("/", "/incidents/7"):
        _, html = await site.get(path)
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)" in html


async def test_every_answer_forbids_inline_scripts_frames_and_foreign_sources(site):
    for path in ("/", "/api/incidents", "/incidents/999", "/static/console.css"):
        async with site.client.get(path) as response:
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    _, html = await site.get("/")
    assert not re.search(r"(src|href|action)=\"(https?:)?//", html), "nothing is fetched from outside"
    assert not re.search(r"<script(?! src=)|\son\w+=|style=", html), "nothing is inline"


@pytest.mark.parametrize(("path", "kind"), [("console.css", "text/css"), ("console.js", "text/javascript")])
async def test_the_static_files_are_served(site, path, kind):
    async with site.client.get(f"/static/{path}") as response:
        assert (response.status, response.content_type) == (200, kind)


@pytest.mark.parametrize(
    "path", ["/static/nothing.css", "/static/console.html", "/incidents/12", "/incidents/12/report"]
)
async def test_what_is_not_there_is_404(site, path):
    assert (await site.get(path))[0] == 404


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("127.0.0.1:9560", 200),
            ("[::1]:9560", 200),
            ("10.0.0.7:9560", 200),
            ("localhost:9560", 200),
            ("sentinel.example:9560", 200),
            ("SENTINEL.example", 200),
            ("evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 403),
            ("[", 403),
        ],
    )
    async def test_only_names_that_are_ours_are_answered(self, site, host, status):
        assert (await site.get("/api/incidents", Host=host))[0] == status

    @pytest.mark.parametrize(
        "headers",
        [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    )
    async def test_a_post_from_another_site_is_refused(self, site, headers):
        async with site.client.post("/api/pause", json={"by": "ada"}, headers=headers) as response:
            assert response.status == 403
        assert not site.store.switch.paused

    async def test_a_post_of_our_own_page_is_taken(self, site):
        own = str(site.client.make_url("")).rstrip("/")
        async with site.client.post("/api/pause", json={"by": "ada"}, headers={"Origin": own}) as response:
            assert response.status == 200
        assert site.store.switch == Pause(True, "ada", NOW_MS)

    async def test_a_form_of_another_site_cannot_pose_as_json(self, site):
        async with site.client.post("/api/pause", data='{"by": "ada"}') as response:
            assert response.status == 415


async def form_of(site, **changes):
    """The fields of the approval form as a browser that opened the page would send them."""
    _, html = await site.get("/incidents/7")
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))
    return {**fields, "by": "ada", "reason": "looks right", "decision": "approve", **changes}


@pytest.fixture
def asked(site):
    approval = make_approval()
    site.store.waiting.append(approval)
    site.store.add(make_incident(7), approvals=[approval])
    return site


class TestDecidingOnThePage:
    async def post(self, site, form, cookie=True):
        if not cookie:
            site.client.session.cookie_jar.clear()
        async with site.client.post("/approvals/c1", data=form, allow_redirects=False) as response:
            return response.status, response.headers.get("Location"), await response.text()

    @pytest.mark.parametrize("decision", ["approve", "deny"])
    async def test_a_click_decides_about_the_exact_command_shown_and_leads_back(self, asked, decision):
        status, location, _ = await self.post(asked, await form_of(asked, decision=decision))
        assert (status, location) == (303, "/incidents/7")
        [(command, decided)] = asked.store.decisions
        assert command == "c1"
        assert (decided.approve, decided.by, decided.reason) == (decision == "approve", "ada", "looks right")
        assert decided.body_sha256 == "ab" * 32

    @pytest.mark.parametrize(
        ("changes", "cookie", "status"),
        [
            ({"csrf": "0" * 64}, True, 403),
            ({"csrf": ""}, True, 403),
            ({}, False, 403),
            ({"by": "  "}, True, 400),
            ({"by": "a\nb"}, True, 400),
            ({"by": "a" * 101}, True, 400),
            ({"decision": "maybe"}, True, 400),
            ({"body_sha256": "cd" * 32}, True, 409),
        ],
    )
    async def test_anything_else_decides_nothing_and_says_why(self, asked, changes, cookie, status):
        answered, _, html = await self.post(asked, await form_of(asked, **changes), cookie)
        assert answered == status
        assert "<h1>" in html
        assert asked.store.decisions == []

    async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(self, asked):
        async with asked.client.get("/") as response:
            cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie

    async def test_pause_and_resume_need_a_name_and_show_a_banner(self, asked):
        form = await form_of(asked)
        for path, by, status, paused in [("/pause", "", 400, False), ("/pause", "ada", 303, True)]:
            async with asked.client.post(path, data={**form, "by": by}, allow_redirects=False) as response:
                assert response.status == status
            assert asked.store.switch.paused is paused
        _, html = await asked.get("/")
        assert "<strong>Paused</strong> by ada" in html
        async with asked.client.post("/resume", data=form, allow_redirects=False) as response:
            assert response.status == 303
        assert not asked.store.switch.paused


class TestTellingTheResponder:
    @pytest.mark.parametrize(("kind", "text"), [("acknowledge", ""), ("close", "a drill"), ("note", "see ticket 7")])
    async def test_a_click_is_handed_on_with_its_name(self, asked, kind, text):
        form = {**await form_of(asked), "text": text}
        async with asked.client.post(f"/incidents/7/{kind}", data=form, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, "/incidents/7")
        assert asked.store.said == [(7, kind, "ada", text, NOW_MS)]

    @pytest.mark.parametrize(
        ("path", "changes", "status"),
        [
            ("7/acknowledge", {"csrf": "0" * 64}, 403),
            ("7/acknowledge", {"by": " "}, 400),
            ("7/close", {"text": " "}, 400),
            ("7/note", {}, 400),
            ("8/acknowledge", {}, 409),
            ("7/delete", {}, 404),
        ],
    )
    async def test_anything_else_says_nothing(self, asked, path, changes, status):
        form = {**await form_of(asked), **changes}
        async with asked.client.post(f"/incidents/{path}", data=form, allow_redirects=False) as response:
            assert response.status == status
        assert asked.store.said == []

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("7/close", {"by": "ada", "text": "a drill"}, 200),
            ("7/close", {"by": "ada"}, 400),
            ("8/acknowledge", {"by": "ada"}, 409),
        ],
    )
    async def test_the_same_as_json(self, asked, path, body, status):
        async with asked.client.post(f"/api/incidents/{path}", json=body) as response:
            assert response.status == status
        assert len(asked.store.said) == (status == 200)


class TestJsonApi:
    async def json(self, site, path):
        async with site.client.get(path) as response:
            return response.status, await response.json()

    async def test_incidents_can_be_listed_and_limited(self, site):
        site.store.add(make_incident(1))
        site.store.add(make_incident(2, closed_ms=NOW_MS))
        assert [row["id"] for row in (await self.json(site, "/api/incidents"))[1]] == [1, 2]
        assert [row["id"] for row in (await self.json(site, "/api/incidents?open=true"))[1]] == [1]
        assert [row["id"] for row in (await self.json(site, "/api/incidents?limit=1"))[1]] == [1]

    @pytest.mark.parametrize(
        ("path", "status", "error"),
        [
            ("/api/incidents?limit=0", 400, "open is true or false, limit is 1 to 500"),
            ("/api/incidents?limit=x", 400, "open is true or false, limit is 1 to 500"),
            ("/api/incidents?open=maybe", 400, "open is true or false, limit is 1 to 500"),
            ("/api/incidents/5", 404, "there is no incident 5"),
        ],
    )
    async def test_a_wrong_question_is_answered_with_its_reason(self, site, path, status, error):
        assert await self.json(site, path) == (status, {"error": error})

    async def test_one_incident_comes_whole(self, site):
        site.store.add(make_incident(7), timeline=[TimelineEntry(1, "a", "b")], approvals=[make_approval()])
        status, body = await self.json(site, "/api/incidents/7")
        assert status == 200
        assert body["incident"]["id"] == 7
        assert body["timeline"] == [{"at_ms": 1, "kind": "a", "text": "b"}]
        assert body["approvals"][0]["body_sha256"] == "ab" * 32

    async def test_alerts_that_are_not_known_are_503_and_never_an_empty_list(self, site):
        site.failing.append(ConnectionError("no evaluator"))
        assert await self.json(site, "/api/alerts") == (503, {"error": "alerts are not known: no evaluator"})

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"approve": True, "by": "ada", "body_sha256": "ab" * 32}, 200),
            ({"approve": True, "by": "", "body_sha256": "ab" * 32}, 400),
            ({"approve": True, "by": "ada", "body_sha256": "cd" * 32}, 409),
            ({"approve": "yes", "by": "ada", "body_sha256": "ab" * 32}, 400),
            ({"approve": True, "by": "ada"}, 400),
            ({"approve": True, "by": "ada", "body_sha256": "ab" * 32, "force": True}, 400),
        ],
    )
    async def test_a_decision_names_the_person_and_the_exact_command(self, asked, body, status):
        async with asked.client.post("/api/approvals/c1", json=body) as response:
            assert response.status == status
            assert ("error" in await response.json()) == (status != 200)
        assert len(asked.store.decisions) == (status == 200)

    async def test_the_report_is_text_to_read_or_markdown_to_keep(self, site):
        site.store.add(make_incident(7))
        async with site.client.get("/incidents/7/report") as response:
            assert (response.content_type, await response.text()) == ("text/plain", "# Incident 7\n")
        async with site.client.get("/incidents/7/report?download=1") as response:
            assert response.content_type == "text/markdown"
            assert response.headers["Content-Disposition"] == 'attachment; filename="incident-7.md"'
