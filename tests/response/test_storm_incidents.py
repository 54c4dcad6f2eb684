"""An incident in a storm: it settles, waits for a person, is told of once with the others, then by itself again.

```
 fires      settled        a storm: asked, told once     yes        its own again
   |-- calm ---|------------------- approval -------------|-- outcome --|
```
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.response.guardrails import ModeRule, Policy
from engine.response.incident import open_incident, respond
from engine.response.model import Alerted, Context, Decided, Decision, Notice, RequestApproval, Send, TimerDue
from engine.response.runbook import load_runbooks
from engine.response.steps import Actions, Runbook
from engine.response.storm import Firing
from tests.response.conftest import START_MS, alert

TEXT = """
runbooks:
  - name: Restart
    match: ['alertname="ServiceDown"']
    priority: P1
    group_by: [service]
    escalation: [{to: on-call}, {to: manager, after: 10m}]
    summary: down
    steps:
      - name: restart
        act: {action: http.request, target: openclaw, params: {method: POST, path: /restart}}
      - {name: verified, verify: {}}
"""
LABELS = {"alertname": "ServiceDown", "severity": "critical", "service": "openclaw"}
AUTO = Policy(modes=(ModeRule("auto", "http.request"),), storm_targets=2, storm_window_ms=60_000)
SETTLING = replace(AUTO, storm_settle_ms=20_000)
OTHERS = (Firing(8, "b", START_MS + 1000), Firing(9, "c", START_MS + 2000))


@pytest.fixture
def runbook(actions: Actions) -> Runbook:
    (found,), problems = load_runbooks(TEXT, "storm.yml", actions=actions)
    assert not problems
    return found


class Play:
    """One incident, whose context is that of the moment."""

    def __init__(self, runbook: Runbook, actions: Actions, policy: Policy, firings: tuple[Firing, ...] = ()) -> None:
        self.runbook, self.actions, self.policy, self.firings = runbook, actions, policy, firings
        self.now_ms = START_MS
        self.decision = open_incident(1, alert("firing", START_MS, LABELS), self.context())

    def context(self) -> Context:
        return Context(self.now_ms, self.runbook, self.actions, self.policy, firings=self.firings)

    def take(self, event: Alerted | Decided | TimerDue, after_ms: int = 0) -> Decision:
        self.now_ms += after_ms
        self.decision = respond(self.decision.state, event, self.context())
        return self.decision

    @property
    def waits(self) -> str:
        return self.decision.state.awaiting.kind

    def of(self, kind: type) -> list[object]:
        return [effect for effect in self.decision.effects if isinstance(effect, kind)]

    def notices(self) -> list[tuple[str, str]]:
        return [(n.kind, n.id) for n in self.decision.effects if isinstance(n, Notice) and n.kind != "opened"]


def test_without_a_settling_time_a_command_is_sent_at_once(runbook: Runbook, actions: Actions) -> None:
    assert Play(runbook, actions, AUTO).of(Send)


def test_with_a_settling_time_it_is_sent_when_that_is_over_and_nothing_else_fails(
    runbook: Runbook, actions: Actions
) -> None:
    play = Play(runbook, actions, SETTLING)
    assert (play.waits, play.decision.state.awaiting.due_ms, play.of(Send)) == ("calm", START_MS + 20_000, [])
    assert not play.take(TimerDue(), 19_999).effects
    assert play.take(TimerDue(), 1).state.trail == ["restart"]
    assert (play.waits, len(play.of(Send))) == ("outcome", 1)


def test_an_alert_that_clears_while_it_settles_is_not_acted_on(runbook: Runbook, actions: Actions) -> None:
    play = Play(runbook, actions, SETTLING)
    play.take(Alerted(alert("resolved", START_MS + 5000, LABELS)), 5000)
    assert play.waits == "settle"
    play.take(TimerDue(), 15_000)
    assert play.of(Send) == []


def test_what_fails_while_it_settles_makes_it_wait_for_a_person(runbook: Runbook, actions: Actions) -> None:
    play = Play(runbook, actions, SETTLING)
    play.firings = OTHERS
    play.take(TimerDue(), 20_000)
    assert (play.waits, play.of(Send), len(play.of(RequestApproval))) == ("approval", [], 1)
    assert play.notices() == [("escalate", f"storm-{START_MS}-P1-on-call-storm")]


def test_every_incident_of_a_storm_gives_the_same_notice(runbook: Runbook, actions: Actions) -> None:
    first, second = Play(runbook, actions, AUTO, OTHERS), Play(runbook, actions, AUTO, OTHERS)
    assert first.notices() == second.notices() != []


def test_a_yes_sends_it_and_from_then_on_it_is_told_of_by_itself(runbook: Runbook, actions: Actions) -> None:
    play = Play(runbook, actions, AUTO, OTHERS)
    (asked,) = play.of(RequestApproval)
    assert isinstance(asked, RequestApproval)
    play.take(Decided(asked.command.id, True, "ada"), 1000)
    assert (play.waits, len(play.of(Send)), play.decision.state.storm) == ("outcome", 1, 0)
    assert [kind for kind, _ in play.notices()] == ["decided"]


def test_when_nobody_decides_all_are_told_of_together_once_more(runbook: Runbook, actions: Actions) -> None:
    play = Play(runbook, actions, AUTO, OTHERS)
    play.policy = replace(AUTO, approval_expiry_ms=1)
    play.take(TimerDue(), 15 * 60_000)
    assert play.waits == "people"
    assert f"storm-{START_MS}-P1-on-call-approval_expired" in [mark for _, mark in play.notices()]
    assert "decided" not in [kind for kind, _ in play.notices()], "nobody was told of this question by itself"


@pytest.mark.parametrize(
    ("acknowledged", "told"), [(False, [("escalate", f"storm-{START_MS}-P1-manager-level-2")]), (True, [])]
)
def test_who_took_one_incident_of_a_storm_has_heard_of_all(
    runbook: Runbook, actions: Actions, acknowledged: bool, told: list[tuple[str, str]]
) -> None:
    play = Play(runbook, actions, AUTO, OTHERS)
    play.firings = (replace(OTHERS[0], storm=START_MS, acknowledged=acknowledged), OTHERS[1])
    play.take(TimerDue(), 10 * 60_000)
    assert play.notices() == told


def test_where_nothing_is_done_anyway_the_account_hears_of_the_storm(runbook: Runbook, actions: Actions) -> None:
    play = Play(runbook, actions, replace(AUTO, modes=(), default_mode="observe"), OTHERS)
    (note,) = [one for one in play.decision.effects if getattr(one, "kind", "") == "command.observed"]
    assert getattr(note, "data", {})["storm"] == "3 targets fail at once (within 1m): suspect the monitoring"
