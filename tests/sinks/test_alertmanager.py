"""What an Alertmanager is told, and when: in ASCII timelines, and for any history of transitions."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import AlertState, Transition
from engine.sinks.alertmanager import RESOLVED_KEPT_MS, Book, Deliveries, Policy, postable, requests

RESEND_MS = 60_000
POLICY = Policy(RESEND_MS, {"cluster": "c1", "severity": "low"}, "http://sentinel.example/")
Cause = Literal["condition", "cleared", "no_data", "rule_removed"]


def transition(name: str, state: AlertState, at_ms: int, cause: Cause = "condition") -> Transition:
    return Transition(
        id=f"{name}{state}{at_ms}",
        rule=f"g/{name}",
        alertname=name,
        fingerprint=name,
        labels={"alertname": name, "severity": "page"},
        annotations={"summary": f"{name} {state}"},
        previous="inactive",
        state=state,
        at_ms=at_ms,
        active_since_ms=at_ms,
        value="1",
        cause=cause,
        window_ms=0,
    )


STATES: dict[str, AlertState] = {"p": "pending", "F": "firing", "R": "resolved", "i": "inactive"}


@pytest.mark.parametrize(
    ("happens", "sent", "why"),
    [
        # one character is 20 s; F is sent firing, R resolved; the Alertmanager answers at once
        ("F........", "F..F..F..", "a firing alert is sent at once and again every minute"),
        ("p.F......", "..F..F..F", "a pending one is not sent"),
        ("p.i......", ".........", "nor one that never fired"),
        ("F...R....", "F..FR..R.", "its end is sent at once, and again"),
        ("F.R.F....", "F.R.F..F.", "when it fires again, that is news"),
        ("R........", ".........", "the end of an alert that is not known is nothing"),
        ("F.R.R....", "F.R..R..R", "an end that is said twice is one end"),
    ],
)
def test_an_alert_is_sent(happens: str, sent: str, why: str) -> None:
    book = Book()
    deliveries = Deliveries(book, RESEND_MS)
    seen = ""
    for step, what in enumerate(happens):
        now_ms = step * 20_000
        if what in STATES:
            book.note(transition("A", STATES[what], now_ms, "cleared" if what in "Ri" else "condition"), now_ms)
        due = deliveries.due(now_ms)
        seen += {0: ".", 1: "F" if due and due[0].ended_ms is None else "R"}[len(due)]
        deliveries.told(due, now_ms)
    assert seen == sent, why


def test_a_resolved_alert_is_repeated_for_fifteen_minutes_and_then_forgotten() -> None:
    book = Book()
    deliveries = Deliveries(book, RESEND_MS)
    book.note(transition("A", "firing", 0), 0)
    book.note(transition("A", "resolved", 5_000, "cleared"), 5_000)
    times = []
    for now_ms in range(5_000, RESOLVED_KEPT_MS + 300_000, 1_000):
        book.forget_ended(now_ms)
        if due := deliveries.due(now_ms):
            times.append(now_ms)
            deliveries.told(due, now_ms)
    assert times == list(range(5_000, RESOLVED_KEPT_MS + 5_000, RESEND_MS))
    assert len(book) == 0


def test_one_that_was_away_is_told_what_is_true_when_it_is_back() -> None:
    """
    A        F......R.....      it fired and ended meanwhile: the end
    B        ...F.........      it fires: that
    C        F..R...F.....      it fires again: only that
    """
    book = Book()
    here, away = Deliveries(book, RESEND_MS), Deliveries(book, RESEND_MS)
    for name, state, at_ms in (
        ("A", "firing", 0),
        ("C", "firing", 0),
        ("B", "firing", 3_000),
        ("C", "resolved", 3_000),
        ("A", "resolved", 7_000),
        ("C", "firing", 7_000),
    ):
        book.note(transition(name, STATES[{"firing": "F", "resolved": "R"}[state]], at_ms, "cleared"), at_ms)
        here.told(here.due(at_ms), at_ms)
    assert {entry.key[1]: entry.ended_ms for entry in away.due(9_000)} == {"A": 7_000, "B": None, "C": None}
    assert here.due(9_000) == []
    assert here.next_ms() == 63_000
    assert away.next_ms() is None


def test_after_a_start_only_what_fires_is_sent() -> None:
    book = Book()
    for name in "AB":
        book.note(transition(name, "firing", 0), 0)
    book.note(transition("A", "resolved", 5, "cleared"), 5)
    book.forget_ended()
    assert [entry.key[1] for entry in Deliveries(book, RESEND_MS).due(10)] == ["B"]


def test_what_is_said_twice_or_too_late_changes_nothing() -> None:
    book = Book()
    deliveries = Deliveries(book, RESEND_MS)
    history = [transition("A", "firing", 1_000), transition("A", "resolved", 2_000), transition("A", "firing", 3_000)]
    for one in history:
        book.note(one, 3_000)
    deliveries.told(deliveries.due(3_000), 3_000)
    for one in history:
        book.note(one, 4_000)
    assert deliveries.due(4_000) == []
    assert [entry.fired_ms for entry in book.entries] == [3_000]


def test_a_firing_alert_on_the_wire() -> None:
    book = Book()
    book.note(transition("A", "firing", 1_500), 2_000)
    [entry] = book.entries
    assert postable(entry, POLICY, 2_000) == {
        "labels": {"alertname": "A", "cluster": "c1", "severity": "page"},
        "annotations": {"summary": "A firing"},
        "startsAt": "1970-01-01T00:00:01.500Z",
        "endsAt": "1970-01-01T00:04:02.000Z",
        "generatorURL": "http://sentinel.example/",
    }


@pytest.mark.parametrize(
    ("cause", "annotations"),
    [
        ("cleared", {"summary": "A resolved"}),
        ("no_data", {"summary": "A resolved", "end_cause": "no_data"}),
        ("rule_removed", {"summary": "A resolved", "end_cause": "rule_removed"}),
    ],
)
def test_an_end_that_is_no_all_clear_says_so(cause: Cause, annotations: dict[str, str]) -> None:
    book = Book()
    book.note(transition("A", "firing", 1_000), 1_000)
    book.note(transition("A", "resolved", 9_000, cause), 9_500)
    [entry] = book.entries
    sent = postable(entry, POLICY, 9_500)
    assert (sent["endsAt"], sent["annotations"]) == ("1970-01-01T00:00:09.000Z", annotations)


def test_event_times_ahead_of_the_clock_are_sent_as_now() -> None:
    book = Book()
    book.note(transition("A", "firing", 60_000), 0)
    book.note(transition("A", "resolved", 70_000, "cleared"), 0)
    [entry] = book.entries
    sent = postable(entry, POLICY, 5_000)
    assert (sent["startsAt"], sent["endsAt"]) == ("1970-01-01T00:00:05.000Z", "1970-01-01T00:00:05.000Z")


def test_a_request_holds_64_alerts_at_most() -> None:
    book = Book()
    for number in range(130):
        book.note(transition(f"A{number}", "firing", 0), 0)
    due = Deliveries(book, RESEND_MS).due(0)
    assert [len(one) for one in requests(due)] == [64, 64, 2]
    assert [entry for one in requests(due) for entry in one] == due


def test_of_too_many_alerts_the_one_that_changed_longest_ago_is_let_go_and_counted() -> None:
    book = Book(most=2)
    assert [book.note(transition(name, "firing", step), step) for step, name in enumerate("ABAC")] == [0, 0, 0, 1]
    assert [entry.key[1] for entry in book.entries] == ["A", "C"]


_history = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["firing", "resolved", "pending", "inactive"]), st.booleans()),
    max_size=30,
)


@given(_history)
def test_whatever_happens_and_whenever_it_is_away_at_last_it_knows_what_is_true(
    history: list[tuple[str, AlertState, bool]],
) -> None:
    book = Book()
    deliveries = Deliveries(book, RESEND_MS)
    fires: dict[str, bool] = {}
    knows: dict[str, bool] = {}
    for step, (name, state, is_there) in enumerate([*history, ("Z", "inactive", True)]):
        book.note(transition(name, state, step, "cleared"), step)
        if state in ("firing", "resolved"):
            fires[name] = state == "firing"
        if is_there:
            due = deliveries.due(step)
            knows.update((entry.key[1], entry.ended_ms is None) for entry in due)
            deliveries.told(due, step)
    assert {name for name, yes in knows.items() if yes} == {name for name, yes in fires.items() if yes}
    assert deliveries.due(len(history)) == []
