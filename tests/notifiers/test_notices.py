"""Which notices an incident gives, and to whom; and what it does when somebody could not be reached.

```
 opened ── notify ── escalate(1) ── escalate(2) ... ── acknowledged ── resolved
              └ held ── decided
```
"""

from __future__ import annotations

import pytest

from engine.actions import load_actions
from engine.core.labels import parse_matcher
from engine.response.incident import open_incident, respond
from engine.response.model import (
    Alerted,
    Context,
    Decided,
    Decision,
    Event,
    IncidentState,
    Merged,
    Notice,
    Operated,
    TimerDue,
)
from engine.response.runbook import load_runbooks
from engine.response.silences import Mutes, Silence
from engine.response.steps import Runbook
from tests.notifiers.site import LABELS, MINUTE_MS, RUNBOOKS
from tests.response.conftest import START_MS, alert

Told = list[tuple[str, tuple[str, ...], str]]
BOOKS = load_runbooks(RUNBOOKS, "book.yml", actions=load_actions())[0]


class Play:
    """An incident of one of the runbooks, driven event by event."""

    def __init__(self, name: str) -> None:
        self.runbook: Runbook = next(book for book in BOOKS if book.name == name)
        self.labels = LABELS | {"alertname": "Down" if name == "Down" else "Attack"}
        self.now_ms = START_MS
        self.opened = told(self.take(open_incident(1, alert("firing", START_MS, self.labels), self.context())))

    def context(self) -> Context:
        return Context(self.now_ms, self.runbook, load_actions())

    def take(self, decision: Decision) -> Decision:
        self.state: IncidentState = decision.state
        return decision

    def on(self, event: Event, after_ms: int = 10) -> Told:
        self.now_ms += after_ms
        return told(self.take(respond(self.state, event, self.context())))

    @property
    def asked(self) -> str:
        asked = self.state.awaiting.asked
        assert asked is not None
        return asked.command.id  # type: ignore[union-attr]  # it waits for a decision


def told(decision: Decision) -> Told:
    return [(one.kind, one.to, one.text) for one in decision.effects if isinstance(one, Notice)]


def ids(decision: Decision) -> list[str]:
    return [one.id for one in decision.effects if isinstance(one, Notice)]


@pytest.fixture
def down() -> Play:
    return Play("Down")


@pytest.fixture
def held() -> Play:
    return Play("Block")


def test_an_opening_comes_first_then_what_the_runbook_says(down: Play) -> None:
    assert down.opened == [
        ("opened", (), "bridge is down"),
        ("notify", ("ops",), "looks at bridge"),
        ("escalate", ("on-call",), "needs a person"),
    ]


def test_a_command_that_is_held_is_told_with_its_id(held: Play) -> None:
    [_, (kind, to, text)] = held.opened
    assert (kind, to) == ("held", ("ops",))
    question = 'POST /block {"user_id":"mallory"} on openclaw (http.request)?'
    assert text == f"to be decided until 2027-01-15 08:15:00 UTC: {question}"


@pytest.mark.parametrize(("approved", "word"), [(True, "approved"), (False, "denied")])
def test_a_decision_is_told_to_those_who_were_asked(held: Play, approved: bool, word: str) -> None:
    command = held.asked
    decision = respond(held.state, Decided(command, approved, "ada"), held.context())
    first = next(effect for effect in decision.effects if isinstance(effect, Notice))
    assert (first.kind, first.to, first.command) == ("decided", (), command)
    assert first.text.endswith(f": {word} by ada")


def test_a_question_that_nobody_answers_in_time_is_closed_before_people_are_called(held: Play) -> None:
    [decided, escalated] = held.on(TimerDue(), 15 * MINUTE_MS)
    assert (decided[0], escalated[:2]) == ("decided", ("escalate", ("ops",)))


def test_a_question_that_is_taken_back_says_so(held: Play) -> None:
    [decided] = held.on(Alerted(alert("resolved", held.now_ms + 10, held.labels)))
    assert decided == ("decided", (), "no longer to be decided: alert cleared")


