"""Which alerts belong together over several incidents: declared dependencies, merging, what is related.

A runbook's `explains` says of which alerts its own are the cause, in the way of Alertmanager's inhibit rules:

    DatabaseFailure  ──────opened───────────────────────resolved
    HighLatency           ···joins it; its runbook does not run···own incident, if it still fires
    HighErrorRate   ─opened───▶ taken over: merged into it, unless it has acted already

What has joined is listed and watched, but the incident is resolved by its own alerts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from engine.core.messages import Transition
from engine.response.commands import describe
from engine.response.model import (
    Absorbed,
    AlertSeen,
    Awaiting,
    IncidentState,
    LetGo,
    Merged,
    Note,
    RequestApproval,
    alert_names,
)
from engine.response.steps import Runbook
from engine.response.turn import Turn, seen_of

RELATED_MS = 3_600_000
_SERVICE = ("service", "job")


# which belong together


def explains(runbook: Runbook | None, incident: IncidentState, labels: Mapping[str, str]) -> bool:
    """Whether an open incident of this runbook explains an alert with these labels.

    As Alertmanager: labels to be equal may also be absent on both. Alerts of its own runbook are never explained.
    """
    if runbook is None or incident.status != "open" or runbook.match(labels):
        return False
    causes = [alert.labels for alert in incident.alerts.values()]
    return any(
        rule.match(labels)
        and any(all(labels.get(name, "") == cause.get(name, "") for name in rule.equal) for cause in causes)
        for rule in runbook.explains
    )


def takes_over(runbook: Runbook | None, incident: IncidentState, other: IncidentState) -> bool:
    """Whether an incident explains another open one: all its alerts that fire, or all if none does.

    One that has acted in its present run is left alone: what it has done is still to be verified.
    """
    if any(taken.attempt == other.attempt for taken in other.actions):
        return False
    alerts = [alert for alert in other.alerts.values() if alert.standing == "firing"] or list(other.alerts.values())
    return other.status == "open" and all(explains(runbook, incident, alert.labels) for alert in alerts)


def related(incident: IncidentState, others: Iterable[IncidentState], now_ms: int) -> list[IncidentState]:
    """Other incidents on the same service (label `service`, else `job`; the same namespace) that are open, or were
    within the last hour.
    """
    own = _place(incident.alert.labels)
    return [
        other
        for other in others
        if own is not None
        and other.id != incident.id
        and _place(other.alert.labels) == own
        and (other.status == "open" or now_ms - (other.resolved_ms or 0) <= RELATED_MS)
    ]


def related_note(incident: IncidentState, found: list[IncidentState], now_ms: int) -> Note:
    """The timeline's line that names related incidents."""
    told = ", ".join(f"{one.id} ({one.alert.alertname}, {one.status})" for one in found)
    data: dict[str, object] = {"incidents": [one.id for one in found]}
    return Note("incident.related", f"on the same service: incident {told}", now_ms, data)


def _place(labels: Mapping[str, str]) -> tuple[str, str] | None:
    service = next((labels[name] for name in _SERVICE if labels.get(name)), None)
    return (service, labels.get("namespace", "")) if service else None


# what an incident does with it


def on_explained(turn: Turn, transition: Transition) -> None:
    """An alert that this incident explains, or that was merged into it, has changed."""
    known = turn.state.joined.get(transition.fingerprint)
    stale = known is not None and (transition.id == known.transition or transition.at_ms < known.at_ms)
    if stale or turn.state.status != "open" or (known is None and transition.state != "firing"):
        return
    again = known is not None and known.standing == "firing" and transition.state == "firing"
    fired_ms = known.fired_ms if known is not None and known.standing == "firing" else transition.at_ms
    seen = seen_of(transition, fired_ms)
    turn.set(joined={**turn.state.joined, seen.fingerprint: seen})
    if again:
        return
    name = _joined_name(turn.state, seen)
    if seen.standing == "firing":
        text = f"{name} fires, value {seen.value}: explained by this incident, its own runbook does not run"
        _note_joined(turn, "alert.joined", text, seen)
    else:
        how = "is cleared" if seen.standing == "cleared" else f"ended without being cleared ({seen.standing})"
        _note_joined(turn, "alert.joined_ended", f"{name}, which had joined, {how}", seen)


