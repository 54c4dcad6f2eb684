"""The account of a day in observe mode: what would have been done, and what guardrails would have made of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from engine.core.messages import Command, Target
from engine.response.account import DayAccount, IncidentOfDay, account, day_bounds_ms, render_account
from engine.response.audit import AuditRow
from engine.response.guardrails import ModeRule, Policy
from engine.response.model import Notice
from engine.response.steps import Actions, Runbook
from tests.response.test_incident import Play

DAY = dt.date(2026, 11, 24)
DAY_MS, _ = day_bounds_ms(DAY)
OBSERVING = Policy(modes=(ModeRule("observe", "*"),))


def observed(seq: int, at_ms: int, incident: int, target: str = "aureus/deployment/bridge", **more: Any) -> AuditRow:
    command = Command(
        id=f"c{seq}",
        incident=incident,
        rule="g/r",
        runbook="ServiceDown",
        step="restart",
        action="kubernetes.rollout_restart",
        target=Target("kubernetes", target),
        params={},
        severity="critical",
        issued_ms=DAY_MS + at_ms,
        expires_ms=DAY_MS + at_ms + 60_000,
    )
    data = {"body": msgspec.to_builtins(command), "attempt": 1, "cooldown_ms": 600_000, "budget_per_hour": 2, **more}
    return audit(seq, at_ms, "command.observed", incident, **data)


def audit(seq: int, at_ms: int, kind: str, incident: int, actor: str = "responder", **data: Any) -> AuditRow:
    return AuditRow(seq, DAY_MS + at_ms, actor, kind, incident, None, msgspec.json.encode(data).decode(), "", "")


def incident(number: int, runbook: str = "ServiceDown", resolution: str = "cleared", **more: Any) -> IncidentOfDay:
    given = {"title": "down", "status": "resolved" if resolution else "open", "acted": False, **more}
    return IncidentOfDay(number, runbook, resolution=resolution, **given)


def of(rows: list[AuditRow], *incidents: IncidentOfDay) -> DayAccount:
    return account(DAY, list(incidents), rows, Policy())


@pytest.mark.parametrize(
    ("situation", "rows", "refused"),
    [
        ("one alone", [(1, 0, 1)], [""]),
        ("the same target within its cooldown", [(1, 0, 1), (2, 60_000, 2)], ["", "cooldown"]),
        ("the same target later", [(1, 0, 1), (2, 600_000, 2)], ["", ""]),
        (
            "what was refused is not in the way of the next",
            [(1, 0, 1), (2, 1, 2), (3, 600_000, 3)],
            ["", "cooldown", ""],
        ),
    ],
)
def test_guardrails_judge_what_was_observed_as_if_what_was_before_had_been_sent(
    situation: str, rows: list[tuple[int, int, int]], refused: list[str]
) -> None:
    found = of([observed(*row) for row in rows], incident(1), incident(2), incident(3))
    assert [one.refused for one in found.runbooks[0].would] == refused, situation


def test_the_budget_of_the_hour_and_the_storm_brake_are_asked_as_well() -> None:
    spread = [observed(n, n * 100_000, 1, f"aureus/deployment/s{n}") for n in range(1, 4)]
    assert [one.refused for one in of(spread, incident(1)).runbooks[0].would] == ["", "", "budget_spent"]
    storm = [observed(1, 1, 1, "aureus/deployment/s1", storm="6 targets fail at once"), observed(2, 2, 1)]
    assert [one.refused for one in of(storm, incident(1)).runbooks[0].would] == ["storm", ""]


def test_the_account_tells_what_would_have_been_done_what_people_did_and_what_cleared_by_itself() -> None:
    rows = [
        observed(1, 1000, 1),
        observed(2, 61_000, 2),
        audit(3, 90_000, "incident.note", 2, "ada", text="restarted it by hand"),
        audit(4, 95_000, "claim.taken", 2, "executor-1"),
        audit(5, 99_000, "incident.closed", 2, "ada", text="closed by ada: <b>mended</b>"),
        audit(6, 100_000, "command.refused", 3, reason="paused"),
        audit(7, 100_000, "command.outcome", 3, status="succeeded"),
    ]
    found = of(rows, incident(1), incident(2, resolution="closed"), incident(3, "Other", "", acted=True))
    assert (
        render_account(found)
        == """\
# Account of 2026-11-24

3 incidents; 2 commands would have been given, of which a guardrail would have stopped 1; 1 command had an outcome. \
Times are UTC.

## Other

- Incidents: 1 (open 1): #3
- Cleared by themselves, with nothing done: 0 of 1
- Would have been done: nothing
- Refused by guardrails: paused 1
- Was done: succeeded 1
- What people did: nothing that was noted

## ServiceDown

- Incidents: 2 (cleared 1, closed 1): #1, #2
- Cleared by themselves, with nothing done: 1 of 2
- Would have been done: 2
  - 00:00:01 #1: kubernetes.rollout_restart on aureus/deployment/bridge
  - 00:01:01 #2: kubernetes.rollout_restart on aureus/deployment/bridge (a guardrail would have refused it: cooldown: \
kubernetes:aureus/deployment/bridge was acted on 1m ago; the cooldown is 10m)
- What people did:
  - 00:01:30 ada, incident 2: restarted it by hand
  - 00:01:39 ada, incident 2: closed by ada: \\<b>mended\\</b>
"""
    )


def test_a_day_without_incidents_has_an_account_that_says_so() -> None:
    assert render_account(of([])).startswith("# Account of 2026-11-24\n\n0 incidents; 0 commands would")


def test_a_command_that_is_observed_wakes_nobody_and_the_incident_waits_for_the_alert_to_clear(
    runbooks: list[Runbook], actions: Actions
) -> None:
    play = Play(runbooks, actions, OBSERVING)
    decisions = []
    take = play.take
    play.take = lambda decision: (decisions.append(decision), take(decision))[1]  # type: ignore[method-assign]
    play.gather()
    told = [effect for decision in decisions for effect in decision.effects if isinstance(effect, Notice)]
    assert [notice.kind for notice in told] == ["notify"]
    assert "observing only; would have done POST /api/admin/blocklist" in told[0].text
    assert (play.sent, play.state.awaiting.kind, play.state.escalated_reason) == ([], "clear", "")
