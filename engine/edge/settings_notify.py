"""The settings of notifications: who can be told, by which service, and how Sentinel makes itself known there.

A receiver has exactly one channel, and the channel's name is that of the notifier's file in `engine/notifiers`. What
all receivers of a channel share (address, token, signing secret) stands beside `receivers`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from engine.edge.settings_base import Endpoint, HttpUrl, Positive, PositiveSeconds, Section
from engine.edge.settings_times import BusinessHours
from engine.response.hours import Hours

_ADDRESS = re.compile(r"[^@\s<>,;:\"()\[\]]+@[^@\s<>,;:\"()\[\]]+")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def is_address(text: str) -> bool:
    """Whether a receiver's name is an e-mail address."""
    return _ADDRESS.fullmatch(text) is not None


def _address(value: str) -> str:
    if value and not is_address(value):
        raise ValueError(f"{value!r} is not an e-mail address, such as ops@example.org")
    return value


Address = Annotated[str, AfterValidator(_address)]
ReceiverName = Annotated[str, StringConstraints(pattern=_NAME)]


def _one_way(section: Section, *names: str) -> None:
    for name in names:
        ways = [getattr(section, name).get_secret_value(), getattr(section, f"{name}_env")]
        if sum(map(bool, [*ways, getattr(section, f"{name}_file")])) > 1:
            raise ValueError(f"give one of {name}, {name}_env and {name}_file")