def on_absorbed(turn: Turn, event: Absorbed) -> None:
    """Another incident is merged into this one: its alerts join."""
    other = event.other
    taken = {mark: alert for mark, alert in {**other.joined, **other.alerts}.items() if mark not in turn.state.alerts}
    turn.set(joined={**turn.state.joined, **taken})
    why = f"merged by {event.by}" if event.by else "explained by this one, merged"
    names = ", ".join(sorted(alert_names(other.alerts).values()))
    text = f"incident {other.id} ({names}) is {why}" + _on_its_way(other)
    data: dict[str, object] = {"incident": other.id, "by": event.by}
    turn.effects.append(Note("incident.absorbed", text, turn.now_ms, data, actor=event.by or "responder"))


def on_merged(turn: Turn, event: Merged) -> None:
    """This incident is over, another one goes on with its alerts. An outcome that comes later is still noted here."""
    if turn.state.status != "open":
        return
    turn.withdraw(f"merged into incident {event.into}")
    why = f"merged by {event.by} into incident {event.into}" if event.by else f"explained by incident {event.into}"
    text = why + _on_its_way(turn.state)
    turn.set(
        status="closed",
        resolved_ms=turn.now_ms,
        resolution="merged",
        merged_into=event.into,
        awaiting=Awaiting(),
        escalation_due_ms=None,
    )
    data: dict[str, object] = {"into": event.into, "by": event.by}
    turn.effects.append(Note("incident.merged", text, turn.now_ms, data, actor=event.by or "responder"))
    turn.report("resolved", text)


def let_go(turn: Turn) -> None:
    """The incident has ended by itself or by a person: what joined and still fires gets incidents of its own."""
    state = turn.state
    left = [alert for alert in state.joined.values() if alert.standing == "firing"]
    if state.status == "open" or state.merged_into is not None or not left:
        return
    turn.set(joined={**state.joined, **{a.fingerprint: replace(a, standing="handed_over") for a in left}})
    names = ", ".join(sorted(_joined_name(state, alert) for alert in left))
    turn.note("incident.let_go", f"still firing, and from here on for itself: {names}")
    turn.effects += [LetGo(_fires_still(alert, state.id)) for alert in left]


def _fires_still(alert: AlertSeen, incident: int) -> Transition:
    """The alert as if it had only now begun to be told of; the id is another one than that seen before."""
    return Transition(
        id=f"{alert.transition}-after-{incident}",
        rule=alert.rule,
        alertname=alert.alertname,
        fingerprint=alert.fingerprint,
        labels=alert.labels,
        annotations=alert.annotations,
        previous="inactive",
        state="firing",
        at_ms=alert.at_ms,
        active_since_ms=alert.fired_ms,
        value=alert.value,
        cause="condition",
        window_ms=alert.window_ms,
        received_ms=alert.received_ms,
    )


def _on_its_way(state: IncidentState) -> str:
    """What of an incident is still under way when it is merged."""
    asked = state.awaiting.asked
    withdrawn = [describe(asked.command)] if isinstance(asked, RequestApproval) else []
    parts = [f"; the question about {what} is withdrawn" for what in withdrawn]
    sent = [describe(taken.command) for taken in state.actions if not taken.finished_ms]
    return "".join(parts + [f"; {what} is on its way, its outcome is noted there" for what in sent])


def _joined_name(state: IncidentState, alert: AlertSeen) -> str:
    return alert_names({**state.alerts, **state.joined, alert.fingerprint: alert})[alert.fingerprint]


def _note_joined(turn: Turn, kind: str, text: str, alert: AlertSeen) -> None:
    data: dict[str, object] = {"transition": alert.transition, "labels": alert.labels, "value": alert.value}
    turn.effects.append(Note(kind, text, alert.at_ms, data))
