"""People are told, in order, until they answer; an outage is waited out, shown, and never holds up a repair.

```
 alert ─ opened ─ notify(ops) ─ escalate(on-call) ─ 15 min ─ escalate(lead) ─ 30 min ─ escalate(boss@)
                                        └ acknowledged: the chain ends ┘
```
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edge import approvals, deliveries
from engine.edge.console_store import PostgresStore
from engine.edge.database import Database
from engine.edge.deliveries import NoticeRow
from engine.edge.migrate import MIGRATIONS, migrate
from engine.edge.notifying import LONGEST_MS, pause_ms, recipients
from engine.edge.settings_notify import Receiver
from engine.notifiers import Environment, Message, load_notifiers
from engine.response.model import NoticeKind
from tests.notifiers.site import MINUTE_MS, Services, Site
from tests.notifiers.stubs import ROUTING_KEY
from tests.waiting import until

UNROUTED = "select 1 from notices where routed_ms is null"
EVERY: list[NoticeKind] = ["opened", "notify", "escalate", "held", "decided", "acknowledged", "resolved"]


async def test_an_escalation_reaches_pagerduty_then_the_next_level_and_ends_with_the_incident(site: Site) -> None:
    await site.alert("firing")
    await site.deliver()
    [event] = site.services.pagerduty.events
    assert (event["event_action"], event["routing_key"]) == ("trigger", ROUTING_KEY)
    assert event["payload"]["summary"] == "[P1] bridge is down: needs a person"
    assert event["payload"]["severity"] == "critical"
    assert event["links"] == [{"href": "https://sentinel.example.org/incidents/1", "text": "Incident 1"}]
    assert [message["text"] for message in site.services.slack.posted] == [
        "[P1] Incident 1: bridge is down: looks at bridge"
    ]
    assert site.services.mailbox.mails == []

    await site.after(15 * MINUTE_MS)
    [mail] = site.services.mailbox.mails
    assert (mail["To"], mail["Subject"]) == ("lead@example.org", "[P1] escalated: bridge is down (incident 1)")
    assert "nobody has acknowledged" in mail.get_content()

    await site.after(30 * MINUTE_MS)
    assert site.services.mailbox.envelopes[-1] == ("s@example.org", ["boss@example.org"])

    await site.say("acknowledge")
    await site.alert("resolved")
    await site.after(MINUTE_MS)
    assert (await site.state()).resolution == "cleared_after_escalation"
    assert site.services.pagerduty.actions() == ["trigger", "acknowledge", "resolve"]
    assert set(site.services.pagerduty.alerts.values()) == {"resolved"}
    assert [mail["To"] for mail in site.services.mailbox.mails[2:]] == ["lead@example.org", "boss@example.org"]
    assert "resolved: bridge is down" in site.services.mailbox.mails[-1]["Subject"]
    assert set((await site.states()).values()) == {"delivered"}


async def test_an_acknowledgement_in_the_console_goes_to_pagerduty_and_ends_the_chain(site: Site) -> None:
    await site.alert("firing")
    await site.deliver()
    await site.say("acknowledge")
    await site.after(0)
    assert list(site.services.pagerduty.alerts.values()) == ["acknowledged"]
    await site.after(60 * MINUTE_MS)
    assert site.services.mailbox.mails == []


async def test_slack_has_one_thread_for_each_incident(site: Site) -> None:
    await site.alert("firing")
    await site.alert("firing", alertname="Attack")
    await site.deliver()
    await site.say("acknowledge")
    await site.after(0)
    first, second, acknowledged = site.services.slack.posted
    assert "thread_ts" not in first
    assert "thread_ts" not in second
    assert (acknowledged["thread_ts"], acknowledged["text"]) == (
        first["ts"],
        "[P1] Incident 1: bridge is down: acknowledged by ada",
    )


async def test_a_receiver_that_follows_hears_of_every_incident_from_its_opening(
    database: Database, services: Services
) -> None:
    site = Site(database, services, services.settings("ops", "on-call", follow="ops"))
    await site.alert("firing", alertname="Attack")
    await site.deliver()
    await site.say("close")
    await site.after(0)
    texts = [message["text"].partition("attacked")[2] for message in services.slack.posted]
    assert texts[0] == ""
    assert texts[1].startswith(": to be decided until 2027-01-15 08:15:00 UTC: ")
    assert texts[2:] == [": no longer to be decided: closed by ada", ": closed by ada"]
    assert services.pagerduty.events == []


async def test_an_outage_is_tried_again_with_growing_pauses_and_delivered_once(site: Site) -> None:
    site.services.pagerduty.go_away(5)
    await site.alert("firing")
    pauses = []
    for _ in range(5):
        await site.deliver()
        [row] = await site.rows("select next_ms, attempts, last_error from deliveries where receiver = 'on-call'")
        pauses.append(row["next_ms"] - site.now_ms)
        assert row["last_error"].startswith("HTTP 503")
        site.now_ms = row["next_ms"]
    assert all(500 << n <= pause <= 1000 << n for n, pause in enumerate(pauses))
    await site.deliver()
    assert site.services.pagerduty.actions() == ["trigger"]
    counted = site.telemetry.notifications
    assert (
        counted.labels("on-call", "failed")._value.get(),
        counted.labels("on-call", "delivered")._value.get(),
    ) == (5, 1)


async def test_a_service_that_asks_to_be_left_alone_is(site: Site) -> None:
    site.services.pagerduty.go_away(1, 429, Retry_After="120")
    await site.alert("firing")
    await site.deliver()
    await site.alert("firing", namespace="other")
    await site.after(119_000)
    assert site.services.pagerduty.requests == 1
    await site.after(1_000)
    assert site.services.pagerduty.actions() == ["trigger", "trigger"]
    assert len(site.services.pagerduty.alerts) == 2


async def test_who_cannot_be_reached_in_time_is_audited_and_the_next_level_is_told(site: Site) -> None:
    site.services.pagerduty.go_away(10_000)
    site.settings = site.settings.model_copy(update={"give_up_after_s": 300})
    site.notifying = site.notifier()
    await site.alert("firing")
    for _ in range(14):
        await site.after(30_000)
    [row] = await site.audited("notice.undelivered")
    assert (row["actor"], row["receiver"]) == ("notifier", "on-call")
    assert row["text"] == 'on-call could not be told: HTTP 503: {"error": "not now"}'
    [mail] = site.services.mailbox.mails
    assert (mail["To"], site.now_ms - 1_800_000_000_000 < 15 * MINUTE_MS) == ("lead@example.org", True)
    assert "on-call could not be told" in mail.get_content()
    assert [one["reason"] for one in await site.audited("incident.escalated")] == ["people", "undelivered"]
    site.services.pagerduty.outage.clear()


@pytest.mark.parametrize(
    ("receivers", "said"),
    [
        ({"on-call": {"pagerduty": {"routing_key": "f" * 32}}}, "HTTP 400: "),
        ({}, "notify.receivers has no 'on-call'"),
    ],
    ids=["refused", "unknown"],
)
async def test_what_will_never_be_taken_goes_to_the_next_level_at_once(
    database: Database, services: Services, receivers: dict[str, object], said: str
) -> None:
    base = services.settings("ops", "lead")
    made = base.model_copy(
        update={"receivers": base.receivers | {name: Receiver.model_validate(one) for name, one in receivers.items()}}
    )
    site = Site(database, services, made)
    await site.alert("firing")
    await site.deliver()
    await site.after(1_000)
    assert [mail["To"] for mail in services.mailbox.mails] == ["lead@example.org"]
    [row] = await site.audited("notice.undelivered")
    assert said in str(row["text"])
    services.pagerduty.problems.clear()


async def test_where_nobody_further_is_to_be_told_that_is_noted(site: Site) -> None:
    await site.alert("firing")
    await site.say("undelivered")
    await site.say("acknowledge")
    await site.say("undelivered")
    await site.responder.on_tick(site.now_ms)
    assert [row["level"] for row in await site.audited("incident.escalated") if "level" in row] == [2]
    [row] = await site.audited("incident.undelivered")
    assert "nobody further is to be told" in row["text"]


async def test_an_outage_of_every_service_never_holds_up_a_mitigation(site: Site) -> None:
    """Nothing at all is delivered, and the approved command is sent all the same."""
    for stub in (site.services.pagerduty, site.services.slack):
        stub.go_away(10_000)
    await site.alert("firing", alertname="Attack")
    await site.deliver()
    asked = await site.approval()
    async with site.database.transaction() as conn:
        await approvals.decide(conn, asked.command, "approved", by="ada", now_ms=site.now_ms)
    await site.responder.on_tick(site.now_ms)
    assert site.sent == [asked.body]
    assert set((await site.states()).values()) == {"waiting"}
    site.services.slack.outage.clear()
    site.services.pagerduty.outage.clear()


async def test_a_service_that_hangs_holds_up_nobody_else(site: Site) -> None:
    hung, notifiers = asyncio.Event(), load_notifiers()

    async def hang(*_: object) -> dict[str, object]:
        hung.set()
        await asyncio.Event().wait()
        raise AssertionError

    site.notifying = site.notifier()
    site.notifying._notifiers = notifiers | {"pagerduty": replace(notifiers["pagerduty"], deliver=hang)}
    await site.alert("firing")
    await site.notifying.turn()
    await hung.wait()
    slack, notifying = site.services.slack, site.notifying
    await until(lambda: len(slack.posted) == 1)
    await site.alert("firing", namespace="other")

    async def told_of_both() -> bool:
        await notifying.turn()  # Slack's own first delivery may still be written down
        return len(slack.posted) == 2

    await until(told_of_both)
    await notifying.close()


async def test_several_notifiers_tell_each_thing_once_and_in_order(site: Site) -> None:
    for number in range(1, 11):
        await site.alert("firing", namespace=f"n{number}")
        await site.say("acknowledge", incident=number)
    await site.responder.on_tick(site.now_ms)
    notifiers = [site.notifier() for _ in range(3)]
    while set((await site.states()).values()) != {"delivered"} or await site.rows(UNROUTED):
        await asyncio.gather(*(one.turn() for one in notifiers))
        await asyncio.gather(*(one.settled() for one in notifiers))
    by_key: dict[str, list[str]] = {}
    for event in site.services.pagerduty.events:
        by_key.setdefault(event["dedup_key"], []).append(event["event_action"])
    assert list(by_key.values()) == [["trigger", "acknowledge"]] * 10
    notices = [message["metadata"]["event_payload"]["notice"] for message in site.services.slack.posted]
    assert len(notices) == len(set(notices)) == 20


async def test_what_a_notifier_that_died_had_taken_is_delivered_after_its_lease(site: Site) -> None:
    await site.alert("firing")
    dead = site.notifier()
    await dead.turn()
    await dead.close()  # it may or may not have been sent
    await site.deliver()
    before = [row["state"] for row in await site.rows("select state from deliveries where receiver = 'on-call'")]
    await site.after(MINUTE_MS)
    assert before == ["waiting"]
    assert set((await site.states()).values()) == {"delivered"}
    assert list(site.services.pagerduty.alerts.values()) == ["triggered"]


async def test_the_word_of_a_notifier_whose_lease_is_over_counts_no_more(site: Site) -> None:
    await site.alert("firing")
    await site.notifying._database.run(site.notifying._route)
    async with site.database.transaction() as conn:
        [late] = [row for row in await deliveries.claim(conn, [], site.now_ms, 1_000) if row.receiver == "on-call"]
        [row] = [
            row for row in await deliveries.claim(conn, [], site.now_ms + 1_000, 1_000) if row.receiver == "on-call"
        ]
        assert (row.seq, row.attempts) == (late.seq, 2)
        assert not await deliveries.delivered(conn, late, {}, site.now_ms, None)
        assert not await deliveries.give_up(conn, late, "too late", site.now_ms)
        assert await deliveries.delivered(conn, row, {}, site.now_ms, None)
    assert await site.audited("notice.undelivered") == []


async def test_an_incident_stands_in_the_alertmanager_until_it_ends(database: Database, services: Services) -> None:
    site = Site(database, services, services.settings("alerts", "ops", "on-call", "lead", follow="alerts"))
    await site.alert("firing")
    await site.deliver()
    begun = len(services.alertmanager.alerts)
    await site.after(MINUTE_MS)
    await site.after(MINUTE_MS)
    again = services.alertmanager.alerts[begun:]
    assert len(again) == 2
    assert {one["labels"]["alertname"] for one in again} == {"SentinelIncident"}
    assert len({str(sorted(one["labels"].items())) for one in services.alertmanager.alerts}) == 1
    assert all(one["endsAt"] > one["startsAt"] for one in again)
    await site.say("close")
    await site.after(0)
    ended = services.alertmanager.alerts[-1]
    await site.after(10 * MINUTE_MS)
    assert services.alertmanager.alerts[-1] is ended
    assert ended["endsAt"] == "2027-01-15T08:02:00.000+00:00"


async def test_what_is_older_than_a_day_is_not_sent_but_counted(site: Site) -> None:
    await site.alert("firing")
    site.now_ms += 25 * 60 * MINUTE_MS
    await site.deliver()
    assert (site.services.pagerduty.requests, await site.states()) == (0, {})
    assert site.telemetry.drops.labels("notifier", "too_old")._value.get() == 3


async def test_whom_it_cannot_reach_is_shown_until_they_are(site: Site) -> None:
    site.services.pagerduty.go_away(1)
    await site.alert("firing")
    await site.deliver()
    [trouble] = await site.notifying.troubles()
    assert str(trouble) == 'on-call: 1 undelivered (HTTP 503: {"error": "not now"})'
    assert site.telemetry.notifications_waiting.labels("on-call")._value.get() == 1
    await site.after(MINUTE_MS)
    assert await site.notifying.troubles() == []
    assert site.telemetry.notifications_waiting.labels("on-call")._value.get() == 0


async def test_the_console_shows_for_each_notice_who_was_told_and_whom_it_cannot_reach(site: Site) -> None:
    site.services.pagerduty.go_away(1)
    await site.alert("firing")
    await site.deliver()
    store = PostgresStore(site.database, lambda: site.now_ms)
    detail = await store.incident(1)
    assert detail is not None
    assert [(notice.kind, [str(one) for one in notice.deliveries]) for notice in detail.notices] == [
        ("opened", []),
        ("notify", ["ops: delivered"]),
        ("escalate", ['on-call: not delivered yet (HTTP 503: {"error": "not now"})']),
    ]
    assert [(one.receiver, one.waiting, one.given_up) for one in await store.undelivered()] == [("on-call", 1, 0)]


async def test_a_defect_of_a_notifier_is_an_outage_of_it(site: Site) -> None:
    async def broken(env: Environment, receiver: object, message: Message, thread: object) -> dict[str, object]:
        raise KeyError("ts")

    notifiers = load_notifiers()
    site.notifying._notifiers = notifiers | {"slack": replace(notifiers["slack"], deliver=broken)}
    await site.alert("firing")
    await site.deliver()
    [trouble] = await site.notifying.troubles()
    assert (trouble.receiver, trouble.last_error) == ("ops", "KeyError: 'ts'")
    assert site.services.pagerduty.actions() == ["trigger"]


async def test_what_was_noted_before_there_were_deliveries_is_delivered_after_the_migration(
    bare_url: str, tmp_path: Path
) -> None:
    """A database of the version before, with a notice in it, is brought up to date."""
    before = [file for file in sorted(MIGRATIONS.glob("*.sql")) if file.name < "0004"]
    for file in before:
        shutil.copy(file, tmp_path)
    conn = await asyncpg.connect(bare_url)
    await migrate(conn, tmp_path)
    await conn.execute(
        "insert into incidents "
        "(id, runbook, group_key, status, priority, severity, title, opened_ms, updated_ms, waits, state) "
        "values (1, 'Down', 'k', 'open', 'P1', 'critical', 'down', 1, 1, 'people', '{}')"
    )
    await conn.execute(
        "insert into notices (id, incident, kind, told, priority, text, at_ms) values "
        "('a', 1, 'escalate', '{on-call}', 'P1', 'first', 1), ('b', 1, 'notify', '{}', 'P1', 'second', 2)"
    )
    assert (await migrate(conn))[0] == "0004_deliveries.sql"
    async with conn.transaction():
        found = await deliveries.unrouted(conn)
    await conn.close()
    assert [(notice.id, notice.told) for notice in found] == [("a", ["on-call"]), ("b", [])]


# Whom a notice goes to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "to", "followers", "told", "expected"),
    [
        ("opened", [], ["feed"], ["ops"], ["feed"]),
        ("opened", [], [], [], []),
        ("escalate", ["on-call"], ["feed"], ["ops"], ["on-call", "feed"]),
        ("escalate", ["feed", "on-call"], ["feed"], [], ["feed", "on-call"]),
        ("acknowledged", [], ["feed"], ["ops", "feed"], ["ops", "feed"]),
        ("resolved", [], ["feed"], ["ops"], ["ops"]),
        ("resolved", [], [], ["ops", "mail"], ["ops", "mail"]),
        ("decided", [], ["mail"], ["ops"], ["ops"]),
        ("held", ["gone"], [], [], ["gone"]),
    ],
)
def test_a_notice_goes_to_whom_it_names_and_followers_and_updates_to_those_told_before(
    kind: NoticeKind, to: list[str], followers: list[str], told: list[str], expected: list[str]
) -> None:
    kinds = dict.fromkeys(("on-call", "ops", "feed"), EVERY) | {"mail": ["escalate", "resolved"]}
    assert recipients(NoticeRow("n", 1, kind, to, 0), followers, told, kinds) == expected


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_pause_is_never_longer_than_the_longest_and_never_shorter_than_half_a_second(
    attempts: int, draw: float
) -> None:
    assert 500 <= pause_ms(attempts, draw) <= LONGEST_MS
