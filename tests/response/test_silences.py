"""Silences and maintenance: what they cover and when, and what an incident does meanwhile and afterwards."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.labels import parse_matcher
from engine.core.messages import Command, Target
from engine.response.guardrails import Policy, Request, check
from engine.response.model import Alerted, Context, Decided, Decision, Notice, Operated, Reported, TimerDue
from engine.response.silences import Mute, Mutes, Silence, Window, checked
from engine.response.steps import Actions, Runbook
from tests.response.conftest import SPIKE, START_MS, alert, outcome
from tests.response.test_incident import AUTOMATIC, METRICS, Play, notes

HOUR_MS = 3_600_000
_UPDATES = ("acknowledged", "decided", "resolved")  # to those who were told before
EVERY_DAY = frozenset(range(7))


def silence(*matchers: str, starts_ms: int = START_MS - 1, ends_ms: int = START_MS + HOUR_MS, **more: str) -> Silence:
    asked = tuple(parse_matcher(text) for text in matchers or ('alertname="PolicyViolationSpike"',))
    return Silence("s1", asked, starts_ms, ends_ms, "ada", "load test", **more)  # type: ignore[arg-type]  # tables hold plain strings


def at_ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


# What is muted, and when ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matchers", "now_ms", "muted"),
    [
        (('service="aureus-os"',), START_MS, True),
        (('service="aureus-os"', 'severity="warning"'), START_MS, True),
        (('service="aureus-os"', 'severity="critical"'), START_MS, False),
        (('service=~"aureus"',), START_MS, False),  # anchored, as everywhere
        (('service=~"aureus.*"',), START_MS, True),
        (('service="aureus-os"', 'team=""'), START_MS, True),  # a label that is absent is empty
        (('service!="bridge"', 'signal!~"metrics|"'), START_MS, True),
        (('service="aureus-os"',), START_MS - 2, False),  # has not begun
        (('service="aureus-os"',), START_MS + HOUR_MS - 1, True),
        (('service="aureus-os"',), START_MS + HOUR_MS, False),  # is over
    ],
)
def test_a_silence_covers_the_alerts_that_all_its_matchers_fit_while_it_lasts(
    matchers: tuple[str, ...], now_ms: int, muted: bool
) -> None:
    assert (Mutes((silence(*matchers),)).of(SPIKE, now_ms) is not None) == muted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matchers": ()}, "needs a matcher"),
        ({"matchers": (parse_matcher('team=""'),)}, "fit every alert"),
        ({"matchers": (parse_matcher('team=~".*"'),)}, "fit every alert"),
        ({"matchers": (parse_matcher('team=~"("'),)}, "bad regular expression"),
        ({"ends_ms": START_MS - 1}, "ends after its start"),
        ({"ends_ms": 2**53}, "before the year 10000"),
        ({"by": " "}, "name"),
        ({"comment": ""}, "comment"),
    ],
)
def test_a_silence_that_cannot_be_one_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked(replace(silence(), **changes))


BERLIN = Window("backup", (parse_matcher('service="aureus-os"'),), EVERY_DAY, dt.time(2), 2 * HOUR_MS, "Europe/Berlin")
WEEKEND = replace(BERLIN, weekdays=frozenset({5}), start=dt.time(22), duration_ms=28 * HOUR_MS, timezone="UTC")


@pytest.mark.parametrize(
    ("window", "now", "until"),
    [
        (BERLIN, "2026-01-10T00:59:59+00:00", None),
        (BERLIN, "2026-01-10T01:00:00+00:00", "2026-01-10T04:00:00+01:00"),
        (BERLIN, "2026-07-10T00:00:00+00:00", "2026-07-10T04:00:00+02:00"),  # summer time
        (BERLIN, "2026-01-10T03:00:00+00:00", None),
        # The clocks go from 02:00 to 03:00, and back: two hours pass all the same.
        (BERLIN, "2026-03-29T02:59:59+00:00", "2026-03-29T05:00:00+02:00"),
        (BERLIN, "2026-10-25T01:30:00+00:00", "2026-10-25T03:00:00+01:00"),
        (WEEKEND, "2026-01-10T21:59:00+00:00", None),  # a Saturday
        (WEEKEND, "2026-01-11T12:00:00+00:00", "2026-01-12T02:00:00+00:00"),  # over two midnights
        (WEEKEND, "2026-01-12T01:59:59+00:00", "2026-01-12T02:00:00+00:00"),
        (WEEKEND, "2026-01-12T02:00:00+00:00", None),
    ],
)
def test_a_window_lasts_from_its_local_start_for_the_time_it_says(window: Window, now: str, until: str | None) -> None:
    assert window.until_ms(at_ms(now)) == (at_ms(until) if until else None)


def test_the_mute_that_ends_last_counts_for_one_alert_and_the_first_to_end_for_several() -> None:
    short, long = silence(ends_ms=START_MS + 1000), silence('signal="logs"', kind="maintenance")
    mutes = Mutes((short, long))
    assert mutes.of(SPIKE, START_MS) == Mute("maintenance", "maintenance s1 by ada", long.ends_ms)
    both = mutes.of_all([SPIKE, METRICS], START_MS)
    assert both is not None
    assert both.until_ms == short.ends_ms
    assert mutes.of_all([SPIKE, {"alertname": "Another"}], START_MS) is None
    assert mutes.of_all([], START_MS) is None


# The guardrails -------------------------------------------------------------------------------------------------------

COMMAND = Command(
    "c", 1, "r", "book", "act", "http.request", Target("http", "x"), {}, "warning", START_MS, START_MS + 60_000
)


@pytest.mark.parametrize("reason", ["silenced", "maintenance"])
def test_a_muted_alerts_command_is_refused_by_name_also_when_it_was_approved(reason: str) -> None:
    mute = Mute(reason, "silence s1 by ada", START_MS + 90_000)  # type: ignore[arg-type]  # tables hold plain strings
    request = Request(COMMAND, 1, destructive=False, mute=mute)
    for asked in (request, replace(request, approved=True)):
        verdict = check(asked, AUTOMATIC, (), False, START_MS)
        assert (verdict.decision, verdict.reason) == ("refuse", reason)
        assert verdict.detail == "silence s1 by ada, for another 1m30s"
    assert check(request, AUTOMATIC, (), False, START_MS + 90_000).reason == "expired"


# The incident ---------------------------------------------------------------------------------------------------------


class Muted(Play):
    """An incident with silences."""

    def __init__(
        self,
        runbooks: list[Runbook],
        actions: Actions,
        *silences: Silence,
        policy: Policy = AUTOMATIC,
        labels: Mapping[str, str] = SPIKE,
    ) -> None:
        self.silences = silences
        self.told: list[Notice] = []
        super().__init__(runbooks, actions, policy, labels=labels)

    @property
    def called(self) -> list[Notice]:
        """What somebody was called for, beyond that there is an incident."""
        return [notice for notice in self.told if notice.kind != "opened"]

    def context(self) -> Context:
        return Context(self.now_ms, self.runbook, self.actions, self.policy, mutes=Mutes(self.silences))

    def take(self, decision: Decision) -> Decision:
        self.told += [
            effect for effect in decision.effects if isinstance(effect, Notice) and effect.kind not in _UPDATES
        ]
        return super().take(decision)


@pytest.fixture
def muted(runbooks: list[Runbook], actions: Actions) -> Muted:
    """
    alert     |---firing------------------
    silence  ├───────────── 1 h ───────┤
    """
    return Muted(runbooks, actions, silence())


def test_a_silenced_incident_is_investigated_and_then_held_with_nothing_done_and_nobody_told(muted: Muted) -> None:
    muted.gather()
    assert (muted.sent, muted.told) == ([], [])
    assert set(muted.state.evidence) == {"suspects", "policies"}
    assert (muted.state.awaiting.kind, muted.state.awaiting.due_ms) == ("muted", START_MS + HOUR_MS)
    assert muted.kinds[-2:] == ["command.refused", "incident.held"]
    assert "silenced" in next(text for text in muted.texts if "http.request" in text)


def test_when_the_silence_ends_and_the_alert_still_fires_the_runbook_starts_again_and_acts(muted: Muted) -> None:
    muted.gather()
    muted.until_due()
    assert (muted.state.attempt, muted.state.awaiting.kind) == (2, "evidence")
    assert "incident.unmuted" in muted.kinds
    assert [notice.kind for notice in muted.told] == ["opened"], "those who follow it hear of it now"
    muted.gather()
    assert len(muted.sent) == 1


def test_a_silence_that_is_expired_early_lets_go_at_once_and_a_longer_one_holds_on(muted: Muted) -> None:
    muted.gather()
    longer = silence(ends_ms=START_MS + 2 * HOUR_MS)
    muted.silences = (silence(), longer)
    muted.on(TimerDue())
    assert (muted.state.awaiting.kind, muted.state.awaiting.due_ms) == ("muted", longer.ends_ms)
    assert muted.on(TimerDue()).effects == []
    muted.silences = ()
    muted.on(TimerDue())
    assert muted.state.awaiting.kind == "evidence"


def test_an_alert_that_clears_while_it_is_silenced_is_resolved_without_a_word(muted: Muted) -> None:
    muted.gather()
    muted.on(Alerted(alert("resolved", START_MS + 60_000)), 60_000)
    muted.until_due()
    assert (muted.state.status, muted.state.resolution) == ("resolved", "cleared")
    assert muted.told == []


def test_data_that_vanishes_during_a_silence_is_told_to_people_when_it_ends(muted: Muted) -> None:
    muted.gather()
    muted.on(Alerted(alert("resolved", START_MS + 60_000, cause="no_data")), 60_000)
    assert (muted.told, muted.state.awaiting.kind) == ([], "muted")
    muted.until_due()
    assert [notice.kind for notice in muted.told] == ["escalate"]
    assert (muted.state.escalated_reason, muted.sent) == ("no_data", [])


def test_an_alert_that_is_not_silenced_joins_and_the_runbook_runs_for_it(
    runbooks: list[Runbook], actions: Actions
) -> None:
    play = Muted(runbooks, actions, silence('signal="logs"'))
    play.gather()
    assert play.state.awaiting.kind == "muted"
    play.on(Alerted(alert("firing", START_MS + 50, METRICS)))
    assert (play.state.trigger, play.state.attempt) == (play.state.alert.fingerprint, 2)
    assert play.state.alert.labels == METRICS
    play.gather()
    assert len(play.sent) == 1


def test_a_run_for_a_silenced_alert_turns_to_one_that_is_not_before_it_acts(
    runbooks: list[Runbook], actions: Actions
) -> None:
    play = Muted(runbooks, actions, silence('signal="logs"'))
    play.on(Alerted(alert("firing", START_MS + 50, METRICS)))
    play.gather()
    assert play.state.alert.labels == METRICS
    assert len(play.sent) == 1


def test_an_approval_given_during_a_silence_sends_nothing(runbooks: list[Runbook], actions: Actions) -> None:
    play = Muted(runbooks, actions, policy=Policy())
    play.gather()
    assert [notice.kind for notice in play.called] == ["held"]
    play.silences = (silence(),)
    decision = play.on(Decided(play.command(), True, "ada"))
    assert notes(decision, "command.refused")[0].data["reason"] == "silenced"
    assert (play.sent, play.state.awaiting.kind, len(play.called)) == ([], "muted", 1)


def test_a_command_on_its_way_is_verified_and_its_failure_is_told_after_the_silence(
    runbooks: list[Runbook], actions: Actions
) -> None:
    play = Muted(runbooks, actions)
    play.gather()
    play.silences = (silence(),)
    play.on(Reported(outcome(play.command(), "succeeded", play.now_ms)))
    play.until_due()
    assert (play.state.awaiting.kind, play.called) == ("muted", [])
    assert play.kinds.count("notice.held") == 1
    play.until_due()
    assert [(notice.kind, notice.to) for notice in play.called] == [("notify", ("team-lead",))], (
        "fires again after a repair"
    )
    play.gather()
    assert play.state.awaiting.kind == "approval", "a second try is a person's"


def test_nobody_is_called_up_the_chain_during_a_silence(runbooks: list[Runbook], actions: Actions) -> None:
    play = Muted(runbooks, actions)
    play.on(Alerted(alert("resolved", START_MS + 100, cause="no_data")))
    first = play.state.escalation_due_ms
    assert first is not None
    play.silences = (silence(ends_ms=first + 1000),)
    play.until_due()
    assert (play.state.escalation_due_ms, len(play.called)) == (first + 1000, 1)
    play.until_due()
    assert len(play.called) == 2


def test_what_people_say_counts_also_during_a_silence(muted: Muted) -> None:
    muted.on(Operated("acknowledge", "ada"))
    muted.on(Operated("close", "ada", "planned"))
    assert (muted.state.acknowledged_by, muted.state.status) == ("ada", "closed")


@given(st.lists(st.sampled_from(["gather", "due", "clear", "fire", "lose", "silence", "expire"]), max_size=12))
def test_while_it_is_silenced_nothing_is_sent_and_nobody_is_told(
    runbooks: list[Runbook], actions: Actions, moves: list[str]
) -> None:
    play = Muted(runbooks, actions, silence(ends_ms=START_MS + 10 * HOUR_MS))
    always = play.silences
    for number, move in enumerate(moves, 1):
        play.now_ms += 1000
        before = (len(play.sent), len(play.told))
        quiet = play.silences == always and play.now_ms < always[0].ends_ms
        if move in ("silence", "expire"):
            play.silences = always if move == "silence" else ()
        elif move == "gather":
            play.gather()
        elif move == "due" and play.state.wake_ms is not None:
            play.until_due()
            quiet = quiet and play.now_ms < always[0].ends_ms
        elif move in ("clear", "lose", "fire"):
            cause = {"lose": "no_data", "clear": "cleared", "fire": "condition"}[move]
            state = "firing" if move == "fire" else "resolved"
            play.on(Alerted(alert(state, START_MS + number * 1000, cause=cause)))
        if quiet:
            assert (len(play.sent), len(play.told)) == before, moves[:number]


def test_maintenance_is_named_where_it_held_a_command(runbooks: list[Runbook], actions: Actions) -> None:
    play = Muted(runbooks, actions, silence(kind="maintenance"))
    play.gather()
    assert any("maintenance: maintenance s1 by ada, for another" in text for text in play.texts)
    assert play.state.awaiting.kind == "muted"
