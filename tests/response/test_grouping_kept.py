"""Grouping on a real PostgreSQL: alerts find the incident that explains them, and incidents one another.

```
 DatabaseFailure        |──────opened──────────────resolved
 HighLatency       |─1──▶ merged into 2 ····· fires ····|──3──▶
 HighErrorRate               |·····joins·····x
```
"""

from __future__ import annotations

import pytest

from engine.console.model import OperatorRefusedError, Said
from engine.edge import incidents
from engine.edge.console_store import PostgresStore
from engine.edge.responder import Responder
from engine.response.guardrails import Policy
from tests.response.conftest import START_MS, alert, outcome
from tests.response.grouped import DATABASE, ELSEWHERE, FAILING, SLOW, grouped_runbooks
from tests.response.test_responder import AUTOMATIC, World, report_outcome, world  # noqa: F401  # a fixture


@pytest.fixture
def grouped(world: World) -> World:  # noqa: F811  # the fixture
    world.runbooks = grouped_runbooks()
    return world


def store(world: World) -> PostgresStore:  # noqa: F811  # a parameter
    return PostgresStore(world.database, lambda: world.now_ms)


async def statuses(world: World) -> list[tuple[int, str, str]]:  # noqa: F811  # a parameter
    async with world.database.connection() as conn:
        rows = await conn.fetch("select id, runbook, status from incidents order by id")
    return [tuple(row) for row in rows]


async def settle(world: World, responder: Responder, after_ms: int = 60_000) -> None:  # noqa: F811  # a parameter
    world.now_ms += after_ms
    await responder.on_tick(world.now_ms)
    await responder.settled()


async def test_what_fired_earlier_is_taken_over_and_what_fires_later_joins(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        assert (await grouped.state(1)).awaiting.kind == "approval"
        await responder.on_transition(alert("firing", START_MS + 10, DATABASE))
        await responder.on_transition(alert("firing", START_MS + 20, FAILING))
        assert await statuses(grouped) == [(1, "HighLatency", "closed"), (2, "DatabaseFailure", "open")]
        await responder.on_transition(alert("resolved", START_MS + 30, FAILING))
        assert sorted(one.standing for one in (await grouped.state(2)).joined.values()) == ["cleared", "firing"]
    async with grouped.database.connection() as conn:
        assert await conn.fetchval("select state from approvals") == "denied"
    assert "incident.merged" in await grouped.kinds(1)
    kinds = await grouped.kinds(2)
    assert [kind for kind in kinds if kind.startswith(("incident.absorbed", "alert.joined"))] == [
        "incident.absorbed",
        "alert.joined",
        "alert.joined_ended",
    ]
    assert grouped.topic == []


async def test_a_joined_alert_that_outlives_its_explanation_gets_its_own_incident_then(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, DATABASE))
        await responder.on_transition(alert("resolved", START_MS + 20, DATABASE))
        await settle(grouped, responder)
        assert await statuses(grouped) == [
            (1, "HighLatency", "closed"),
            (2, "DatabaseFailure", "resolved"),
            (3, "HighLatency", "open"),
        ]
        assert (await grouped.state(3)).awaiting.kind == "approval"
        await responder.on_transition(alert("resolved", START_MS + 30, SLOW))
        assert (await grouped.state(3)).awaiting.kind == "settle"
    assert "incident.let_go" in await grouped.kinds(2)


async def test_an_alert_elsewhere_is_not_explained(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, DATABASE))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
    assert await statuses(grouped) == [(1, "DatabaseFailure", "open"), (2, "HighLatency", "open")]


