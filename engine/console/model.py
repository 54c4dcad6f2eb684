"""What people are shown: plain data that the console pages, the JSON API and the command line share.

`Store` is everything they ask of the database; `console.store` answers it from PostgreSQL. Times are event or wall
times in milliseconds since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from msgspec import Struct

from engine.console.accounts import AccountStore
from engine.console.silences import SilenceStore
from engine.response.words import clock


class Incident(Struct, frozen=True):
    """One incident in a list. `closed_ms` is 0 while it is open."""

    id: int
    title: str
    state: str
    priority: str
    severity: str
    rule: str
    labels: dict[str, str]
    opened_ms: int
    closed_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Whether somebody or something still has to act on it."""
        return self.closed_ms == 0


class TimelineEntry(Struct, frozen=True):
    """Something that happened in an incident."""

    at_ms: int
    kind: str
    text: str


class Evidence(Struct, frozen=True):
    """The answer to one question of an investigation, as a table; `note` says what there is beside rows."""

    name: str
    at_ms: int
    question: str = ""
    columns: list[str] = []
    rows: list[list[str]] = []
    note: str = ""


class CommandView(Struct, frozen=True):
    """A command and what became of it. `status` is an outcome, or how far it has got."""

    id: str
    step: str
    action: str
    target: str
    params: dict[str, object]
    status: str
    reason: str
    issued_ms: int
    finished_ms: int = 0


class Approval(Struct, frozen=True):
    """A command that waits for `people` to agree; `yes_by` have. A decision names the hash of its exact bytes.

    `state` is waiting, approved or denied.
    """

    command: str
    incident: int
    action: str
    target: str
    params: dict[str, object]
    body_sha256: str
    requested_ms: int
    expires_ms: int
    question: str = ""
    people: int = 1
    yes_by: list[str] = []
    state: str = "waiting"

    @property
    def so_far(self) -> str:
        """How many of two have agreed, and who; "" where one is enough."""
        named = f" ({', '.join(self.yes_by)})" if self.yes_by else ""
        return f"{len(self.yes_by)} of {self.people} have agreed{named}" if self.people > 1 else ""

    @property
    def short_hash(self) -> str:
        """Enough of the hash to tell commands apart by eye."""
        return self.body_sha256[:12]


class DeliveryView(Struct, frozen=True):
    """How far a receiver was told of a notice. `done_ms`: when it was delivered, or given up; `held_until_ms`: when its
    hours begin.
    """

    receiver: str
    state: str
    attempts: int
    done_ms: int | None = None
    last_error: str = ""
    held_until_ms: int | None = None

    def __str__(self) -> str:
        if self.state in ("delivered", "standing"):
            return f"{self.receiver}: delivered"
        if self.state == "waiting" and self.held_until_ms is not None and not self.last_error:
            return f"{self.receiver}: waits for its hours, until {clock(self.held_until_ms)}"
        why = f" ({self.last_error})" if self.last_error else ""
        return f"{self.receiver}: {'given up' if self.state == 'given_up' else 'not delivered yet'}{why}"


class NoticeView(Struct, frozen=True):
    """A notification or escalation, whom it names, and who was told of it."""

    at_ms: int
    kind: str
    priority: str
    told: list[str]
    text: str
    deliveries: list[DeliveryView] = []


class UndeliveredView(Struct, frozen=True):
    """A receiver that cannot be told: how much waits since when, how much was given up, and the last reason."""

    receiver: str
    waiting: int
    given_up: int
    since_ms: int
    last_error: str


class JoinedAlert(Struct, frozen=True):
    """An alert that an incident explains or that was merged into it, and how it stands."""

    name: str
    standing: str
    labels: dict[str, str]
    fired_ms: int


class UnderWay(Struct, frozen=True):
    """A command that an executor has taken and that has no outcome yet. `lapsed`: its executor may be gone."""

    command: str
    incident: int
    action: str
    target: str
    executor: str
    since_ms: int
    lapsed: bool


OperatorKind = Literal["acknowledge", "close", "note", "merge", "reopen"]


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says about an incident: a closing, note or reopening needs a text, a merging `into` which one."""

    by: str
    text: str = ""
    into: int | None = None


class IncidentDetail(Struct, frozen=True):
    """Everything on the page of one incident. `waits_until_ms`: when that wait ends, None if it has no end."""

    incident: Incident
    timeline: list[TimelineEntry]
    evidence: list[Evidence]
    commands: list[CommandView]
    approvals: list[Approval]
    notices: list[NoticeView] = []
    acknowledged_by: str = ""
    acknowledged_ms: int | None = None
    waits_for: str = ""
    waits_until_ms: int | None = None
    joined: list[JoinedAlert] = []
    merged_into: int | None = None


class Pause(Struct, frozen=True):
    """The global switch: while paused, nothing is commanded and nothing is run."""

    paused: bool
    by: str = ""
    since_ms: int = 0


class AlertNow(Struct, frozen=True):
    """An alert that is pending or firing at this moment."""

    alertname: str
    state: str
    severity: str
    labels: dict[str, str]
    value: str
    active_since_ms: int


AlertsNow = Callable[[], Awaitable[list[AlertNow]]]


class Decision(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person decided about one exact command."""

    approve: bool
    by: str
    body_sha256: str
    reason: str = ""


class DecisionRefusedError(Exception):
    """A decision that does not count, in words: expired, already decided, another command, unknown."""


class OperatorRefusedError(Exception):
    """What a person said about an incident and what does not count, in words."""


class Store(SilenceStore, AccountStore, Protocol):
    """What the console and the command line ask of the database."""

    async def incidents(self, *, open_only: bool, limit: int) -> list[Incident]:
        """Incidents, newest first."""
        ...

    async def incident(self, number: int) -> IncidentDetail | None:
        """One incident whole, None if there is no such number."""
        ...

    async def report(self, number: int) -> str | None:
        """The incident report in Markdown, None if there is no such number."""
        ...

    async def report_page(self, number: int) -> str | None:
        """The incident report as a page by itself, None if there is no such number."""
        ...

    async def approvals(self) -> list[Approval]:
        """Commands that wait for a person, oldest first."""
        ...

    async def decide(self, command: str, decision: Decision, now_ms: int) -> Approval:
        """Take a decision; what it was about, as it stands then. Raises `DecisionRefusedError`."""
        ...

    async def operator(self, number: int, kind: OperatorKind, said: Said, now_ms: int) -> None:
        """Hand what a person says about an incident to the responder; raises `OperatorRefusedError`."""
        ...

    async def undelivered(self) -> list[UndeliveredView]:
        """The receivers that cannot be told of something, for now or at all."""
        ...

    async def pause(self) -> Pause:
        """Whether everything is paused, and by whom."""
        ...

    async def set_pause(self, *, paused: bool, by: str, now_ms: int) -> None:
        """Pause or resume everything."""
        ...
