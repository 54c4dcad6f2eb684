"""The incident's state machine: what must hold whatever happens, in whatever order, however often.

```
 fires        evidence x2       sent          outcome      cleared    judged
   |--------------|--------------|--------------|------------|----------|
 open          waits for      waits for      waits for               resolved
               evidence       outcome        verify
```
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.response.guardrails import ModeRule, Policy
from engine.response.incident import open_incident, respond
from engine.response.model import (
    Alerted,
    Context,
    Decided,
    Decision,
    Event,
    Evidence,
    Gathered,
    IncidentState,
    Investigate,
    Note,
    Notice,
    Operated,
    Reported,
    RequestApproval,
    Send,
    TimerDue,
    WithdrawApproval,
)
from engine.response.steps import Actions, Runbook
from tests.response.conftest import SPIKE, START_MS, alert, outcome

AUTOMATIC = Policy(modes=(ModeRule("auto", "http.request"),))
MALLORY = {"source_user": "mallory", "channels": "telegram", "violations": 11, "total": 12}
FOUND = {"suspects": Evidence(True, START_MS, [MALLORY]), "policies": Evidence(True, START_MS, [])}
FOUND["stopped"] = Evidence(True, START_MS, [{"labels": {}, "value": 1.0}])
METRICS = {**SPIKE, "signal": "metrics"}
OVERLOAD = {**SPIKE, "alertname": "ConnectionOverload", "service": "openclaw"}
OPENED: list[dict[str, object]] = [{"labels": {"channel": "discord"}, "value": 20.0}]
FOUND |= {"active": Evidence(True, START_MS), "opened": Evidence(True, START_MS, OPENED)}
FOUND["closed"] = Evidence(True, START_MS, [{"labels": {"channel": "discord"}, "value": 0.0}])


class Play:
    """An incident of PolicyViolationSpike, driven event by event."""

    def __init__(
        self,
        runbooks: list[Runbook],
        actions: Actions,
        policy: Policy = AUTOMATIC,
        name: str = "PolicyViolationSpike",
        labels: Mapping[str, str] = SPIKE,
    ) -> None:
        self.runbook: Runbook | None = next(r for r in runbooks if r.name == name)
        self.actions, self.policy = actions, policy
        self.now_ms = START_MS
        self.sent: list[str] = []
        self.kinds: list[str] = []
        self.texts: list[str] = []
        self.take(open_incident(1, alert("firing", START_MS, labels), self.context()))

    def context(self) -> Context:
        return Context(self.now_ms, self.runbook, self.actions, self.policy)

    def take(self, decision: Decision) -> Decision:
        self.state = decision.state
        self.sent += [effect.command.id for effect in decision.effects if isinstance(effect, Send)]
        self.kinds += [effect.kind for effect in decision.effects if isinstance(effect, Note)]
        self.texts += [effect.text for effect in decision.effects if isinstance(effect, Note)]
        return decision

    def on(self, event: Event, after_ms: int = 10) -> Decision:
        self.now_ms += after_ms
        return self.take(respond(self.state, event, self.context()))

    def gather(self) -> None:
        while self.state.awaiting.kind == "evidence":
            self.on(Gathered(self.state.attempt, self.state.step, FOUND[self.state.step]))

    def command(self) -> str:
        asked = self.state.awaiting.asked
        assert isinstance(asked, Send | RequestApproval)
        return asked.command.id

    def until_due(self) -> Decision:
        assert self.state.wake_ms is not None
        return self.on(TimerDue(), self.state.wake_ms - self.now_ms)


def notes(decision: Decision, kind: str) -> list[Note]:
    return [effect for effect in decision.effects if isinstance(effect, Note) and effect.kind == kind]


@pytest.fixture
def play(runbooks: list[Runbook], actions: Actions) -> Play:
    return Play(runbooks, actions)


@pytest.fixture
def asking(runbooks: list[Runbook], actions: Actions) -> Play:
    return Play(runbooks, actions, Policy())


def test_the_same_event_twice_changes_nothing(play: Play) -> None:
    first = Gathered(1, "suspects", FOUND["suspects"])
    play.on(first)
    for event in (first, Alerted(alert("firing", START_MS))):
        assert play.on(event).effects == []
    play.gather()
    done = Reported(outcome(play.command(), "succeeded", START_MS + 100))
    play.on(done)
    before = play.state
    assert play.on(done) == Decision(before, [])


def test_an_old_transition_does_not_undo_a_newer_one(play: Play) -> None:
    play.on(Alerted(alert("resolved", START_MS + 100)))
    assert play.on(Alerted(alert("firing", START_MS + 50))).effects == []
    assert play.state.awaiting.kind == "settle"


def test_the_command_has_the_same_id_when_it_is_decided_again(runbooks: list[Runbook], actions: Actions) -> None:
    one, two = Play(runbooks, actions), Play(runbooks, actions)
    two.now_ms += 5_000
    one.gather()
    two.gather()
    assert one.sent == two.sent


def test_the_verification_waits_for_the_window_after_the_outcome_and_the_stabilisation(play: Play) -> None:
    play.gather()
    play.on(Reported(outcome(play.command(), "succeeded", play.now_ms + 500)))
    assert play.state.awaiting.due_ms == play.state.actions[0].finished_ms + 60_000 + 20_000


def test_an_alert_that_clears_during_the_action_is_still_verified(play: Play) -> None:
    play.gather()
    play.on(Alerted(alert("resolved", START_MS + 200)))
    assert play.state.awaiting.kind == "outcome"
    play.on(Reported(outcome(play.command(), "succeeded", START_MS + 300)))
    play.until_due()
    play.gather()
    assert (play.state.status, play.state.resolution) == ("resolved", "verified")


def test_every_alert_of_the_incident_has_to_clear(play: Play) -> None:
    play.on(Alerted(alert("firing", START_MS + 5, METRICS)))
    play.gather()
    play.on(Reported(outcome(play.command(), "succeeded", START_MS + 100)))
    play.on(Alerted(alert("resolved", START_MS + 60_000)))
    play.until_due()
    assert play.state.escalated_reason == "ineffective_still_firing"
    play.on(Alerted(alert("resolved", START_MS + 90_000, METRICS)))
    play.until_due()
    assert (play.state.status, play.state.resolution) == ("resolved", "cleared_after_escalation")


def test_an_incident_that_data_left_stays_open(play: Play) -> None:
    play.on(Alerted(alert("resolved", START_MS + 100, cause="no_data")))
    assert (play.state.awaiting.kind, play.state.escalated_reason) == ("people", "no_data")
    play.on(TimerDue(), 86_400_000)
    assert play.state.status == "open"
    assert play.sent == []


def test_a_rule_that_was_removed_is_no_repair(play: Play) -> None:
    play.on(Alerted(alert("resolved", START_MS + 100, cause="rule_removed")))
    assert play.state.escalated_reason == "no_data"


def test_an_alert_that_flaps_before_anything_was_done_starts_the_runbook_again(play: Play) -> None:
    play.on(Alerted(alert("resolved", START_MS + 100)))
    play.on(Alerted(alert("firing", START_MS + 200)))
    assert (play.state.attempt, play.state.step, play.state.awaiting.kind) == (2, "suspects", "evidence")
    late = play.on(Gathered(1, "suspects", FOUND["suspects"]))
    assert late.effects == [], "the answer to a question of the run before counts for nothing"


def test_a_higher_severity_raises_the_priority(play: Play) -> None:
    play.on(Alerted(alert("firing", START_MS + 5, {**METRICS, "severity": "critical"})))
    assert (play.state.severity, play.state.priority) == ("critical", "P1")


def test_clearing_takes_the_question_back(asking: Play) -> None:
    asking.gather()
    command = asking.command()
    decision = asking.on(Alerted(alert("resolved", START_MS + 100)))
    assert WithdrawApproval(command, "alert cleared") in decision.effects
    assert asking.on(Decided(command, True, "ada")).effects == []


def test_an_approval_of_another_command_counts_for_nothing(asking: Play) -> None:
    asking.gather()
    assert asking.on(Decided("another", True, "ada")).effects == []


def test_an_approval_given_in_time_and_taken_up_too_late_says_so(asking: Play) -> None:
    asking.gather()
    command, due_ms = asking.command(), asking.state.awaiting.due_ms
    assert due_ms is not None
    decision = asking.on(Decided(command, True, "ada"), due_ms - asking.now_ms)
    assert asking.state.escalated_reason == "approval_expired"
    [said] = notes(decision, "command.not_sent")
    assert "approved by ada, and not sent: the approval came in time" in said.text
    assert notes(decision, "command.unapproved") == []


def test_asking_for_an_approval_tells_somebody_at_once_and_says_exactly_what_for(asking: Play) -> None:
    asking.on(Gathered(1, "suspects", FOUND["suspects"]))
    decision = asking.on(Gathered(1, "policies", FOUND["policies"]))
    what = (
        'POST /api/admin/blocklist {"user_id":"mallory","reason":"policy_violation_spike"} on openclaw (http.request)'
    )
    [held] = notes(decision, "command.held")
    assert what in held.text
    [notice] = [effect for effect in decision.effects if isinstance(effect, Notice)]
    assert (notice.kind, notice.to, notice.command) == ("held", ("team-lead",), asking.state.awaiting.asked.command.id)  # type: ignore[union-attr]  # it waits for this
    asked = asking.state.awaiting.asked
    assert isinstance(asked, RequestApproval)
    assert asked.question == f"{asking.state.cause}. {what}?", "why it is asked stands before what is asked"
    assert asking.state.cause.startswith("mallory ")
    assert notice.text.endswith(f"UTC: {asked.question}")


def test_the_question_of_the_runbook_stands_in_the_note_and_the_notice(
    runbooks: list[Runbook], actions: Actions
) -> None:
    runbook = next(r for r in runbooks if r.name == "TamperingByApi")
    labels = {**SPIKE, "alertname": "SignatureFailures", "service": "bridge", "reason": "tampered"}
    context = Context(START_MS, runbook, actions, AUTOMATIC)
    state = open_incident(1, alert("firing", START_MS, labels), context).state
    rows: list[dict[str, object]] = [{"source": "telegram", "failures": 3}]
    decision = respond(state, Gathered(1, "traces", Evidence(True, START_MS, rows)), context)
    question = "Messages from telegram (3) were altered."
    assert question in notes(decision, "command.held")[0].text
    assert question in next(effect for effect in decision.effects if isinstance(effect, Notice)).text


# The alert that the run is about ends while another of the group still fires ------------------------------------------


@pytest.mark.parametrize("cause", ["cleared", "no_data"])
def test_a_command_is_never_made_from_the_labels_of_an_alert_that_has_ended(play: Play, cause: str) -> None:
    play.on(Alerted(alert("firing", START_MS + 5, METRICS)))
    play.on(Alerted(alert("resolved", START_MS + 20, cause=cause)))
    play.gather()
    assert play.state.attempt == 2
    assert play.state.alert.labels == METRICS
    assert len(play.sent) == 1
    assert play.kinds.count("incident.restarted") == 1


@pytest.mark.parametrize("cause", ["cleared", "no_data"])
def test_an_approval_for_an_alert_that_has_ended_sends_nothing_and_says_so(asking: Play, cause: str) -> None:
    asking.on(Alerted(alert("firing", START_MS + 5, METRICS)))
    asking.gather()
    asking.on(Alerted(alert("resolved", START_MS + 50, cause=cause)))
    decision = asking.on(Decided(asking.command(), True, "ada"))
    assert asking.sent == []
    assert "and not sent" in notes(decision, "command.not_sent")[0].text
    assert (asking.state.attempt, asking.state.alert.labels, asking.state.step) == (2, METRICS, "suspects")


@pytest.mark.parametrize(("cause", "reason"), [("cleared", "trigger_cleared"), ("no_data", "no_data")])
def test_once_something_was_sent_people_take_over_from_an_alert_that_has_ended(
    runbooks: list[Runbook], actions: Actions, cause: str, reason: str
) -> None:
    play = Play(runbooks, actions, AUTOMATIC, "ConnectionOverloadByApi", OVERLOAD)
    play.on(Alerted(alert("firing", START_MS + 5, {**OVERLOAD, "severity": "critical"})))
    play.gather()
    play.on(Reported(outcome(play.command(), "failed", play.now_ms, reason="unexpected_status")))
    assert play.state.awaiting.kind == "approval"
    play.on(Alerted(alert("resolved", play.now_ms, OVERLOAD, cause=cause)))
    decision = play.on(Decided(play.command(), True, "ada"))
    assert (play.state.escalated_reason, len(play.sent)) == (reason, 1)
    assert notes(decision, "command.not_sent")


# Never a second attempt alone, and never in silence -------------------------------------------------------------------


def repaired(play: Play) -> None:
    play.gather()
    play.on(Reported(outcome(play.command(), "succeeded", play.now_ms)))
    play.on(Alerted(alert("resolved", play.now_ms)))
    play.until_due()
    play.gather()
    assert play.state.resolution == "verified"


def test_an_alert_that_comes_back_after_a_repair_is_a_persons(play: Play) -> None:
    repaired(play)
    decision = play.on(Alerted(alert("firing", play.now_ms + 300_000)), 300_000)
    told = [(n.kind, n.to) for n in decision.effects if isinstance(n, Notice)]
    assert told == [("opened", ()), ("notify", ("team-lead",))]
    assert notes(decision, "incident.notified")[0].data["reason"] == "fired_again"
    play.gather()
    assert (play.state.attempt, play.state.awaiting.kind, len(play.sent)) == (2, "approval", 1)


def test_an_alert_that_fires_again_while_the_proof_is_gathered_is_not_repaired(play: Play) -> None:
    play.gather()
    play.on(Reported(outcome(play.command(), "succeeded", play.now_ms)))
    play.on(Alerted(alert("resolved", play.now_ms)))
    play.until_due()
    play.on(Alerted(alert("firing", play.now_ms)))
    play.gather()
    assert play.state.escalated_reason == "ineffective_still_firing"
    assert "verify.succeeded" not in play.kinds


def test_what_came_back_stays_a_persons_when_it_clears_and_fires_once_more(play: Play) -> None:
    repaired(play)
    for state in ("firing", "resolved"):
        play.on(Alerted(alert(state, play.now_ms + 1_000)), 1_000)
    play.until_due()
    play.on(Alerted(alert("firing", play.now_ms + 1_000)), 1_000)
    play.gather()
    assert (play.state.attempt, play.state.awaiting.kind, len(play.sent)) == (3, "approval", 1)


def test_a_priority_raised_while_people_are_waited_for_is_told(asking: Play) -> None:
    asking.gather()
    decision = asking.on(Alerted(alert("firing", asking.now_ms, {**METRICS, "severity": "critical"})))
    [notice] = [effect for effect in decision.effects if isinstance(effect, Notice)]
    assert (notice.priority, notice.kind, notice.command) == ("P1", "held", asking.command())
    assert notice.text.startswith("priority raised from P2 to P1; still to be decided: mallory (on telegram)")


def test_an_alert_that_joins_an_incident_that_waits_for_people_is_told(play: Play) -> None:
    play.on(Gathered(1, "suspects", Evidence(False, START_MS, error="down")))
    decision = play.on(Alerted(alert("firing", play.now_ms, METRICS)))
    [notice] = [effect for effect in decision.effects if isinstance(effect, Notice)]
    assert 'PolicyViolationSpike{signal="metrics"} fires too' in notice.text


def test_an_answer_that_never_comes_is_failed_evidence(play: Play) -> None:
    decision = play.until_due()
    assert notes(decision, "evidence.failed")[0].text == "suspects: could not be found out: no answer came in time"
    assert (play.state.awaiting.kind, play.state.escalated_reason) == ("people", "investigation_failed")


@pytest.mark.parametrize("status", ["refused", "expired"])
def test_a_command_that_was_never_tried_does_not_lead_to_what_is_for_a_failed_one(
    runbooks: list[Runbook], actions: Actions, status: str
) -> None:
    play = Play(runbooks, actions, AUTOMATIC, "ConnectionOverloadByApi", OVERLOAD)
    play.gather()
    play.on(Reported(outcome(play.command(), status, play.now_ms)))
    assert (play.state.awaiting.kind, play.state.escalated_reason) == ("people", f"command_{status}")


def test_texts_are_for_people(play: Play) -> None:
    play.on(Alerted(alert("firing", START_MS + 5, METRICS)))
    play.gather()
    decision = play.on(Reported(outcome(play.command(), "succeeded", play.now_ms)))
    waits = notes(decision, "verify.waits")[0].text
    assert waits == "stopped: judges after the rule's window (1m) and stabilisation (20s)"
    assert "suspects: 1 row" in play.texts
    assert 'PolicyViolationSpike{signal="metrics"} fires, value 12' in play.texts
    decision = play.until_due()
    escalated = notes(decision, "incident.escalated")[0].text
    assert escalated.endswith("to be told: team-lead")


def test_an_outcome_after_it_was_given_up_is_noted_and_moves_nothing(play: Play) -> None:
    play.gather()
    command = play.command()
    play.until_due()
    assert "command.unanswered" in play.kinds
    step = play.state.awaiting
    play.on(Reported(outcome(command, "succeeded", START_MS + 900_000)))
    assert play.state.awaiting == step
    assert play.state.actions[0].status == "succeeded"


def test_a_runbook_that_is_no_longer_there_hands_over_to_people(play: Play) -> None:
    play.runbook = None
    play.on(Gathered(1, "suspects", FOUND["suspects"]))
    assert (play.state.awaiting.kind, play.state.escalated_reason) == ("people", "runbook_changed")


def test_a_person_can_acknowledge_comment_and_close(play: Play) -> None:
    play.on(Operated("acknowledge", "ada"))
    play.on(Operated("acknowledge", "bob"))
    play.on(Operated("note", "bob", "it is the new client"))
    play.on(Operated("close", "ada", "known"))
    assert (play.state.acknowledged_by, play.state.status) == ("ada", "closed")
    assert play.state.wake_ms is None
    assert [kind for kind in play.kinds if kind.startswith("incident.")] == [
        "incident.opened",
        "incident.acknowledged",
        "incident.note",
        "incident.closed",
    ]


def test_an_acknowledged_escalation_goes_no_further(play: Play) -> None:
    play.on(Gathered(1, "suspects", Evidence(False, START_MS, error="down")))
    assert play.state.escalation_due_ms == play.now_ms + 4 * 3_600_000
    play.on(Operated("acknowledge", "ada"))
    assert play.state.wake_ms is None


def test_the_next_level_is_told_once(play: Play) -> None:
    play.on(Gathered(1, "suspects", Evidence(False, START_MS, error="down")))
    told = [effect.to for effect in play.until_due().effects if isinstance(effect, Notice)]
    assert told == [("security@your-org.com",)]
    assert play.state.wake_ms is None


# whatever happens ----------------------------------------------------------------------------------------------------

happenings = st.lists(
    st.one_of(
        st.tuples(st.just("firing"), st.sampled_from([SPIKE, METRICS])),
        st.tuples(st.just("cleared"), st.sampled_from([SPIKE, METRICS])),
        st.tuples(st.just("no_data"), st.sampled_from([SPIKE, METRICS])),
        st.tuples(st.just("found"), st.booleans()),
        st.tuples(st.just("decided"), st.booleans()),
        st.tuples(st.just("outcome"), st.sampled_from(["succeeded", "failed", "refused", "expired", "inconclusive"])),
        st.tuples(st.just("due"), st.just(True)),
        st.tuples(st.just("operated"), st.sampled_from(["acknowledge", "close", "note"])),
    ),
    max_size=25,
)


def event_for(play: Play, kind: str, value: object) -> Event | None:
    at_ms, waits = play.now_ms, play.state.awaiting
    if kind == "firing":
        return Alerted(alert("firing", at_ms, value))  # type: ignore[arg-type]  # the strategy draws labels here
    if kind in ("cleared", "no_data"):
        return Alerted(alert("resolved", at_ms, value, cause=kind))  # type: ignore[arg-type]  # as above
    if kind == "found" and isinstance(waits.asked, Investigate):
        return Gathered(play.state.attempt, play.state.step, replace(FOUND[play.state.step], ok=bool(value)))
    if kind == "decided" and isinstance(waits.asked, RequestApproval):
        return Decided(waits.asked.command.id, bool(value), "ada")
    if kind == "outcome" and play.sent:
        return Reported(outcome(play.sent[-1], str(value), at_ms))
    if kind == "due" and play.state.wake_ms is not None:
        play.now_ms = max(play.now_ms, play.state.wake_ms)
        return TimerDue()
    if kind == "operated":
        return Operated(value, "ada", "x")  # type: ignore[arg-type]  # the strategy draws the kind here
    return None


@settings(max_examples=300)
@given(happenings, st.booleans())
def test_whatever_happens_the_promises_hold(
    runbooks: list[Runbook], actions: Actions, course: list[tuple[str, object]], automatic: bool
) -> None:
    play = Play(runbooks, actions, AUTOMATIC if automatic else Policy())
    for kind, value in course:
        play.now_ms += 1_000
        event = event_for(play, kind, value)
        if event is None:
            continue
        before, sent = play.state, len(play.sent)
        decision = play.on(event, 0)
        assert respond(before, event, play.context()) == decision, "the same event in the same state decides the same"
        state = play.state
        assert msgspec.json.decode(msgspec.json.encode(state), type=IncidentState) == state
        if len(play.sent) > sent:
            assert state.alert.standing == "firing", "nothing is repaired that is not broken"
            assert not before.escalated_reason or before.status == "resolved"
        again = play.take(respond(play.state, event, play.context()))
        assert not any(isinstance(effect, Send) for effect in again.effects), "an event said twice sends nothing"
        if state.status == "open":
            waits = state.awaiting
            assert waits.kind != "nothing"
            assert waits.due_ms is not None or waits.asked is not None or waits.kind in ("people", "clear")
        if state.status == "resolved" and before.status == "open":
            assert all(a.standing == "cleared" for a in state.alerts.values()), "no data is never a repair"
    assert len(play.sent) == len(set(play.sent)), "one decision, one command"
    by_attempt = [action.attempt for action in play.state.actions]
    assert len(by_attempt) == len(set(by_attempt)), "one automatic attempt is enough"
