"""Each notifier against what its service documents, with whatever a label or a text may hold."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.edge.settings_notify import EmailReceiver, NotifySettings
from engine.notifiers import Environment, Held, IncidentNow, Message, NotDeliveredError, Sent
from engine.notifiers import alertmanager as alertmanager_notifier
from engine.notifiers import email as email_notifier
from engine.notifiers import pagerduty as pagerduty_notifier
from engine.notifiers import slack as slack_notifier
from engine.response.model import NoticeKind
from tests.notifiers import schemas
from tests.notifiers.site import Services
from tests.notifiers.stubs import ROUTING_KEY, mail_server
from tests.notifiers.tls import Tls
from tests.response.conftest import START_MS

KINDS: tuple[NoticeKind, ...] = ("opened", "notify", "escalate", "held", "decided", "acknowledged", "resolved")
INCIDENT = IncidentNow(
    id=7,
    title="bridge is down",
    status="open",
    priority="P1",
    severity="critical",
    runbook="Down",
    labels={"alertname": "Down", "service": "bridge", "namespace": "aureus"},
    opened_ms=START_MS,
    url="https://sentinel.example.org/incidents/7",
)
HELD = Held("c1", "ab" * 32, 'http.request on http:openclaw\n{"path":"/block"}', START_MS + 900_000, True)
RECEIVER = EmailReceiver(to=["lead@example.org", "boss@example.org"])


def message(kind: NoticeKind = "escalate", text: str = "needs a person", **changes: Any) -> Message:
    given_ = {"incident": INCIDENT, "held": HELD if kind in ("held", "decided") else None} | changes
    return Message(f"7-{kind}", kind, text, START_MS, **given_)


texts = st.text(max_size=5_000)
labels = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=200), max_size=5)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    incident = IncidentNow(
        id=draw(st.integers(1, 10**9)),
        title=draw(texts),
        status="open",
        priority=draw(st.sampled_from(["P0", "P1", "P2", "P3"])),
        severity=draw(st.sampled_from(["critical", "page", ""])),
        runbook=draw(st.text(min_size=1, max_size=50)),
        labels=draw(labels),
        opened_ms=START_MS,
        url=draw(st.sampled_from(["", "https://sentinel.example.org/incidents/7"])),
    )
    kind = draw(st.sampled_from(KINDS))
    held = Held("c1", "ab" * 32, draw(texts.filter(bool)), START_MS, draw(st.booleans())) if kind == "held" else None
    return Message("n1", kind, draw(st.text(min_size=1, max_size=5_000)), START_MS, incident, held)


# PagerDuty


@given(messages())
def test_every_event_is_one_that_pagerduty_takes(sent: Message) -> None:
    assert schemas.pagerduty_event(pagerduty_notifier.trigger(sent) | {"routing_key": ROUTING_KEY}) == []


async def page(services: Services, *sent: Message) -> list[tuple[str, str, str]]:
    """Deliver messages to PagerDuty one after the other; (action, key after the incident's, severity) of each event."""
    settings, thread = services.settings("on-call"), list[Sent]()
    receiver = settings.receivers["on-call"].pagerduty
    assert receiver is not None
    for one in sent:
        receipt = await pagerduty_notifier.deliver(Environment(settings, lambda: START_MS, {}), receiver, one, thread)
        thread.append(Sent(one.kind, "", receipt))
    found = []
    for event in services.pagerduty.events:
        key = str(event["dedup_key"])
        assert key.startswith(message().key)
        severity = event.get("payload", {}).get("severity", "")
        found.append((event["event_action"], key.removeprefix(message().key), severity))
    return found


async def test_the_calls_of_an_incident_are_one_alert_and_what_only_tells_is_one_beside_it(services: Services) -> None:
    kinds: list[NoticeKind] = ["opened", "notify", "escalate", "held", "acknowledged", "resolved"]
    assert await page(services, *map(message, kinds)) == [
        ("trigger", "", "critical"),
        ("trigger", "-notify", "info"),
        ("trigger", "", "critical"),
        ("trigger", "", "critical"),
        ("acknowledge", "", ""),
        ("acknowledge", "-notify", ""),
        ("resolve", "", ""),
        ("resolve", "-notify", ""),
    ]
    assert set(services.pagerduty.alerts.values()) == {"resolved"}


async def test_an_end_is_told_even_if_nothing_is_known_of_its_beginning(services: Services) -> None:
    assert await page(services, message("resolved")) == [("resolve", "", "")]


@pytest.mark.parametrize("status", ["resolved", "closed"])
async def test_nobody_is_called_for_an_incident_that_is_over(services: Services, status: str) -> None:
    assert await page(services, message(incident=replace(INCIDENT, status=status))) == []


@pytest.mark.parametrize(
    ("priority", "severity", "expected"),
    [
        ("P3", "critical", "critical"),
        ("P0", "warning", "warning"),
        ("P0", "page", "critical"),
        ("P1", "", "error"),
        ("P2", "", "warning"),
        ("P3", "none", "info"),
    ],
)
def test_a_severity_that_pagerduty_does_not_know_is_given_by_the_priority(
    priority: str, severity: str, expected: str
) -> None:
    incident = IncidentNow(1, "t", "open", priority, severity, "r", {}, START_MS)
    assert pagerduty_notifier.trigger(message(incident=incident))["payload"]["severity"] == expected


# Slack


@given(messages(), st.booleans())
def test_every_message_is_one_that_slack_takes(sent: Message, is_first: bool) -> None:
    assert schemas.slack_message(slack_notifier.content(sent, is_first=is_first)) == []


def test_a_label_cannot_mention_a_channel_or_make_a_link() -> None:
    content = slack_notifier.content(message(text="<!channel> & <https://evil.example|here>"), is_first=False)
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|here&gt;" in content["text"]
    assert "<!" not in str(content["blocks"])


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (Held("c1", "ab" * 32, "x" * 3_001, START_MS, True), "too long to be shown here whole"),
        (Held("c1", "ab" * 32, "x", START_MS, False), "no longer to be decided"),
    ],
    ids=["too long", "over"],
)
def test_what_is_not_shown_whole_or_is_over_has_no_buttons(held: Held, said: str) -> None:
    content = slack_notifier.content(message("held", held=held), is_first=False)
    assert [block["type"] for block in content["blocks"]] == ["section", "section"]
    assert said in content["blocks"][1]["text"]["text"]