async def test_every_message_may_come_twice_and_the_database_may_fail_again(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        for _ in range(2):
            await responder.on_transition(alert("firing", START_MS, SLOW))
            await responder.on_transition(alert("firing", START_MS + 10, DATABASE))
            await responder.on_transition(alert("firing", START_MS + 20, FAILING))
        await responder.on_transition(alert("resolved", START_MS + 30, DATABASE))
        await settle(grouped, responder)
        await responder.on_transition(alert("firing", START_MS + 90_000, DATABASE))
    # It is opened again, and takes over the incidents that were let go.
    assert [row[1:] for row in await statuses(grouped)] == [
        ("HighLatency", "closed"),
        ("DatabaseFailure", "open"),
        ("HighLatency", "closed"),
        ("HighErrorRate", "closed"),
    ]
    state = await grouped.state(2)
    assert sorted(one.standing for one in state.joined.values()) == ["firing", "firing"]
    assert (await grouped.kinds(2)).count("incident.absorbed") == 3


async def test_an_incident_that_has_acted_is_not_taken_over_but_verified_by_itself(grouped: World) -> None:
    async with grouped.responder(AUTOMATIC) as responder:
        await responder.on_transition(alert("firing", START_MS, FAILING))
        assert len(grouped.topic) == 1
        await responder.on_transition(alert("firing", START_MS + 10, DATABASE))
        command = grouped.commands()[0]
        await report_outcome(grouped, responder, outcome(command.id, "succeeded", START_MS + 50))
        assert await statuses(grouped) == [(1, "HighErrorRate", "open"), (2, "DatabaseFailure", "open")]
        assert (await grouped.state(1)).awaiting.kind == "verify"


async def test_a_command_in_flight_of_an_incident_that_a_person_merges_is_noted_there(grouped: World) -> None:
    async with grouped.responder(AUTOMATIC) as responder:
        await responder.on_transition(alert("firing", START_MS, FAILING))
        await responder.on_transition(alert("firing", START_MS + 10, DATABASE))
        await store(grouped).operator(1, "merge", Said("ada", into=2), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
        command = grouped.commands()[0]
        await report_outcome(grouped, responder, outcome(command.id, "succeeded", START_MS + 50))
    assert (await grouped.kinds(1))[-1] == "command.outcome"
    assert (await grouped.state(1)).actions[0].status == "succeeded"
    assert (await grouped.state(1)).status == "closed"


async def test_incidents_of_one_service_name_each_other(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, FAILING))
    for number in (1, 2):
        assert (await grouped.kinds(number)).count("incident.related") == 1


async def test_a_person_merges_and_opens_again(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
        await store(grouped).operator(2, "merge", Said("ada", into=1), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
        assert [row[2] for row in await statuses(grouped)] == ["open", "closed"]
        await responder.on_transition(alert("resolved", START_MS + 20, ELSEWHERE))
        [joined] = (await grouped.state(1)).joined.values()
        assert joined.standing == "cleared"
        await responder.on_transition(alert("firing", START_MS + 30, ELSEWHERE))
        assert len(await statuses(grouped)) == 2, "it still belongs to the incident it was merged into"
        await store(grouped).operator(1, "close", Said("ada", "mended"), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
        assert [row[2] for row in await statuses(grouped)] == ["closed", "closed", "open"]
        await store(grouped).operator(1, "reopen", Said("bob", "not mended"), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
        assert (await grouped.state(1)).awaiting.kind == "people"
        await responder.on_transition(alert("firing", START_MS + 40, SLOW))
        assert len(await statuses(grouped)) == 3, "the open incident of the group takes it"


@pytest.mark.parametrize(
    ("number", "kind", "said", "words"),
    [
        (1, "merge", Said("ada", into=1), "another one that is open"),
        (1, "merge", Said("ada", into=7), "7 is none"),
        (9, "merge", Said("ada", into=1), "no incident 9"),
        (1, "reopen", Said("ada", "why"), "incident 1 is open"),
        (2, "reopen", Said("ada", "why"), "was merged into incident 1"),
        (2, "acknowledge", Said("ada"), "closed already"),
    ],
)
async def test_what_a_person_cannot_ask_for_is_refused_in_words(
    grouped: World, number: int, kind: str, said: Said, words: str
) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
        await store(grouped).operator(2, "merge", Said("ada", into=1), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
    with pytest.raises(OperatorRefusedError, match=words):
        await store(grouped).operator(number, kind, said, grouped.now_ms)  # type: ignore[arg-type]  # tables hold plain strings


async def test_what_was_possible_when_it_was_asked_for_and_no_longer_is_is_noted(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
        await store(grouped).operator(1, "close", Said("ada", "done"), grouped.now_ms)
        await store(grouped).operator(2, "merge", Said("bob", into=1), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
        assert (await grouped.kinds(2))[-1] == "incident.not_merged"
        await store(grouped).operator(1, "reopen", Said("bob", "why"), grouped.now_ms)
        await responder.on_transition(alert("firing", START_MS + 20, SLOW))
        await responder.on_tick(grouped.now_ms)
        assert (await grouped.kinds(1))[-1] == "incident.not_reopened"
    async with grouped.database.connection() as conn:
        assert await incidents.undone_operations(conn) == []
