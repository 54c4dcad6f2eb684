"""One turn of an incident: the state being changed and the effects collected, with the moves every part shares."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from engine.core.messages import Transition
from engine.response.conditions import Condition, RenderError
from engine.response.hours import unheard_until_ms
from engine.response.model import (
    ActionTaken,
    AlertSeen,
    AlertStanding,
    Awaiting,
    Context,
    Decision,
    Effect,
    IncidentState,
    Note,
    Notice,
    NoticeKind,
    RequestApproval,
    WithdrawApproval,
    alert_names,
    scope_of,
)
from engine.response.silences import Mute
from engine.response.steps import Chain, Limits, Priority, Runbook
from engine.response.words import clock, to_be_told

_SEVERITY = {"critical": 3, "error": 2, "warning": 2, "info": 1}
_PRIORITIES: tuple[Priority, ...] = ("P0", "P1", "P2", "P3")


class Turn:
    """Collects what one event does to an incident. The state handed in is never changed."""

    def __init__(self, state: IncidentState, context: Context) -> None:
        self.state = state
        self.context = context
        self.effects: list[Effect] = []

    @property
    def now_ms(self) -> int:
        """The time of this turn."""
        return self.context.now_ms

    @property
    def limits(self) -> Limits:
        """The limits of the incident's runbook."""
        return self.context.runbook.limits if self.context.runbook else Limits()

    def set(self, **changes: Any) -> None:
        """Change fields of the state."""
        self.state = replace(self.state, **changes)

    def note(self, kind: str, text: str, /, *, command: str | None = None, **data: object) -> None:
        """Write a row of the timeline, now."""
        self.effects.append(Note(kind, text, self.now_ms, data, command))

    def decision(self) -> Decision:
        """What came of the turn."""
        return Decision(self.state, self.effects)

    # alerts

    def all_cleared(self) -> bool:
        """Whether every alert ended because its condition did."""
        return all(alert.standing == "cleared" for alert in self.state.alerts.values())

    def any_firing(self) -> bool:
        """Whether some alert fires."""
        return any(alert.standing == "firing" for alert in self.state.alerts.values())

    def unknown(self) -> str:
        """Which alerts ended without being shown to be well, and how; "" if none."""
        lost = [a for a in self.state.alerts.values() if a.standing in ("no_data", "rule_removed")]
        return ", ".join(f"{self.name_of(a.fingerprint)}: {a.standing}" for a in lost)

    def name_of(self, fingerprint: str) -> str:
        """What an alert of the incident is called."""
        return alert_names(self.state.alerts)[fingerprint]

    def has_acted(self) -> bool:
        """Whether a command was sent in this run of the runbook."""
        return any(action.attempt == self.state.attempt for action in self.state.actions)

    # silences and maintenance

    def mute_of(self, alert: AlertSeen) -> Mute | None:
        """What keeps anything from being done about an alert now."""
        return self.context.mutes.of(alert.labels, self.now_ms)

    @property
    def muted(self) -> Mute | None:
        """Why nobody is told of the incident now: what mutes all its alerts that fire (when none does: all of them)."""
        alerts = self.state.alerts.values()
        firing = [alert.labels for alert in alerts if alert.standing == "firing"]
        return self.context.mutes.of_all(firing or [alert.labels for alert in alerts], self.now_ms)

    def unmuted(self) -> str | None:
        """The fingerprint of an alert that fires and is not muted, the one of the present run before others."""
        alerts = sorted(self.state.alerts.values(), key=lambda alert: alert.fingerprint != self.state.trigger)
        free = (alert for alert in alerts if alert.standing == "firing" and self.mute_of(alert) is None)
        return next((alert.fingerprint for alert in free), None)

    def hold(self, mute: Mute | None) -> None:
        """Do nothing more until the silence or maintenance is over (None: it is); then the runbook starts again."""
        until_ms = mute.until_ms if mute else self.now_ms
        if mute:
            self.note("incident.held", f"nothing more is done until {clock(until_ms)}: {mute.name}", reason=mute.reason)
        self.set(held=True, awaiting=Awaiting("muted", until_ms))

    def kept_quiet(self, reason: str, text: str, to: tuple[str, ...] = ()) -> bool:
        """Whether nobody is to be told now; then it is noted what would have been said, and the run is `held`."""
        mute = self.muted
        if mute is None:
            return False
        self.note("notice.held", f"{text}; nobody is told: {mute.name}", reason=reason, muted=mute.reason, to=list(to))
        self.set(held=True)
        return True

    # moves

    def escalate(self, reason: str, text: str) -> None:
        """Hand over to people: nothing automatic happens in this run any more."""
        self.withdraw(reason)
        self.tell(reason, text, self.first_level)
        if self.muted is None:
            self.set(awaiting=Awaiting("people"))
        else:
            self.hold(self.muted)

    def tell(self, reason: str, text: str, to: tuple[str, ...]) -> None:
        """Escalate to people without stopping the runbook. The incidents of a storm are told of together, once."""
        if self.kept_quiet(reason, text, to):
            return
        state = self.state
        said = f"{text}; {to_be_told(to)}"
        self.note("incident.escalated", said, reason=reason, to=list(to), priority=state.priority)
        mark = self._mark(to) or f"{state.id}-{state.attempt}-{state.step}"
        self.send_notice(Notice(f"{mark}-{reason}", state.id, "escalate", to, state.priority, text))
        escalated_ms = self.now_ms if state.escalated_ms is None else state.escalated_ms
        self.set(escalated_reason=reason, escalated_ms=escalated_ms, escalation_level=max(1, state.escalation_level))
        self._next_level(to)

    def follow_priority(self, text: str) -> None:
        """The priority has risen, so its chain holds from now on: those of its levels that are due are told at once.

        They are told together, nobody twice; what is due counts from the beginning of the escalation. Where people were
        only asked about a command, the first level hears of it. Nobody does while nobody had to.
        """
        state, asked = self.state, self.state.awaiting.asked
        is_escalated = state.escalated_ms is not None
        if not is_escalated and state.awaiting.kind not in ("approval", "people"):
            return
        levels, due_ms = self._due(state.escalated_ms) if state.escalated_ms is not None else (1, None)
        to = tuple(dict.fromkeys(name for level in self._chain[:levels] for name in level.to))
        if self.kept_quiet("priority", text, to):
            return
        held = asked.command.id if isinstance(asked, RequestApproval) else ""
        said = f"{text}; still to be decided: {asked.question}" if isinstance(asked, RequestApproval) else text
        kind: NoticeKind = "held" if held else "escalate" if is_escalated else "notify"
        about = "incident.escalated" if is_escalated else "incident.notified"
        self.note(about, f"{said}; {to_be_told(to)}", reason="priority", to=list(to), priority=state.priority)
        mark = f"{state.id}-{state.attempt}-priority-{state.priority}"
        self.send_notice(Notice(mark, state.id, kind, to, state.priority, said, held))
        if is_escalated:
            self.set(escalation_level=levels, escalation_due_ms=due_ms)

    def inform(self, mark: str, reason: str, text: str, *, held: str = "") -> None:
        """Tell the first level of the chain something that people should know at once; the runbook goes on.

        `held` is the command that waits for their decision, if that is what they are told of.
        """
        state, to = self.state, self.first_level
        if self.kept_quiet(reason, text, to):
            return
        self.note("incident.notified", f"{text}; {to_be_told(to)}", reason=reason, to=list(to))
        kind: NoticeKind = "held" if held else "notify"
        self.send_notice(Notice(f"{state.id}-{mark}", state.id, kind, to, state.priority, text, held))

    def report(self, kind: NoticeKind, text: str, command: str = "") -> None:
        """Keep those up to date who follow the incident or were told of it; nothing, if nobody has heard of it yet."""
        state = self.state
        if (kind == "opened" and self.kept_quiet(kind, text)) or (kind != "opened" and not state.told):
            return
        if command and state.storm:
            return  # nobody was told of this question by itself
        mark = f"{state.id}-{state.attempt}-{kind}{'-' if command else ''}{command}"
        self.send_notice(Notice(mark, state.id, kind, (), state.priority, text, command))

    def send_notice(self, notice: Notice) -> None:
        """Put a notice out."""
        self.effects.append(notice)
        self.set(told=True)

    def raise_level(self, reason: str = "not_acknowledged", why: str = "nobody has acknowledged") -> None:
        """Those who were told do not answer, or could not be reached: tell the next level, when no silence holds."""
        state, mute = self.state, self.muted
        if mute is not None:
            self.set(escalation_due_ms=mute.until_ms)
            return
        if state.storm and any(one.acknowledged for one in self.context.firings if one.storm == state.storm):
            self.set(escalation_due_ms=None)  # whoever took one incident of a storm has heard of all
            return
        number, to = state.escalation_level + 1, self._named(state.escalation_level)
        text = f"{why}; {to_be_told(to)}"
        data: dict[str, object] = {"level": number, "to": list(to)}
        self.effects.append(Note("incident.escalated", text, self.now_ms, data | {"reason": reason}))
        mark = self._mark(to) or f"{state.id}-{state.attempt}"
        self.send_notice(Notice(f"{mark}-level-{number}", state.id, "escalate", to, state.priority, text))
        self.set(escalation_level=state.escalation_level + 1)
        self._next_level(to)

    def _mark(self, to: tuple[str, ...]) -> str:
        """What the notices of a storm have in common, for the same people at the same priority; "" outside of one."""
        storm = self.state.storm
        return f"storm-{storm}-{self.state.priority}-{','.join(to)}" if storm else ""

    def has_next_level(self) -> bool:
        """Whether the chain has a level that was not told yet."""
        return self.state.escalation_level < len(self._chain)

    @property
    def first_level(self) -> tuple[str, ...]:
        """Whom the first level of the chain names."""
        return self._named(0)

    def _named(self, level: int) -> tuple[str, ...]:
        """Whom a level names, the last one if there are not so many."""
        return self._chain[min(level, len(self._chain) - 1)].to if self._chain else ()

    @property
    def _chain(self) -> Chain:
        """The levels of the present priority."""
        runbook = self.context.runbook
        return runbook.escalation.chain(self.state.priority) if runbook else ()

    def _next_level(self, told: tuple[str, ...]) -> None:
        """The next level is due when those just told have had its time."""
        if not self.has_next_level() or self.state.acknowledged_by:
            self.set(escalation_due_ms=None)
        else:
            after_ms = self._chain[self.state.escalation_level].after_ms
            self.set(escalation_due_ms=self._unheard_until_ms(told, self.now_ms, after_ms))

    def _due(self, since_ms: int) -> tuple[int, int | None]:
        """How many levels of the chain are due that began at `since_ms`, and when the next one is.

        Once somebody has acknowledged, only the first is.
        """
        if self.state.acknowledged_by:
            return 1, None
        due_ms = since_ms
        for number, (before, level) in enumerate(pairwise(self._chain), 1):
            due_ms = self._unheard_until_ms(before.to, due_ms, level.after_ms)
            if due_ms > self.now_ms:
                return number, due_ms
        return len(self._chain), None

    def _unheard_until_ms(self, told: tuple[str, ...], from_ms: int, after_ms: int) -> int:
        return unheard_until_ms(told, self.context.hours, self.state.priority, from_ms, after_ms)

    def withdraw(self, reason: str) -> None:
        """Take back an open question."""
        asked = self.state.awaiting.asked
        if isinstance(asked, RequestApproval):
            self.effects.append(WithdrawApproval(asked.command.id, reason))
            self.report("decided", f"no longer to be decided: {reason}", asked.command.id)

    def settle(self, text: str) -> None:
        """All alerts are cleared: watch for the stabilisation time whether it stays so."""
        self.withdraw("alert cleared")
        self.note("incident.cleared", text)
        self.set(awaiting=Awaiting("settle", self.now_ms + self.limits.stabilisation_ms))

    def resolve(self, resolution: str, text: str) -> None:
        """The incident is over."""
        self.set(
            status="resolved",
            resolved_ms=self.now_ms,
            resolution=resolution,
            awaiting=Awaiting(),
            escalation_due_ms=None,
        )
        self.note("incident.resolved", text, resolution=resolution, follow_up=self._follow_up())
        self.report("resolved", text)

    def _follow_up(self) -> list[str]:
        runbook, scope, out = self.context.runbook, scope_of(self.state), []
        for item in runbook.follow_up if runbook else ():
            try:
                out.append(item.render(scope))
            except RenderError:
                out.append(item.text)  # an action item with a gap is better than none
        return out

    def update_action(self, action: ActionTaken) -> None:
        """Replace what is known about a command."""
        kept = [a if a.command.id != action.command.id else action for a in self.state.actions]
        self.set(actions=kept)