def test_an_acknowledgement_and_an_end_are_told_once(down: Play) -> None:
    assert down.on(Operated("acknowledge", "ada")) == [("acknowledged", (), "acknowledged by ada")]
    assert down.on(Operated("acknowledge", "bob")) == []
    assert down.on(Alerted(alert("resolved", down.now_ms + 10, down.labels))) == []
    assert down.on(TimerDue(), MINUTE_MS) == [("resolved", (), "cleared, and stays so, after it was escalated")]


def test_a_closing_is_an_end(down: Play) -> None:
    assert down.on(Operated("close", "ada", "a drill")) == [("resolved", (), "closed by ada: a drill")]


def test_an_incident_that_is_opened_again_is_told_of_again_under_other_ids(down: Play) -> None:
    down.on(Alerted(alert("resolved", down.now_ms + 10, down.labels)))
    down.on(TimerDue(), MINUTE_MS)
    down.now_ms += MINUTE_MS
    first = ids(open_incident(1, alert("firing", START_MS, down.labels), down.context()))
    again = respond(down.state, Alerted(alert("firing", down.now_ms, down.labels)), down.context())
    assert [kind for kind, _, _ in told(again)] == ["opened", "notify", "escalate"]
    assert not set(first) & set(ids(again))


# Silences ------------------------------------------------------------------------------------------------------------


def silenced() -> Context:
    quiet = Silence("s1", (parse_matcher('service="bridge"'),), 0, START_MS + MINUTE_MS, "ada", "planned")
    return Context(START_MS, next(book for book in BOOKS if book.name == "Down"), load_actions(), mutes=Mutes((quiet,)))


def test_of_what_is_silenced_nobody_hears_first(down: Play) -> None:
    opened = open_incident(1, alert("firing", START_MS, down.labels), silenced())
    assert told(opened) == []


def test_who_was_told_before_a_silence_hears_of_the_end(down: Play) -> None:
    closed = respond(down.state, Operated("close", "ada", "planned"), silenced())
    assert told(closed) == [("resolved", (), "closed by ada: planned")]


def test_an_undelivered_call_goes_on_when_the_silence_is_over(down: Play) -> None:
    late = respond(down.state, Operated("undelivered", "notifier", "on-call could not be told"), silenced())
    assert (told(late), late.state.escalation_due_ms) == ([], START_MS + MINUTE_MS)


# Merging -------------------------------------------------------------------------------------------------------------


def test_an_incident_that_is_merged_ends_for_those_who_were_told_of_it(down: Play) -> None:
    assert down.on(Merged(7, "ada")) == [("resolved", (), "merged by ada into incident 7")]


def test_an_incident_that_a_person_opens_again_is_told_of_again(down: Play) -> None:
    down.on(Operated("close", "ada"))
    assert down.on(Operated("reopen", "bob")) == [("opened", (), "opened again by bob")]


# Somebody could not be reached ---------------------------------------------------------------------------------------


def test_who_cannot_be_reached_is_not_waited_for(down: Play) -> None:
    assert down.on(Operated("undelivered", "notifier", "on-call could not be told: HTTP 503")) == [
        ("escalate", ("lead",), "on-call could not be told: HTTP 503; to be told: lead")
    ]
    assert down.state.escalation_due_ms == down.now_ms + 30 * MINUTE_MS
    assert down.on(TimerDue(), 30 * MINUTE_MS)[0][:2] == ("escalate", ("boss@example.org",))
    assert down.on(Operated("undelivered", "notifier", "boss could not be told")) == []


def test_who_cannot_be_asked_about_a_command_is_not_waited_for_either(held: Play) -> None:
    assert held.on(Operated("undelivered", "notifier", "ops could not be told")) == [
        ("escalate", ("lead",), "ops could not be told; to be told: lead")
    ]
    assert held.state.awaiting.kind == "approval"


@pytest.mark.parametrize("before", [Operated("acknowledge", "ada"), Operated("close", "ada", "done")])
def test_once_somebody_has_it_or_it_is_over_nobody_else_is_told(down: Play, before: Operated) -> None:
    down.on(before)
    assert down.on(Operated("undelivered", "notifier", "on-call could not be told")) == []
