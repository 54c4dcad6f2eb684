"""The state of alerts: inactive -> pending -> firing -> resolved, as Prometheus defines it.

```
            condition holds                held for `for`               gone (and keep_firing_for over)
 inactive ------------------> pending ------------------------> firing ------------------------------> resolved
                                 |  gone                           ^                                      |
                                 +-----> inactive                  +------------- (pending) <-------------+ holds again
```

Everything that affects a transition is in this file. It is plain data in, transitions out; time is passed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from engine.core.gotemplate import Template
from engine.core.labels import Labels, fingerprint
from engine.core.messages import AlertState, EvidenceLine, Transition
from engine.core.rules import AlertRule

Cause = Literal["condition", "cleared", "no_data", "rule_removed"]


class ActiveAlert(Struct):
    """One pending or firing alert: the small state that survives a restart. Times in event time."""

    labels: dict[str, str]
    series: dict[str, str]
    annotations: dict[str, str]
    state: AlertState
    active_since_ms: int
    value: float
    kept_since_ms: int | None = None


class Sample(Struct, frozen=True):
    """One element of a rule's result, ready to become an alert: final labels, and the labels of the series it is of."""

    labels: dict[str, str]
    series: dict[str, str]
    annotations: dict[str, str]
    value: float


class Result(Struct, frozen=True):
    """What one evaluation of a rule gave."""

    at_ms: int
    samples: Sequence[Sample]


def alert_labels(rule: AlertRule, series: Labels, expand: Callable[[Template], str]) -> Labels:
    """The labels of the alert for one result series: the series' own without its name, the rule's, the alert's name."""
    labels = {name: text for name, text in series.items() if name != "__name__"}
    for name, template in rule.labels.items():
        text = expand(template)
        if text:
            labels[name] = text
        else:
            labels.pop(name, None)
    labels["alertname"] = rule.name
    return labels


class Change(Struct, frozen=True):
    """A state change of one alert, before it is dressed as a `Transition`."""

    fingerprint: str
    alert: ActiveAlert
    previous: AlertState
    cause: Cause


def advance(
    rule: AlertRule,
    active: dict[str, ActiveAlert],
    result: Result,
    no_data: Mapping[str, bool],
) -> list[Change]:
    """Move the alerts of a rule to the time of a result; `active` (by fingerprint) is updated in place.

    `no_data[fingerprint]` says for an alert that is not in the result whether its data vanished (True) or its
    condition ended (False); see `missing`. Raises `ValueError` if two samples have one label set.
    """
    at_ms = result.at_ms
    present: dict[str, Sample] = {}
    for sample in result.samples:  # all of them before anything moves: a refused result changes nothing
        mark = fingerprint(sample.labels)
        if mark in present:
            raise ValueError(f"two results have the same labels after applying the rule's: {sample.labels}")
        present[mark] = sample
    changes: list[Change] = []
    for mark, sample in present.items():
        changes += _hold(rule, active, mark, sample, at_ms)
    for mark in missing(active, present):
        changes += _leave(rule, active, mark, at_ms, "no_data" if no_data.get(mark) else "cleared")
    return changes


def missing(active: Mapping[str, ActiveAlert], present: Container[str]) -> list[str]:
    """Fingerprints of active alerts that are not among those present, in a stable order."""
    return sorted(mark for mark in active if mark not in present)


def _hold(rule: AlertRule, active: dict[str, ActiveAlert], mark: str, sample: Sample, at_ms: int) -> list[Change]:
    alert = active.get(mark)
    previous: AlertState = "inactive"
    if alert is None:
        alert = ActiveAlert(sample.labels, sample.series, sample.annotations, "pending", at_ms, sample.value)
        active[mark] = alert
    else:
        previous = alert.state
        alert.value, alert.annotations, alert.kept_since_ms = sample.value, sample.annotations, None
    if alert.state == "pending" and at_ms - alert.active_since_ms >= rule.for_ms:
        alert.state = "firing"
    return [Change(mark, alert, previous, "condition")] if alert.state != previous else []


def _leave(rule: AlertRule, active: dict[str, ActiveAlert], mark: str, at_ms: int, cause: Cause) -> list[Change]:
    alert = active[mark]
    if alert.state == "firing" and rule.keep_firing_for_ms > 0:
        if alert.kept_since_ms is None:
            alert.kept_since_ms = at_ms
        if at_ms - alert.kept_since_ms < rule.keep_firing_for_ms:
            return []
    previous = alert.state
    alert.state = "resolved" if previous == "firing" else "inactive"
    del active[mark]
    return [Change(mark, alert, previous, cause)]


def transition(
    rule: AlertRule, change: Change, at_ms: int, evidence: list[EvidenceLine], received_ms: int
) -> Transition:
    """Dress a change as the message for the `alerts` topic. The id depends on nothing but rule, labels, state, time."""
    alert = change.alert
    identity = f"{rule.key}|{change.fingerprint}|{alert.state}|{at_ms}"
    return Transition(
        id=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
        rule=f"{rule.group}/{rule.name}",
        alertname=rule.name,
        fingerprint=change.fingerprint,
        labels=dict(sorted(alert.labels.items())),
        annotations=alert.annotations,
        previous=change.previous,
        state=alert.state,
        at_ms=at_ms,
        active_since_ms=alert.active_since_ms,
        value=format_value(alert.value),
        cause=change.cause,
        window_ms=rule.window_ms,
        evidence=evidence,
        received_ms=received_ms,
    )


def removed(group: str, alert: ActiveAlert, at_ms: int, received_ms: int) -> Transition:
    """The end of an alert whose rule is no longer there. It says nothing about the condition."""
    mark = fingerprint(alert.labels)
    name = alert.labels.get("alertname", "")
    state: AlertState = "resolved" if alert.state == "firing" else "inactive"
    return Transition(
        id=hashlib.blake2b(f"{group}/{name}|{mark}|removed|{at_ms}".encode(), digest_size=16).hexdigest(),
        rule=f"{group}/{name}",
        alertname=name,
        fingerprint=mark,
        labels=dict(sorted(alert.labels.items())),
        annotations=alert.annotations,
        previous=alert.state,
        state=state,
        at_ms=at_ms,
        active_since_ms=alert.active_since_ms,
        value=format_value(alert.value),
        cause="rule_removed",
        window_ms=0,
        received_ms=received_ms,
    )


def format_value(value: float) -> str:
    """A sample value as Prometheus's JSON writes it: "17", "0.5", "NaN", "+Inf"."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
