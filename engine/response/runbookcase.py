"""What a case of a runbook's unit tests is made of, as its file has it; see `response.runbooktest`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from engine.core import duration
from engine.core.labels import parse_matcher
from engine.core.messages import OutcomeStatus
from engine.response.guardrails import ModeRule, PastStatus
from engine.response.silences import Silence, SilenceKind, checked

NEVER_MS = 4_000_000_000_000
"""After every case: the end of a silence that none is given."""


class GivenAlert(Struct, frozen=True, forbid_unknown_fields=True):
    """The alert that fires."""

    labels: dict[str, str]
    value: str = "1"
    annotations: dict[str, str] = {}
    window: str = "1m"


class GivenPast(Struct, frozen=True, forbid_unknown_fields=True):
    """A command that was sent `ago`."""

    action: str
    target: str
    ago: str
    status: PastStatus = "succeeded"
    runbook: str = ""
    step: str = ""


class GivenOutcome(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of a command."""

    status: OutcomeStatus
    reason: str = ""
    detail: dict[str, Any] = {}


class GivenEvidence(Struct, frozen=True, forbid_unknown_fields=True):
    """What an investigation finds; with an `error` it finds nothing out."""

    rows: list[dict[str, Any]] = []
    status: int | None = None
    body: Any = None
    error: str = ""


class ExpectedCommand(Struct, frozen=True, forbid_unknown_fields=True):
    """A command that must be sent; what is not given is not compared."""

    step: str
    action: str | None = None
    target: str | None = None
    params: dict[str, Any] | None = None


class GivenSilence(Struct, frozen=True, forbid_unknown_fields=True):
    """A silence that is in force when the alert fires; without `ends` it outlasts the case."""

    match: list[str]
    ends: str = ""
    kind: SilenceKind = "silence"

    def silence(self, number: int, now_ms: int) -> Silence:
        """The silence itself. Raises `ValueError`."""
        ends_ms = now_ms + duration.parse_ms(self.ends) if self.ends else NEVER_MS
        matchers = tuple(parse_matcher(text) for text in self.match)
        return checked(Silence(f"s{number}", matchers, now_ms, ends_ms, "somebody", "given by the case", self.kind))


class Expected(Struct, frozen=True, forbid_unknown_fields=True):
    """How the case must go; what is not given is not compared (but no command is expected unless given)."""

    steps: list[str] | None = None
    commands: list[ExpectedCommand] = []
    asked: list[str] | None = None
    observed: list[str] | None = None
    refused: str | None = None
    escalated: str | None = None
    status: Literal["open", "resolved", "closed"] | None = None
    resolution: str | None = None
    priority: str | None = None
    told: list[str] | None = None
    cause: str | None = None


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """One case, as the file has it. `also_firing`: so many other things begin to fail at the same time."""

    name: str
    alert: GivenAlert
    expect: Expected
    runbook: str = ""
    modes: list[ModeRule] = []
    paused: bool = False
    history: list[GivenPast] = []
    also_firing: int = 0
    silences: list[GivenSilence] = []
    evidence: dict[str, list[dict[str, Any]] | GivenEvidence] = {}
    unanswered: str = ""
    approvals: dict[str, Literal["approved", "denied", "none"]] = {}
    outcomes: dict[str, GivenOutcome | OutcomeStatus | Literal["none"]] = {}
    alert_is: dict[str, Literal["cleared", "firing", "no_data"]] = {}