# E-mail


@given(messages())
def test_a_mail_can_always_be_written_and_its_headers_are_only_ours(sent: Message) -> None:
    mail = email_notifier.compose(RECEIVER.to, "s@example.org", sent, [])
    read = message_from_bytes(mail.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert {name.lower() for name in read} <= {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type",
        "content-transfer-encoding",
    }  # fmt: skip
    assert read["To"] == "lead@example.org, boss@example.org"


def test_a_label_with_a_line_break_adds_no_header() -> None:
    incident = IncidentNow(7, "down\r\nBcc: eve@example.org", "open", "P1", "", "r", {}, START_MS)
    mail = email_notifier.compose(RECEIVER.to, "s@example.org", message(incident=incident), [])
    assert mail["Subject"] == "[P1] escalated: down Bcc: eve@example.org (incident 7)"
    assert mail["Bcc"] is None


def test_mails_of_one_incident_are_one_thread_and_the_same_notice_is_the_same_mail() -> None:
    first = email_notifier.compose(RECEIVER.to, "s@example.org", message(), [])
    again = email_notifier.compose(RECEIVER.to, "s@example.org", message(), [])
    thread = [Sent("escalate", "", {"message_id": str(first["Message-ID"])})]
    reply = email_notifier.compose(RECEIVER.to, "s@example.org", message("resolved"), thread)
    assert first["Message-ID"] == again["Message-ID"] != reply["Message-ID"]
    assert reply["In-Reply-To"] == reply["References"] == first["Message-ID"]


def test_a_mail_about_a_held_command_says_all_of_it_and_how_to_decide() -> None:
    text = email_notifier.compose(RECEIVER.to, "s@example.org", message("held"), []).get_content()
    assert HELD.what in text
    assert f"sentinel approve c1 --by NAME --sha256 {HELD.sha256[:12]}" in text


def settings_of(port: int, **email: Any) -> NotifySettings:
    given_ = {"host": "localhost", "port": port, "sender": "s@example.org", **email}
    return NotifySettings.model_validate({"email": given_, "timeout_s": 5})


async def mail(settings: NotifySettings, environ: dict[str, str] | None = None) -> dict[str, Any]:
    env = Environment(settings, lambda: START_MS, environ or {})
    return await email_notifier.deliver(env, RECEIVER, message(), [])


async def test_a_mail_goes_encrypted_and_with_a_password_from_the_environment(tls: Tls) -> None:
    with mail_server(tls=tls, login=("sentinel", "s3cret")) as mailbox:
        settings = settings_of(mailbox.port, ca_file=str(tls.ca_file), username="sentinel", password_env="MAIL_PW")
        receipt = await mail(settings, {"MAIL_PW": "s3cret"})
    assert (mailbox.was_encrypted, mailbox.users) == ([True], ["sentinel"])
    assert mailbox.envelopes == [("s@example.org", ["lead@example.org", "boss@example.org"])]
    assert receipt["message_id"] == mailbox.mails[0]["Message-ID"]


async def test_a_server_that_cannot_encrypt_gets_no_mail(tls: Tls) -> None:
    with mail_server() as mailbox:
        with pytest.raises(NotDeliveredError, match="STARTTLS") as caught:
            await mail(settings_of(mailbox.port, ca_file=str(tls.ca_file)))
        assert (caught.value.final, mailbox.mails) == (False, [])


async def test_a_server_of_another_authority_gets_no_mail(tls: Tls) -> None:
    with mail_server(tls=tls) as mailbox:
        with pytest.raises(NotDeliveredError, match="certificate"):
            await mail(settings_of(mailbox.port))
        assert mailbox.mails == []


async def test_a_wrong_password_is_final_and_never_quoted(tls: Tls) -> None:
    with mail_server(tls=tls, login=("sentinel", "s3cret")) as mailbox:
        settings = settings_of(mailbox.port, ca_file=str(tls.ca_file), username="sentinel", password="guessed")
        with pytest.raises(NotDeliveredError, match="535") as caught:
            await mail(settings)
    assert caught.value.final
    assert "guessed" not in str(caught.value)


@pytest.mark.parametrize(("answer", "final"), [("451 try again", False), ("550 no such user", True)])
async def test_a_server_says_whether_it_may_take_the_mail_later(answer: str, final: bool) -> None:
    with mail_server() as mailbox:
        mailbox.refuse = [answer]
        with pytest.raises(NotDeliveredError, match=answer[:3]) as caught:
            await mail(settings_of(mailbox.port, tls="none"))
    assert caught.value.final is final


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"password_env": "NOT_SET"}, "password_env names NOT_SET"),
        ({"password_file": "/nowhere/password"}, "password_file cannot be read"),
        ({"password": "x", "ca_file": "/nowhere/ca.pem"}, "ca_file /nowhere/ca.pem cannot be used"),
    ],
)
async def test_a_secret_or_file_that_is_not_there_is_waited_for(settings: dict[str, str], said: str) -> None:
    with pytest.raises(NotDeliveredError, match=said) as caught:
        await mail(settings_of(1, username="sentinel", **settings))
    assert not caught.value.final


