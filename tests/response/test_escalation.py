"""Whom an incident is escalated to: a chain for each priority, a default for all runbooks, business hours.

```
 P2   escalated ─ lead ─────────── 4h ─────────── boss
 P1   escalated ─ on-call ─ 1h ─ boss
 P0   escalated ─ on-call, boss ─ 15m ─ devops
                                    └ the priority rises: what is due of the new chain is told at once
```
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from engine.actions import load_actions
from engine.core.labels import parse_matcher
from engine.edge.runbook_settings import unknown_receivers
from engine.edge.settings_notify import NotifySettings
from engine.loading import load, load_texts
from engine.response.hours import Hours
from engine.response.incident import open_incident, respond
from engine.response.model import Alerted, Context, Decision, Notice, Operated, RequestApproval, TimerDue
from engine.response.runbook import load_runbooks
from engine.response.silences import Mutes, Silence
from engine.response.steps import Chain, Priority
from tests.response.conftest import START_MS, alert

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
CHAINS = """{
      P0: [{to: [on-call, boss]}, {to: devops, after: 15m}],
      P1: [{to: on-call}, {to: boss, after: 1h}],
      default: [{to: lead}, {to: boss, after: 4h}]}"""
BOOK = f"""\
runbooks:
  - name: Slow
    match: ['alertname="Slow"']
    priority: {{critical: P0, warning: P1, default: P2}}
    escalation: {CHAINS}
    steps: [STEPS]
