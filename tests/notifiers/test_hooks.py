"""What people answer in Slack and PagerDuty counts once, only when it is signed, and only about what they were shown.

Slack signs `v0:TIME:BODY`, PagerDuty the body; the requests here are made as theirs are documented.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from engine.edge.database import Database
from engine.edge.notify_hooks import Hooks, is_of_pagerduty, is_of_slack
from engine.notifiers.slack import APPROVE, DENY
from engine.response.guardrails import Policy
from tests.notifiers.site import MINUTE_MS, Services, Site
from tests.notifiers.stubs import SLACK_SECRET, pagerduty_webhook, slack_press, slack_signed
from tests.response.conftest import START_MS

Signed = tuple[bytes, dict[str, str]]


@dataclass
class Desk:
    """The listener, with a command that waits for a decision in Slack."""

    site: Site
    client: TestClient[web.Request, web.Application]

    @property
    def question(self) -> dict[str, Any]:
        slack = self.site.services.slack
        return next(message for message in slack.posted if slack.buttons(message))

    def press(self, action: str = APPROVE, *, user: str = "U0ADA", name: str = "ada", **changes: Any) -> Signed:
        """The request of somebody who presses a button now."""
        button = self.site.services.slack.buttons(self.question)[action] | changes.pop("button", {})
        at_s = changes.pop("at_s", self.site.now_ms // 1000)
        return slack_press(self.question, button, user=user, name=name, at_s=at_s, **changes)

    async def send(self, path: str, request: Signed) -> tuple[int, str]:
        body, headers = request
        async with self.client.post(path, data=body, headers=headers) as response:
            said = response.status, await response.text()
        await self.site.hooks.settled()
        return said


@pytest_asyncio.fixture
async def desk(database: Database, services: Services) -> AsyncIterator[Desk]:
    site = Site(database, services, services.settings())
    await site.alert("firing", alertname="Attack")
    await site.deliver()
    async with served(site) as desk:
        yield desk
    await site.notifying.close()


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[Desk]:
    """The two paths on a listener."""
    app = web.Application()
    app.add_routes(site.hooks.routes())
    async with TestClient(TestServer(app)) as client:
        yield Desk(site, client)


# Slack ---------------------------------------------------------------------------------------------------------------


async def test_the_question_shows_the_whole_command_and_its_hash_above_the_buttons(desk: Desk) -> None:
    approval = await desk.site.approval()
    texts = [block["text"]["text"] for block in desk.question["blocks"] if block["type"] == "section"]
    assert "http.request on http:openclaw\n" in texts[-1]
    assert '"json":{"user_id":"mallory"}' in texts[-1]
    assert f"sha256 {approval.body_sha256}" in desk.question["blocks"][-2]["elements"][0]["text"]


async def test_who_may_approves_in_slack_and_the_very_command_that_was_shown_is_sent(desk: Desk) -> None:
    assert await desk.send("/hooks/slack", desk.press()) == (200, "")
    approval = await desk.site.approval()
    assert (approval.state, approval.decided_by) == ("approved", "slack:U0ADA (ada)")
    await desk.site.after(0)
    assert desk.site.sent == [approval.body]
    slack = desk.site.services.slack
    shown = slack.messages["C0OPS", desk.question["ts"]]
    assert slack.buttons(shown) == {}
    assert "approved by slack:U0ADA (ada)" in shown["text"]
    assert slack.posted[-1]["thread_ts"] == slack.posted[0]["ts"]
    assert slack.whispers == []


async def test_who_denies_in_slack_ends_it_and_people_are_told(desk: Desk) -> None:
    assert await desk.send("/hooks/slack", desk.press(DENY)) == (200, "")
    await desk.site.after(0)
    assert ((await desk.site.approval()).state, desk.site.sent) == ("denied", [])
    assert (await desk.site.state()).escalated_reason == "approval_denied"


async def test_who_is_not_on_the_list_is_refused_audited_and_told_so_alone(desk: Desk) -> None:
    assert await desk.send("/hooks/slack", desk.press(user="U0EVE", name="eve")) == (200, "")
    assert (await desk.site.approval()).state == "waiting"
    [row] = await desk.site.audited("approval.refused")
    assert (row["actor"], row["reason"], row["decision"]) == ("slack:U0EVE (eve)", "not_an_approver", "approved")
    [whisper] = desk.site.services.slack.whispers
    assert (whisper["user"], whisper["channel"]) == ("U0EVE", "C0OPS")
    assert "notify.slack.approvers" in whisper["text"]


async def test_a_request_that_is_sent_again_counts_for_nothing(desk: Desk) -> None:
    request = desk.press(DENY)
    assert (await desk.send("/hooks/slack", request))[0] == 200
    assert await desk.send("/hooks/slack", request) == (403, "the request was seen before")
    [row] = await desk.site.audited("approval.refused")
    assert row["reason"] == "replayed"
    assert len(await desk.site.audited("approval.denied")) == 1


async def test_a_second_decision_is_too_late_and_says_so(desk: Desk) -> None:
    await desk.send("/hooks/slack", desk.press(DENY))
    assert (await desk.send("/hooks/slack", desk.press(APPROVE)))[0] == 200
    assert (await desk.site.approval()).state == "denied"
    assert [one["text"] for one in desk.site.services.slack.whispers] == ["It was decided already."]


async def test_where_two_must_agree_one_user_counts_once_whatever_they_are_called(desk: Desk) -> None:
    async with desk.site.database.connection() as conn:
        await conn.execute("update approvals set people = 2")
    await desk.send("/hooks/slack", desk.press())
    await desk.send("/hooks/slack", desk.press(name="eve", at_s=desk.site.now_ms // 1000 + 1))
    approval = await desk.site.approval()
    assert (approval.state, approval.yes_by) == ("waiting", ["slack:U0ADA (ada)"])
    assert [row["reason"] for row in await desk.site.audited("approval.refused")] == ["same_person"]
    first, second = (whisper["text"] for whisper in desk.site.services.slack.whispers)
    assert "the first yes of two" in first
    assert "a second person must agree" in second


async def test_a_button_that_shows_another_command_decides_nothing(desk: Desk) -> None:
    approval = await desk.site.approval()
    value = f'{{"command": "{approval.command}", "sha256": "{"0" * 64}"}}'
    assert (await desk.send("/hooks/slack", desk.press(button={"value": value})))[0] == 200
    assert (await desk.site.approval()).state == "waiting"
    assert "not the one that was shown" in desk.site.services.slack.whispers[0]["text"]


async def test_an_approval_whose_time_is_over_decides_nothing(desk: Desk) -> None:
    desk.site.now_ms += 15 * MINUTE_MS
    assert (await desk.send("/hooks/slack", desk.press()))[0] == 200
    assert (await desk.site.approval()).state == "waiting"
    assert "expired" in desk.site.services.slack.whispers[0]["text"]


async def test_where_two_must_agree_one_is_not_enough_also_under_another_name(
    database: Database, services: Services
) -> None:
    settings = services.settings()
    slack = settings.slack.model_copy(update={"approvers": ["U0ADA", "U0BOB"]})
    policy = Policy(four_eyes=frozenset({"P1"}))
    site = Site(database, services, settings.model_copy(update={"slack": slack}), policy=policy)
    await site.alert("firing", alertname="Attack")
    await site.deliver()
    async with served(site) as desk:
        assert "2 people must agree" in desk.question["blocks"][-2]["elements"][0]["text"]
        for user, name in (("U0ADA", "ada"), ("U0ADA", "ada the second"), ("U0BOB", "bob")):
            assert (await desk.send("/hooks/slack", desk.press(user=user, name=name)))[0] == 200
            site.now_ms += 1_000
    approval = await site.approval()
    assert (approval.state, approval.yes_by) == ("approved", ["slack:U0ADA (ada)", "slack:U0BOB (bob)"])
    assert [one["text"] for one in services.slack.whispers] == [
        "Noted: yours is the first yes of two. Nothing is done before another person agrees.",
        "You have agreed already; a second person must agree too.",
    ]


FORGERIES: dict[str, Callable[[Desk], Signed]] = {
    "another secret": lambda desk: desk.press(secret="guessed"),
    "five minutes old": lambda desk: desk.press(at_s=START_MS // 1000 - 301),
    "from the future": lambda desk: desk.press(at_s=START_MS // 1000 + 301),
    "an altered body": lambda desk: (desk.press()[0].replace(b"U0ADA", b"U0EVE"), desk.press()[1]),
    "an altered time": lambda desk: (desk.press()[0], desk.press()[1] | {"X-Slack-Request-Timestamp": "1800000001"}),
    "no signature": lambda desk: (desk.press()[0], {"Content-Type": "application/x-www-form-urlencoded"}),
    "no time": lambda desk: (desk.press()[0], desk.press()[1] | {"X-Slack-Request-Timestamp": "soon"}),
    "nothing at all": lambda desk: (b"", {}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_request_that_slack_did_not_sign_just_now_is_refused(desk: Desk, forgery: str) -> None:
    status, said = await desk.send("/hooks/slack", FORGERIES[forgery](desk))
    assert (status, said) == (403, "the signature does not hold, or is older than five minutes")
    assert (await desk.site.approval()).state == "waiting"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"payload=%7B", 400),
        (b"payload=%5B%5D", 400),
        (b"\xff\xfe", 403),
        (b'payload={"type":"block_actions","user":{"id":"U0ADA"},"actions":[]}', 200),
        (b'payload={"type":"view_closed","user":{"id":"U0ADA"}}', 200),
        (b'payload={"type":"block_actions","user":{"id":"U0ADA"},"actions":[{"action_id":"sentinel_approve"}]}', 400),
        (
            b'payload={"type":"block_actions","user":{"id":"U0ADA"},"actions":[{"action_id":"sentinel_approve",'
            b'"value":"{\\"command\\":\\"x\\",\\"sha256\\":\\"y\\"}"}]}',
            200,
        ),
    ],
)
async def test_a_signed_request_that_says_nothing_of_use_is_answered_and_changes_nothing(
    desk: Desk, body: bytes, status: int
) -> None:
    assert (await desk.send("/hooks/slack", slack_signed(body, START_MS // 1000)))[0] == status
    assert (await desk.site.approval()).state == "waiting"


async def test_a_whisper_that_cannot_be_delivered_is_only_logged(desk: Desk) -> None:
    desk.site.services.slack.go_away(1)
    assert (await desk.send("/hooks/slack", desk.press(user="U0EVE")))[0] == 200
    assert desk.site.services.slack.whispers == []


@given(st.text(max_size=20), st.text(max_size=40), st.binary(max_size=40))
def test_no_header_whatever_passes_for_a_signature(at: str, mark: str, body: bytes) -> None:
    assert not is_of_slack(body, at, mark, secret=SLACK_SECRET, now_ms=START_MS)
    assert not is_of_slack(body, at, mark, secret="", now_ms=START_MS)


# PagerDuty -----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def paged(desk: Desk) -> Desk:
    """Beside the first incident one of which PagerDuty knows."""
    await desk.site.alert("firing")
    await desk.site.deliver()
    return desk


def key_of(desk: Desk) -> str:
    return str(desk.site.services.pagerduty.events[0]["dedup_key"])


async def test_an_acknowledgement_in_pagerduty_acknowledges_the_incident_here(paged: Desk) -> None:
    request = pagerduty_webhook("incident.acknowledged", key_of(paged))
    assert await paged.send("/hooks/pagerduty", request) == (200, "")
    await paged.site.after(0)
    state = await paged.site.state(2)
    assert (state.acknowledged_by, state.escalation_due_ms) == ("pagerduty:PXPGF42 (Ada Lovelace)", None)
    await paged.site.after(60 * MINUTE_MS)
    assert [mail["To"] for mail in paged.site.services.mailbox.mails if "bridge is down" in mail["Subject"]] == []


async def test_the_same_event_again_acknowledges_nothing_twice(paged: Desk) -> None:
    request = pagerduty_webhook("incident.acknowledged", key_of(paged))
    for _ in range(2):
        assert (await paged.send("/hooks/pagerduty", request))[0] == 200
    rows = await paged.site.rows("select kind from operator_events")
    assert [row["kind"] for row in rows] == ["acknowledge"]


@pytest.mark.parametrize(
    ("kind", "key"),
    [("incident.resolved", "own"), ("incident.acknowledged", "somebody-elses"), ("pagey.ping", "own")],
)
async def test_other_events_and_other_peoples_incidents_are_answered_and_change_nothing(
    paged: Desk, kind: str, key: str
) -> None:
    request = pagerduty_webhook(kind, key_of(paged) if key == "own" else key)
    assert (await paged.send("/hooks/pagerduty", request))[0] == 200
    assert await paged.site.rows("select 1 from operator_events") == []


@pytest.mark.parametrize(
    ("mark", "taken"),
    [
        ("{good}", True),
        ("v1=00,{good}", True),
        ("v1=00, {good}", True),
        ("", False),
        ("v1=", False),
        ("v1=00", False),
        ("v2={bare}", False),
        ("{bare}", False),
    ],
)
def test_one_signature_of_version_one_has_to_hold(mark: str, taken: bool) -> None:
    body, headers = pagerduty_webhook("incident.acknowledged", "k", secret="s")
    good = headers["X-PagerDuty-Signature"]
    marks = mark.format(good=good, bare=good.removeprefix("v1=")).split(",")
    assert is_of_pagerduty(body, marks, secret="s") is taken
    assert not is_of_pagerduty(body, marks, secret="")


async def test_a_webhook_that_pagerduty_did_not_sign_is_refused(paged: Desk) -> None:
    request = pagerduty_webhook("incident.acknowledged", key_of(paged), secret="guessed")
    assert await paged.send("/hooks/pagerduty", request) == (403, "the signature does not hold")
    assert await paged.site.rows("select 1 from operator_events") == []


async def test_without_its_secret_a_path_is_not_served(database: Database, services: Services) -> None:
    settings = services.settings("ops", slack={"token": "x"}, pagerduty={})
    hooks = Hooks(database, Site(database, services, settings).env)
    assert hooks.routes() == []