async def test_a_secret_in_a_file_is_read_each_time(tmp_path: Path, tls: Tls) -> None:
    file = tmp_path / "password"
    with mail_server(tls=tls, login=("sentinel", "new")) as mailbox:
        settings = settings_of(mailbox.port, ca_file=str(tls.ca_file), username="sentinel", password_file=str(file))
        file.write_text("old\n")
        with pytest.raises(NotDeliveredError):
            await mail(settings)
        file.write_text("new\n")
        await mail(settings)
    assert len(mailbox.mails) == 1


# Alertmanager


@given(messages())
def test_every_alert_is_one_that_an_alertmanager_takes(sent: Message) -> None:
    assert schemas.alertmanager_alerts([alertmanager_notifier.alert(sent, START_MS)]) == []


def test_an_incident_that_is_over_is_no_alert_whatever_was_still_to_be_said() -> None:
    late = alertmanager_notifier.alert(message(incident=replace(INCIDENT, status="resolved")), START_MS + 60_000)
    assert late["endsAt"] == "2027-01-15T08:01:00.000+00:00"


def test_an_incident_is_one_alert_from_its_opening_to_its_end() -> None:
    firing = alertmanager_notifier.alert(message(), START_MS + 60_000)
    ended = alertmanager_notifier.alert(message("resolved"), START_MS + 60_000)
    assert (
        firing["labels"]
        == ended["labels"]
        == {
            "alertname": "SentinelIncident",
            "alert": "Down",
            "incident": "7",
            "runbook": "Down",
            "service": "bridge",
            "namespace": "aureus",
        }
    )
    assert (firing["startsAt"], firing["endsAt"]) == ("2027-01-15T08:00:00.000+00:00", "2027-01-15T08:05:00.000+00:00")
    assert ended["endsAt"] == "2027-01-15T08:00:00.000+00:00"