"""
TELL = "{name: tell, escalate: {text: is slow}}"
ASK = (
    "{name: restart, ask: {action: http.request, target: a, question: 'Restart?', expires: 12h, "
    "params: {method: POST, path: /, check: {path: /, expect: 'true'}}}}, {name: well, verify: {}}"
)
Told = list[tuple[str, tuple[str, ...]]]


class Play:
    """An incident of the runbook above, whose alert is of some severity."""

    def __init__(self, severity: str = "info", steps: str = TELL, hours: Mapping[str, Hours] | None = None) -> None:
        [runbook], problems = load_runbooks(BOOK.replace("STEPS", steps), "book.yml", actions=load_actions())
        assert problems == []
        self.context = Context(START_MS, runbook, load_actions(), hours=hours or {})
        self.first = self.take(open_incident(1, self.fires(severity), self.context))

    def fires(self, severity: str) -> object:
        return alert("firing", self.context.now_ms, {"alertname": "Slow", "severity": severity})

    def take(self, decision: Decision) -> Told:
        self.state = decision.state
        return [(one.kind, one.to) for one in decision.effects if isinstance(one, Notice) and one.to]

    def on(self, event: object, after_ms: int = 10) -> Told:
        self.context = replace(self.context, now_ms=self.context.now_ms + after_ms)
        return self.take(respond(self.state, event, self.context))

    def rises(self, severity: str, after_ms: int = 10) -> Told:
        """Another alert of the incident fires, and it is worse."""
        self.context = replace(self.context, now_ms=self.context.now_ms + after_ms)
        return self.take(respond(self.state, Alerted(self.fires(severity)), self.context))

    def due_in_ms(self) -> int | None:
        due_ms = self.state.escalation_due_ms
        return None if due_ms is None else due_ms - START_MS


@pytest.mark.parametrize(
    ("severity", "priority", "first", "after_ms", "second"),
    [
        ("critical", "P0", ("on-call", "boss"), 15 * MINUTE_MS, ("devops",)),
        ("warning", "P1", ("on-call",), HOUR_MS, ("boss",)),
        ("info", "P2", ("lead",), 4 * HOUR_MS, ("boss",)),
    ],
)
def test_each_priority_has_its_own_chain(
    severity: str, priority: Priority, first: tuple[str, ...], after_ms: int, second: tuple[str, ...]
) -> None:
    play = Play(severity)
    assert (play.state.priority, play.first) == (priority, [("escalate", first)])
    assert play.on(TimerDue(), after_ms - 1) == []
    assert play.on(TimerDue(), 1) == [("escalate", second)]
    assert play.state.escalation_due_ms is None


@pytest.mark.parametrize(
    ("rises", "after_ms", "told", "next_ms"),
    [
        # P2 to P1: on-call at once; boss an hour after the escalation, or at once if that is over
        ("warning", 10 * MINUTE_MS, ("on-call",), HOUR_MS),
        ("warning", 90 * MINUTE_MS, ("on-call", "boss"), None),
        # P2 to P0: on-call and boss; devops after 15 minutes, or at once; nobody is named twice
        ("critical", 10 * MINUTE_MS, ("on-call", "boss"), 15 * MINUTE_MS),
        ("critical", 15 * MINUTE_MS, ("on-call", "boss", "devops"), None),
        ("critical", 5 * HOUR_MS, ("on-call", "boss", "devops"), None),
    ],
)
def test_when_the_priority_rises_what_is_due_of_its_chain_is_told_at_once(
    rises: str, after_ms: int, told: tuple[str, ...], next_ms: int | None
) -> None:
    play = Play()
    assert play.rises(rises, after_ms)[0] == ("escalate", told)
    assert play.due_in_ms() == next_ms


def test_it_may_rise_twice_and_each_time_is_told_once() -> None:
    play = Play()
    assert play.rises("warning")[0] == ("escalate", ("on-call",))
    assert ("escalate", ("on-call",)) not in play.rises("warning")  # it has not risen again
    assert play.rises("critical")[0] == ("escalate", ("on-call", "boss"))
    assert play.on(TimerDue(), 15 * MINUTE_MS) == [("escalate", ("devops",))]


def test_once_somebody_has_acknowledged_only_the_first_level_hears_that_it_has_risen() -> None:
    play = Play()
    play.on(Operated("acknowledge", "ada"))
    assert play.rises("critical", HOUR_MS)[0] == ("escalate", ("on-call", "boss"))
    assert play.due_in_ms() is None


def test_while_only_a_question_is_open_those_of_the_new_priority_are_asked_too() -> None:
    play = Play(steps=ASK)
    assert play.first == [("held", ("lead",))]
    assert play.rises("critical", HOUR_MS) == [("held", ("on-call", "boss"))]
    asked = play.state.awaiting.asked
    assert isinstance(asked, RequestApproval)
    assert play.state.escalation_due_ms is None  # nobody's acknowledgement is waited for yet


def test_who_has_heard_of_nothing_hears_of_no_priority() -> None:
    play = Play(steps="{name: rest, wait: 1h}, " + TELL)
    assert play.rises("critical") == []
    assert play.on(TimerDue(), HOUR_MS) == [("escalate", ("on-call", "boss"))]


def test_a_silence_keeps_the_rise_quiet() -> None:
    play = Play()
    matcher = (parse_matcher('alertname="Slow"'),)
    quiet = Silence("s1", matcher, START_MS, START_MS + 10 * HOUR_MS, "ada", "known")
    play.context = replace(play.context, mutes=Mutes((quiet,)))
    assert play.rises("critical") == []
    assert (play.state.priority, play.state.held) == ("P0", True)


# business hours: the day of START_MS, and hours that have begun or not

NOW = dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC)


def shift(begins_h: int, ends_h: int) -> Hours:
    """Every day, so many hours after the time at which the incident is opened."""
    begin, end = (NOW + dt.timedelta(hours=hour) for hour in (begins_h, ends_h))
    return Hours(frozenset(range(7)), begin.time(), end.time())


@pytest.mark.parametrize(
    ("hours", "due_h"),
    [
        ({}, 4),
        ({"lead": shift(0, 8)}, 4),
        ({"lead": shift(-7, 1)}, 1 + 16 + 3),  # an hour today, and three tomorrow
        ({"lead": shift(2, 10)}, 2 + 4),
        ({"boss": shift(2, 10)}, 4),  # whom it is for next does not matter: that notice waits for itself
    ],
)
def test_the_next_level_is_told_when_the_one_before_had_its_time_within_its_hours(
    hours: Mapping[str, Hours], due_h: int
) -> None:
    play = Play(hours=hours)
    assert play.due_in_ms() == due_h * HOUR_MS
    assert play.on(TimerDue(), due_h * HOUR_MS) == [("escalate", ("boss",))]


def test_an_urgent_incident_does_not_wait_for_anybodys_hours() -> None:
    play = Play("warning", hours={"on-call": shift(2, 10)})
    assert play.due_in_ms() == HOUR_MS


def test_with_the_priority_the_time_begins_to_go_by() -> None:
    play = Play(hours={"lead": shift(10, 12)})
    assert play.due_in_ms() == (10 + 2 + 22 + 2) * HOUR_MS
    assert play.rises("warning", 30 * MINUTE_MS)[0] == ("escalate", ("on-call",))
    assert play.due_in_ms() == HOUR_MS


# what stands in the files


def chains(text: str) -> dict[str, Chain]:
    [runbook], problems = load_runbooks(text, "book.yml", actions=load_actions())
    assert problems == []
    return {one: runbook.escalation.chain(one) for one in ("P0", "P1", "P2", "P3")}


def test_a_list_is_for_every_priority() -> None:
    found = chains(BOOK.replace(CHAINS, "[{to: on-call}]").replace("STEPS", TELL))
    assert {level.to for chain in found.values() for level in chain} == {("on-call",)}


def test_with_a_chain_for_every_priority_there_need_be_no_default() -> None:
    every = "{P0: [{to: a}], P1: [{to: b}], P2: [{to: c}], P3: [{to: d}]}"
    found = chains(BOOK.replace(CHAINS, every).replace("STEPS", TELL))
    assert [chain[0].to for chain in found.values()] == [("a",), ("b",), ("c",), ("d",)]


@pytest.mark.parametrize(
    ("escalation", "said"),
    [
        ("{P1: [{to: a}]}", "5:17: error: `escalation` per priority needs a `default`, or a chain for P0, P2, P3"),
        ("{}", "5:17: error: `escalation` per priority needs a `default`, or a chain for P0, P1, P2, P3"),
        ("{P4: [{to: a}], default: [{to: a}]}", "5:18: error: unknown key 'P4' in `escalation`"),
        ("{default: []}", "5:27: error: `escalation` is a list with at least one level"),
        ("{P0: {to: a}, default: [{to: a}]}", "5:22: error: `escalation` is a list with at least one level"),
        ("{default: [{to: a, after: 1h}]}", "5:36: error: the first level of `escalation` is told at once"),
        ("{default: [{to: a}, {to: b}]}", "5:37: error: a later level of `escalation` says `after`"),
        ("{default: [{to: a}, {to: b, after: soon}]}", "5:52: error: "),
        ("on-call", "5:17: error: `escalation` is a list with at least one level"),
    ],
)
def test_what_is_wrong_with_an_escalation_is_said_with_its_place(escalation: str, said: str) -> None:
    text = BOOK.replace(CHAINS, escalation).replace("STEPS", TELL)
    runbooks, problems = load_runbooks(text, "book.yml", actions=load_actions())
    assert runbooks == []
    assert [str(one).startswith(f"book.yml:{said}") for one in problems] == [True], problems


WITHOUT = f"runbooks:\n  - {{name: A, match: ['alertname=\"A\"'], priority: P2, steps: [{TELL}]}}\n"
OWN = WITHOUT.replace("name: A,", "name: B, escalation: [{to: own}],").replace('"A"', '"B"')
DEFAULTS = "defaults:\n  escalation: {P0: [{to: boss}], default: [{to: lead}]}\n"


@pytest.mark.parametrize("names", [("a.yml", "z.yml"), ("z.yml", "a.yml")])
def test_the_default_is_for_all_runbooks_that_are_loaded_and_a_runbooks_own_wins(
    names: tuple[str, str], tmp_path: Path
) -> None:
    for name, text in zip(names, (WITHOUT + OWN.removeprefix("runbooks:\n"), DEFAULTS), strict=True):
        (tmp_path / name).write_text(text)
    loaded = load([tmp_path])
    assert loaded.errors == []
    first, second = ([book.escalation.chain(one)[0].to[0] for one in ("P0", "P3")] for book in loaded.runbooks)
    assert (first, second) == (["boss", "lead"], ["own", "own"])
    again = load_texts(loaded.texts)  # as a bundle has them
    assert [book.escalation.by_priority for book in again.runbooks] == [
        book.escalation.by_priority for book in loaded.runbooks
    ]


def test_a_file_may_have_its_own_runbooks_and_the_default() -> None:
    [runbook], problems = load_runbooks(DEFAULTS + WITHOUT, "book.yml", actions=load_actions())
    assert (problems, runbook.escalation.chain("P2")[0].to) == ([], ("lead",))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.yml": WITHOUT}, "a.yml:2:1: error: runbook 'A' has no `escalation`, and no file loaded with it has one"),
        ({"a.yml": DEFAULTS, "b.yml": DEFAULTS + WITHOUT}, "b.yml:1:1: error: `defaults` stands in a.yml already"),
        ({"a.yml": "defaults: {limits: {}}\n" + OWN}, "a.yml:1:12: error: unknown key 'limits' in `defaults`"),
        ({"a.yml": "defaults: {escalation: []}\n" + OWN}, "a.yml:1:24: error: `escalation` is a list with at least"),
        ({"a.yml": "runbooks: 3\n"}, "a.yml:1:11: error: `runbooks` is a list of runbooks"),
    ],
)
def test_what_is_wrong_with_the_default_is_said_with_its_place(files: dict[str, str], said: str) -> None:
    problems = [str(one) for one in load_texts(files).problems]
    assert any(one.startswith(said) for one in problems), problems


def test_somebody_whom_nobody_can_tell_is_said_once_and_where_the_default_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(WITHOUT + WITHOUT.replace("A", "B").removeprefix("runbooks:\n"))
    (tmp_path / "defaults.yml").write_text(DEFAULTS)
    settings = NotifySettings.model_validate({"receivers": {"boss": {"pagerduty": {"routing_key": "x"}}}})
    [problem] = unknown_receivers(load([tmp_path]).runbooks, settings)
    assert str(problem).startswith(f"{tmp_path / 'defaults.yml'}:2:49: error: nobody is called 'lead'")
