"""The words of response: an incident's state, what can happen to it, and what it asks for.

Everything here is plain data that can be stored as JSON. `IncidentState` says what the incident waits for and holds
the very effect it waits on, so that after a crash it can be asked again; ids make asking twice harmless.

The next module in the flow is `response.incident`, the state machine over these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from engine.core.messages import Command, Outcome, OutcomeStatus, Transition
from engine.response.guardrails import Past, Policy
from engine.response.hours import Hours
from engine.response.silences import Mutes
from engine.response.steps import Actions, Priority, Read, Runbook
from engine.response.storm import Firing

NO_OUTCOME = "no outcome came"

AlertStanding = Literal["firing", "cleared", "no_data", "rule_removed", "handed_over"]
NoticeKind = Literal["opened", "notify", "escalate", "held", "decided", "acknowledged", "resolved"]
Waiting = Literal[
    "nothing", "evidence", "approval", "outcome", "wait", "verify", "settle", "clear", "people", "muted", "calm"
]


class AlertSeen(Struct, frozen=True):
    """How one alert of an incident stands. `at_ms` is the event time of its last transition, named by `transition`."""

    fingerprint: str
    alertname: str
    rule: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: str
    standing: AlertStanding
    fired_ms: int
    at_ms: int
    window_ms: int
    transition: str
    received_ms: int = 0

    @property
    def severity(self) -> str:
        """The alert's severity label."""
        return self.labels.get("severity", "")


class Evidence(Struct, frozen=True):
    """What an investigation found. Not `ok`: it could not be found out, for `error`; that is never an empty answer."""

    ok: bool
    at_ms: int
    rows: list[dict[str, object]] = []
    status: int | None = None
    body: object = None
    error: str = ""
    truncated: bool = False


class ActionTaken(Struct, frozen=True):
    """A command of this incident and what became of it."""

    command: Command
    attempt: int
    sent_ms: int
    status: Literal["sent"] | OutcomeStatus = "sent"
    reason: str = ""
    finished_ms: int = 0
    detail: dict[str, object] = {}


# What an incident asks of the world ----------------------------------------------------------------------------------


class PostgresQuery(Struct, frozen=True, tag="postgres"):
    """A literal query with the values of its parameters."""

    database: str
    query: str
    params: list[object]


class PromqlQuery(Struct, frozen=True, tag="promql"):
    """An instant query."""

    query: str


class LogqlQuery(Struct, frozen=True, tag="logql"):
    """A query of Loki: an instant one, or (`is_lines`) one for the newest `limit` lines since `since_ms` ago."""

    query: str
    is_lines: bool
    since_ms: int
    limit: int


class KubernetesRead(Struct, frozen=True, tag="kubernetes"):
    """Something about an object of a cluster, see `response.steps.READS`; `target` is not yet checked to be a name."""

    read: Read
    target: str
    tail: int


class HttpGet(Struct, frozen=True, tag="http"):
    """A GET on a configured host."""

    host: str
    path: str


Query = PostgresQuery | PromqlQuery | LogqlQuery | KubernetesRead | HttpGet


class Investigate(Struct, frozen=True, tag="investigate"):
    """Find something out; answered by `Gathered`. (incident, attempt, step) names the question."""

    incident: int
    attempt: int
    step: str
    query: Query
    timeout_ms: int
    max_rows: int


class RequestApproval(Struct, frozen=True, tag="request_approval"):
    """Ask so many people about exactly this command; answered by `Decided`."""

    command: Command
    question: str
    expires_ms: int
    people: int = 1


class WithdrawApproval(Struct, frozen=True, tag="withdraw_approval"):
    """The question is no longer open."""

    command: str
    reason: str


class Send(Struct, frozen=True, tag="send"):
    """Send the command; answered by `Reported`."""

    command: Command


class Notice(Struct, frozen=True, tag="notice"):
    """Something people are to hear of, once per `id`. `to` names receivers.

    An opening goes to whoever follows every incident; an acknowledgement and an end also to those who were told
    before. `command` is the one that waits for a person (held), or that somebody decided about (decided).
    """

    id: str
    incident: int
    kind: NoticeKind
    to: tuple[str, ...]
    priority: Priority
    text: str
    command: str = ""


class Note(Struct, frozen=True, tag="note"):
    """A row of the audit and the timeline. `at_ms` is when it happened, which may be before it was noted."""

    kind: str
    text: str
    at_ms: int
    data: dict[str, object] = {}
    command: str | None = None
    actor: str = "responder"


class LetGo(Struct, frozen=True, tag="let_go"):
    """An alert that had joined this incident still fires now that it is over: it gets an incident of its own."""

    transition: Transition


Effect = Investigate | RequestApproval | WithdrawApproval | Send | Notice | Note | LetGo


# What happens to an incident -----------------------------------------------------------------------------------------


class Alerted(Struct, frozen=True):
    """An alert changed."""

    transition: Transition


class Gathered(Struct, frozen=True):
    """An investigation was answered."""

    attempt: int
    step: str
    evidence: Evidence


class Decided(Struct, frozen=True):
    """A person approved or denied a command, in time; that it is noted here may be later."""

    command: str
    approved: bool
    by: str


class Reported(Struct, frozen=True):
    """A command has an outcome."""

    outcome: Outcome


class TimerDue(Struct, frozen=True):
    """`wake_ms` may have come."""


class Operated(Struct, frozen=True):
    """A person acknowledges, closes, comments or opens again; or the notifier could not reach whom it was to call
    (undelivered).
    """

    kind: Literal["acknowledge", "close", "note", "reopen", "undelivered"]
    by: str
    text: str = ""


