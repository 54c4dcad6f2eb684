"""Notices of P2 and P3 wait in the outbox until their receiver's hours begin; what is or becomes urgent does not.

```
 Fri 18:00                                   Mon 09:00
   opened, escalate(lead)  ─ held ───────────▶ delivered, in order
                              └ the priority rises to P1: at once
```
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

import pytest_asyncio

from engine.edge.console_store import PostgresStore
from engine.edge.database import Database
from tests.notifiers.site import CHANNELS, LABELS, MINUTE_MS, Services, Site
from tests.response.conftest import alert

HOUR_MS = 3_600_000
BOOK = """\
runbooks:
  - name: Down
    match: ['alertname="Down"']
    priority: {critical: P1, default: P2}
    group_by: [namespace]
    escalation: {P1: [{to: on-call}, {to: lead, after: 1h}], default: [{to: lead}, {to: on-call, after: 4h}]}
    summary: "{{ labels.service }} is slow"
    steps:
      - {name: people, escalate: {text: "needs a person"}}
"""
OFFICE = {"start": "09:00", "end": "17:00", "timezone": "Europe/Berlin"}


def berlin(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)


FRIDAY, MONDAY = berlin("2027-01-22 18:00"), berlin("2027-01-25 09:00")


@pytest_asyncio.fixture
async def office(database: Database, services: Services) -> AsyncIterator[Site]:
    """The lead can be told in office hours; it is Friday evening."""
    receivers = {"on-call": CHANNELS["on-call"], "lead": CHANNELS["lead"] | {"hours": OFFICE}}
    yield Site(database, services, services.settings(receivers=receivers), now_ms=FRIDAY, runbooks=BOOK)


async def fires(site: Site, severity: str) -> None:
    await site.responder.on_transition(alert("firing", site.now_ms, LABELS | {"severity": severity}))
    await site.deliver()


def mails(site: Site) -> list[str]:
    return [mail["Subject"] for mail in site.services.mailbox.mails]


async def test_a_notice_waits_for_the_hours_and_says_until_when(office: Site) -> None:
    await fires(office, "warning")
    assert mails(office) == []
    detail = await PostgresStore(office.database, lambda: office.now_ms).incident(1)
    assert detail is not None
    assert [str(one) for notice in detail.notices for one in notice.deliveries] == [
        "lead: waits for its hours, until 2027-01-25 08:00:00 UTC"
    ]
    assert await office.notifying.troubles() == []  # nothing is wrong with it
    office.now_ms = MONDAY - 1
    await office.deliver()
    assert mails(office) == []
    office.now_ms = MONDAY
    await office.deliver()
    assert mails(office) == ["[P2] escalated: bridge is slow (incident 1)"]
    [row] = await office.rows("select state, attempts from deliveries")
    assert tuple(row) == ("delivered", 1)


async def test_an_urgent_notice_does_not_wait(office: Site) -> None:
    await fires(office, "critical")
    assert office.services.pagerduty.actions() == ["trigger"]
    await office.after(HOUR_MS)
    assert mails(office) == ["[P1] escalated: bridge is slow (incident 1)"]


async def test_what_waits_is_delivered_once_the_priority_has_risen(office: Site) -> None:
    await fires(office, "warning")
    await office.after(2 * HOUR_MS)
    assert (mails(office), office.services.pagerduty.events) == ([], [])
    await fires(office, "critical")
    assert office.services.pagerduty.actions()[0] == "trigger"
    assert mails(office)[:2] == [  # what she had not heard of first, then that it is urgent, and two hours old
        "[P1] escalated: bridge is slow (incident 1)",
        "[P1] escalated: bridge is slow (incident 1)",
    ]
    bodies = [mail.get_content() for mail in office.services.mailbox.mails]
    assert "needs a person" in bodies[0]
    assert "priority raised from P2 to P1" in bodies[1]


async def test_the_next_level_is_told_when_four_of_the_hours_have_gone_by(office: Site) -> None:
    office.now_ms = berlin("2027-01-22 16:00")
    await fires(office, "warning")
    assert len(mails(office)) == 1
    office.now_ms = MONDAY + 3 * HOUR_MS - 1
    await office.after(0)
    assert office.services.pagerduty.events == []
    await office.after(1)
    assert office.services.pagerduty.actions() == ["trigger"]


async def test_an_outage_is_given_up_only_after_its_time_within_the_hours(office: Site) -> None:
    await fires(office, "warning")
    office.settings = office.settings.model_copy(update={"email": office.settings.email.model_copy(update={"port": 1})})
    office.notifying = office.notifier()
    office.now_ms = MONDAY
    await office.deliver()
    [row] = await office.rows("select state, last_error from deliveries")
    assert row["state"] == "waiting"
    assert row["last_error"]
    await office.after(16 * MINUTE_MS)
    [row] = await office.rows("select state from deliveries where receiver = 'lead'")
    assert row["state"] == "given_up"


async def test_what_was_not_taken_up_within_the_hours_waits_for_the_next(office: Site) -> None:
    office.now_ms = FRIDAY - 2 * HOUR_MS
    await office.responder.on_transition(alert("firing", office.now_ms, LABELS | {"severity": "warning"}))
    office.now_ms = FRIDAY  # the notifier was down
    await office.deliver()
    assert mails(office) == []
    office.now_ms = MONDAY
    await office.deliver()
    assert len(mails(office)) == 1
