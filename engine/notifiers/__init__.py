"""How people are told: one file per notifier, and this folder is the registry.

A notifier's file has a constant `NOTIFIER` that declares its name (the channel of a receiver in the settings), the
kinds of notices it has a use for, and one function:

- `deliver(env, receiver, message, thread)`: tell this receiver now, once, and give a receipt: plain data that is kept,
  and shown to later deliveries of the same incident to the same receiver as their `thread`.

A notice may be delivered twice (a crash after sending, an answer that was lost), so each carries what makes twice
harmless: a dedup key, a Message-ID, labels. What cannot be delivered raises `NotDeliveredError`; when it is tried
again is `engine.edge.notifying`'s business. What several notifiers share stands in modules whose names begin with `_`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from engine.core.registry import declared_in
from engine.edge.http_access import CredentialsError, read_secret
from engine.edge.settings_base import Section
from engine.edge.settings_notify import NotifySettings
from engine.response.model import NoticeKind

__all__ = [
    "CALLS",
    "Environment",
    "Held",
    "IncidentNow",
    "Message",
    "NotDeliveredError",
    "Notifier",
    "Sent",
    "load_notifiers",
]

CALLS: frozenset[NoticeKind] = frozenset({"notify", "escalate", "held"})
"""The kinds of notices by which somebody is called; the others keep people up to date."""

_NAME = r"[a-z]+"


class NotDeliveredError(Exception):
    """It could not be delivered. `final`: it never will be; `asked_ms`: how long the service wants to be left alone."""

    def __init__(self, reason: str, *, final: bool = False, asked_ms: int = 0) -> None:
        super().__init__(reason)
        self.final = final
        self.asked_ms = asked_ms


@dataclass(frozen=True)
class Environment:
    """What a notifier may use: its settings, the variables that hold secrets, and the time."""

    settings: NotifySettings
    now_ms: Callable[[], int]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def secret(self, section: Section, name: str) -> str:
        """The secret `name` of a section, by its value, variable or file, read each time; "" if none."""
        given = (getattr(section, name), getattr(section, f"{name}_env"), getattr(section, f"{name}_file"))
        try:
            return read_secret(name, given, self.environ)
        except CredentialsError as error:
            raise NotDeliveredError(str(error)) from error


class Held(Struct, frozen=True):
    """A command that `people` may decide about. `what` is all of it, in words; `sha256` names its exact text."""

    command: str
    sha256: str
    what: str
    expires_ms: int
    is_open: bool
    people: int = 1


class IncidentNow(Struct, frozen=True):
    """The incident as it is when the message is sent. `url` is its page on the console, "" where that is not known."""

    id: int
    title: str
    status: str
    priority: str
    severity: str
    runbook: str
    labels: dict[str, str]
    opened_ms: int
    url: str = ""


class Message(Struct, frozen=True):
    """A notice with what a receiver has to know of its incident. `id` is the notice's; `at_ms` when it was written."""

    id: str
    kind: NoticeKind
    text: str
    at_ms: int
    incident: IncidentNow
    held: Held | None = None

    @property
    def key(self) -> str:
        """What all messages of one incident have in common, in this installation and no other."""
        return f"sentinel-{self.incident.opened_ms}-{self.incident.id}"


class Sent(Struct, frozen=True):
    """An earlier delivery of the incident to the same receiver."""

    kind: NoticeKind
    command: str
    receipt: dict[str, Any]


Deliver = Callable[[Environment, Any, Message, Sequence[Sent]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Notifier:
    """One notifier; see the module. `receiver` is the type of a receiver's settings.

    `repeat_ms`: a call is delivered again so often while its incident is open, for services that forget.
    """

    name: str
    receiver: type[Section]
    kinds: frozenset[NoticeKind]
    deliver: Deliver
    repeat_ms: int | None = None


def load_notifiers() -> dict[str, Notifier]:
    """Every notifier of this folder by name. Raises `TypeError` for a file that declares none or a bad one."""
    return declared_in(__name__, __path__, "NOTIFIER", Notifier, (_NAME, "lower case letters"))