def worst(severities: list[str]) -> str:
    """The highest of some severities."""
    return max(severities, key=lambda severity: _SEVERITY.get(severity, 0), default="")


def priority_of(runbook: Runbook, severity: str, scope: Mapping[str, object]) -> Priority:
    """The priority a runbook gives; P1 when its condition gives none."""
    wanted = runbook.priority
    if isinstance(wanted, Condition):
        try:
            value = wanted.value(scope)
        except RenderError:
            return "P1"
        return next((p for p in _PRIORITIES if p == value), "P1")
    if isinstance(wanted, Mapping):
        return wanted.get(severity, wanted.get("default", "P2"))
    return wanted


def seen_of(transition: Transition, fired_ms: int) -> AlertSeen:
    """How an alert stands after a transition. It has been firing since `fired_ms`."""
    standing: AlertStanding = "firing"
    if transition.state != "firing":
        ended: dict[str, AlertStanding] = {"cleared": "cleared", "rule_removed": "rule_removed"}
        standing = ended.get(transition.cause, "no_data")
    return AlertSeen(
        fingerprint=transition.fingerprint,
        alertname=transition.alertname,
        rule=transition.rule,
        labels=transition.labels,
        annotations=transition.annotations,
        value=transition.value,
        standing=standing,
        fired_ms=fired_ms,
        at_ms=transition.at_ms,
        window_ms=transition.window_ms,
        transition=transition.id,
        received_ms=transition.received_ms,
    )