class PagerDutyReceiver(Section):
    """A PagerDuty service with an integration "Events API v2"."""

    routing_key: SecretStr = Field(default=SecretStr(""), description="The integration's key, 32 characters.")
    routing_key_env: str = Field(default="", description="Environment variable that holds it.")
    routing_key_file: Path | None = Field(default=None, description="File that holds it, read each time.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_way(self, "routing_key")
        if not (self.routing_key.get_secret_value() or self.routing_key_env or self.routing_key_file):
            raise ValueError("needs routing_key, routing_key_env or routing_key_file")
        return self


class SlackReceiver(Section):
    """A channel of the Slack workspace of `notify.slack`."""

    channel: str = Field(
        pattern=r"^[CGD][A-Z0-9]+$", description="The channel's id, such as `C0123456789` (not its name)."
    )


class EmailReceiver(Section):
    """People who get a mail through the server of `notify.email`."""

    to: list[Address] = Field(min_length=1, description="Addresses; one mail to all of them.")


class AlertmanagerReceiver(Endpoint):
    """An Alertmanager: an incident is an alert there, from its opening to its end."""

    url: HttpUrl = Field(min_length=1, description="Address; `/api/v2/alerts` is added to it.")


CHANNELS = ("pagerduty", "slack", "email", "alertmanager")


class Receiver(Section):
    """Somebody who can be told: exactly one of the channels."""

    pagerduty: PagerDutyReceiver | None = Field(default=None, description="PagerDuty.")
    slack: SlackReceiver | None = Field(default=None, description="Slack.")
    email: EmailReceiver | None = Field(default=None, description="E-mail.")
    alertmanager: AlertmanagerReceiver | None = Field(default=None, description="Alertmanager.")
    hours: BusinessHours | None = Field(
        default=None, description="When it is told of P2 and P3; left out: at any time."
    )
    follow: bool = Field(
        default=False,
        description="Told of every incident from its opening on; otherwise of those only in which a runbook names it.",
    )

    @property
    def channel(self) -> str:
        """The name of its notifier."""
        return next(name for name in CHANNELS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_channel(self) -> Self:
        channels = [name for name in CHANNELS if getattr(self, name) is not None]
        if len(channels) != 1:
            raise ValueError(f"a receiver has exactly one channel, this one has {len(channels)}")
        return self


class PagerDutySettings(Section):
    """What all PagerDuty receivers share. With a webhook secret, `/hooks/pagerduty` takes acknowledgements."""

    url: HttpUrl = Field(default="https://events.pagerduty.com", description="Address of the Events API.")
    ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust; empty: the system's.")
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of the webhook subscription (v3) that sends to `/hooks/pagerduty`."
    )
    webhook_secret_env: str = Field(default="", description="Environment variable that holds it.")
    webhook_secret_file: Path | None = Field(default=None, description="File that holds it, read each time.")

    @property
    def has_webhook_secret(self) -> bool:
        """Whether webhooks can be taken."""
        return bool(self.webhook_secret.get_secret_value() or self.webhook_secret_env or self.webhook_secret_file)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_way(self, "webhook_secret")
        return self


class SlackSettings(Section):
    """The Slack app. With a signing secret, `/hooks/slack` takes its buttons; set that as its interactivity URL."""

    url: HttpUrl = Field(default="https://slack.com/api/", description="Address of the Web API.")
    ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust; empty: the system's.")
    token: SecretStr = Field(default=SecretStr(""), description="The app's bot token; it needs the scope `chat:write`.")
    token_env: str = Field(default="", description="Environment variable that holds it.")
    token_file: Path | None = Field(default=None, description="File that holds it, read each time.")
    signing_secret: SecretStr = Field(default=SecretStr(""), description="The app's signing secret.")
    signing_secret_env: str = Field(default="", description="Environment variable that holds it.")
    signing_secret_file: Path | None = Field(default=None, description="File that holds it, read each time.")
    approvers: list[Annotated[str, StringConstraints(pattern=r"^[UW][A-Z0-9]+$")]] = Field(
        default=[], description="Ids of the Slack users (`U0123456789`) who may approve and deny; empty: nobody."
    )

    @property
    def has_token(self) -> bool:
        """Whether messages can be sent."""
        return bool(self.token.get_secret_value() or self.token_env or self.token_file)

    @property
    def has_signing_secret(self) -> bool:
        """Whether buttons can be taken."""
        return bool(self.signing_secret.get_secret_value() or self.signing_secret_env or self.signing_secret_file)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_way(self, "token", "signing_secret")
        return self


class EmailSettings(Section):
    """The mail server. With it, a runbook may also name an e-mail address where it names a receiver."""

    host: str = Field(default="", description="Name of the server; empty: no mail is sent.")
    port: Positive = Field(default=587, description="Its port.")
    sender: Address = Field(default="", description="Address in `From`.")
    tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="`starttls` is required where set; `tls`: from the first byte; `none`."
    )
    ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust; empty: the system's.")
    username: str = Field(default="", description="User; empty: without authentication.")
    password: SecretStr = Field(default=SecretStr(""), description="Its password.")
    password_env: str = Field(default="", description="Environment variable that holds it.")
    password_file: Path | None = Field(default=None, description="File that holds it, read each time.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_way(self, "password")
        if self.host and not self.sender:
            raise ValueError("needs a sender beside the host")
        if self.username and self.tls == "none":
            raise ValueError("a password is not sent over a connection without tls")
        return self


class NotifySettings(Section):
    """Who is told of incidents. Nobody unless configured: notices then stay in the database and the console."""

    receivers: dict[ReceiverName, Receiver] = Field(
        default={}, description="Receivers by the name that runbooks give them (`to` in `escalation` and in steps)."
    )
    pagerduty: PagerDutySettings = Field(default=PagerDutySettings(), description="PagerDuty.")
    slack: SlackSettings = Field(default=SlackSettings(), description="Slack.")
    email: EmailSettings = Field(default=EmailSettings(), description="E-mail.")
    timeout_s: PositiveSeconds = Field(default=10, description="Longest time that one attempt may take.")
    give_up_after_s: PositiveSeconds = Field(
        default=900, description="A call to people that could not be delivered by then goes to the next level instead."
    )
    updates_give_up_after_s: PositiveSeconds = Field(
        default=86_400, description="The same for what only keeps people up to date; older notices are not sent at all."
    )

    @property
    def is_configured(self) -> bool:
        """Whether anybody can be told."""
        return bool(self.receivers or self.email.host)

    def hours(self) -> dict[str, Hours]:
        """The hours of the receivers that have any, by name."""
        found = {name: receiver.hours for name, receiver in self.receivers.items()}
        return {name: hours.hours() for name, hours in found.items() if hours is not None}

    def knows(self, name: str) -> bool:
        """Whether a name in a runbook's `to` is somebody who can be told."""
        return name in self.receivers or (is_address(name) and bool(self.email.host))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, receiver in self.receivers.items():
            if receiver.email is not None and not self.email.host:
                raise ValueError(f"receiver {name} needs email.host")
            if receiver.slack is not None and not self.slack.has_token:
                raise ValueError(f"receiver {name} needs slack.token, token_env or token_file")
        return self