class Explained(Struct, frozen=True):
    """An alert changed that this incident explains, or that was merged into it."""

    transition: Transition


class Merged(Struct, frozen=True):
    """This incident is merged into another one, by a person or (`by` "") because that explains it."""

    into: int
    by: str = ""


class Absorbed(Struct, frozen=True):
    """Another incident is merged into this one; `other` is as it was before."""

    other: IncidentState
    by: str = ""


Event = Alerted | Gathered | Decided | Reported | TimerDue | Operated | Explained | Merged | Absorbed


# The incident --------------------------------------------------------------------------------------------------------


class Awaiting(Struct, frozen=True):
    """What an incident waits for, until when at most, and the effect that it waits on."""

    kind: Waiting = "nothing"
    due_ms: int | None = None
    asked: Investigate | RequestApproval | Send | None = None


class IncidentState(Struct, frozen=True):
    """Everything an incident is. Times are wall clock except those of alerts.

    `attempt` counts runs of the runbook (an incident opened again starts the next), `trail` lists the steps of the
    present run. `ineffective`: something was tried that did not help; `unproven`: and no later verification has held.
    `escalated_ms` is when this run was first escalated, `escalation_level` how many levels of the chain were told;
    `told`: somebody has heard of it. `held`: in this run something was not done or not told because of a silence or
    maintenance, so the runbook runs again when that is over.
    `joined` are alerts that this incident explains or that were merged into it; they do not decide how it goes on.
    `fired_ms` is when its newest alert began to fire, by the wall clock; `storm` the number of that it waits in, or 0.
    """

    id: int
    runbook: str
    group: dict[str, str]
    status: Literal["open", "resolved", "closed"]
    priority: Priority
    severity: str
    opened_ms: int
    trigger: str
    alerts: dict[str, AlertSeen]
    attempt: int = 1
    step: str = ""
    trail: list[str] = []
    awaiting: Awaiting = Awaiting()
    evidence: dict[str, Evidence] = {}
    actions: list[ActionTaken] = []
    cause: str = ""
    ineffective: bool = False
    unproven: bool = False
    escalated_reason: str = ""
    escalated_ms: int | None = None
    escalation_level: int = 0
    escalation_due_ms: int | None = None
    acknowledged_by: str = ""
    acknowledged_ms: int | None = None
    resolved_ms: int | None = None
    resolution: str = ""
    held: bool = False
    told: bool = False
    joined: dict[str, AlertSeen] = {}
    merged_into: int | None = None
    fired_ms: int = 0
    storm: int = 0

    @property
    def wake_ms(self) -> int | None:
        """When a `TimerDue` is wanted next."""
        times = [t_ms for t_ms in (self.awaiting.due_ms, self.escalation_due_ms) if t_ms is not None]
        return min(times, default=None) if self.status == "open" else None

    @property
    def alert(self) -> AlertSeen:
        """The alert that opened the incident."""
        return self.alerts[self.trigger]


class Decision(Struct, frozen=True):
    """The next state, and what to do, in order. An event that changes nothing has no effects."""

    state: IncidentState
    effects: list[Effect]


@dataclass(frozen=True)
class Context:
    """What the state machine may know beside its state. `runbook` None: the incident's runbook is no longer loaded.

    `hours` are those of the receivers that cannot be told at any time. `firings` are the incidents whose alerts began
    to fire within the last day, whether this one is among them or not.
    """

    now_ms: int
    runbook: Runbook | None
    actions: Actions = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    history: tuple[Past, ...] = ()
    paused: bool = False
    mutes: Mutes = field(default_factory=Mutes)
    hours: Mapping[str, Hours] = field(default_factory=dict)
    mark: Literal["live", "replay"] = "live"
    firings: tuple[Firing, ...] = ()


def alert_names(alerts: Mapping[str, AlertSeen]) -> dict[str, str]:
    """What each alert is called, by fingerprint: alerts of one name are told apart by the labels that differ."""
    out = {}
    for mark, alert in alerts.items():
        same = [other.labels for other in alerts.values() if other.alertname == alert.alertname]
        keys = sorted({key for labels in same for key in labels})
        differing = [key for key in keys if len({labels.get(key) for labels in same}) > 1]
        told = ", ".join(f'{key}="{alert.labels[key]}"' for key in differing if key in alert.labels)
        out[mark] = f"{alert.alertname}{{{told}}}" if told else alert.alertname
    return out


def scope_of(state: IncidentState) -> Mapping[str, object]:
    """The names that conditions and texts of a runbook see."""
    alert = state.alert
    found = {name: _plain(evidence) for name, evidence in state.evidence.items()}
    done = {taken.command.step: _told(taken) for taken in state.actions if taken.attempt == state.attempt}
    return {
        **found,
        **done,
        "labels": alert.labels,
        "alert": {
            "name": alert.alertname,
            "severity": state.severity,
            "value": alert.value,
            "annotations": alert.annotations,
            "fired_ms": alert.fired_ms,
            "window_ms": alert.window_ms,
            "count": len(state.alerts),
        },
        "incident": {"id": state.id, "priority": state.priority, "opened_ms": state.opened_ms},
    }


def _plain(evidence: Evidence) -> dict[str, object]:
    return {"rows": evidence.rows, "status": evidence.status, "body": evidence.body, "truncated": evidence.truncated}


def _told(taken: ActionTaken) -> dict[str, object]:
    """What became of a command. One that nobody answered for is inconclusive: the next step comes after its time."""
    if taken.status == "sent":
        return {"status": "inconclusive", "reason": NO_OUTCOME, "detail": {}}
    return {"status": taken.status, "reason": taken.reason, "detail": taken.detail}
