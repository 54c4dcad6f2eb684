"""Whom Sentinel tells, and how they answer: PagerDuty, Slack and a mail server, each as strict as the real one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.notifiers.slack import APPROVE
from tests.notifiers.stubs import (
    ROUTING_KEY,
    SLACK_SECRET,
    SLACK_TOKEN,
    Mailbox,
    PagerDutyStub,
    SlackStub,
    mail_server,
    running,
    slack_press,
)
from tests.notifiers.tls import Tls, make_tls

APPROVER = "U0ADA"
_CHANNEL = "C0OPS"


@dataclass
class People:
    """The services by which people are reached, over TLS where the real ones are."""

    tls: Tls
    pagerduty: PagerDutyStub
    slack: SlackStub
    mailbox: Mailbox

    def settings(self) -> dict[str, Any]:
        """On-call and team lead are PagerDuty, names with an @ are mail, and a Slack channel hears of everything."""
        ca_file = str(self.tls.ca_file)
        slack = {"token": SLACK_TOKEN, "signing_secret": SLACK_SECRET, "approvers": [APPROVER]}
        mail = {"host": self.mailbox.host, "port": self.mailbox.port, "sender": "sentinel@example.org", "tls": "none"}
        return {
            "receivers": {
                "on-call": {"pagerduty": {"routing_key": ROUTING_KEY}},
                "team-lead": {"pagerduty": {"routing_key": ROUTING_KEY}},
                "ops": {"slack": {"channel": _CHANNEL}, "follow": True},
            },
            "pagerduty": {"url": self.pagerduty.url, "ca_file": ca_file},
            "slack": {"url": self.slack.url, "ca_file": ca_file, **slack},
            "email": mail,
        }

    def press(self, command: str) -> tuple[bytes, dict[str, str]] | None:
        """What Slack sends when the approver presses the button under a command; None until the question is there."""
        for message in self.slack.posted:
            button = self.slack.buttons(message).get(APPROVE)
            if button is not None and json.loads(button["value"])["command"] == command:
                return slack_press(message, button, user=APPROVER, name="ada", at_s=int(time.time()))
        return None

    def in_slack(self, incident: int) -> list[str]:
        """What the channel was told of an incident, with the marks of each message."""
        told = [message for message in self.slack.posted if f"Incident {incident}:" in message["text"]]
        return [message["text"] + json.dumps(message["blocks"]) for message in told]

    def in_pagerduty(self, incident: int) -> dict[str, str]:
        """The alerts of an incident by their dedup keys, and how each stands."""
        keys = [key for key in self.pagerduty.alerts if key.removesuffix("-notify").endswith(f"-{incident}")]
        return {key: self.pagerduty.alerts[key] for key in keys}

    def in_mail(self, incident: int) -> set[str]:
        """Who got a mail about an incident."""
        mails = zip(self.mailbox.mails, self.mailbox.envelopes, strict=True)
        return {to for mail, (_, given) in mails if f"(incident {incident})" in mail["Subject"] for to in given}


@asynccontextmanager
async def reachable(folder: Path) -> AsyncIterator[People]:
    """All of them, on loopback."""
    tls = make_tls(folder)
    with mail_server() as mailbox:
        async with running(PagerDutyStub(), tls) as pagerduty, running(SlackStub(), tls) as slack:
            yield People(tls, pagerduty, slack, mailbox)
