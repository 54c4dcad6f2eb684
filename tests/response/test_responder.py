"""The responder on a real PostgreSQL: nothing is lost and nothing is done twice, wherever it is cut off.

```
 transition ─ turn ─ commit ─ question ─ turn ─ commit ─ outbox ─ topic ─ outcome ─ turn ─ commit ─ timer ─ turn
                  A        B                 C        D               E                  F
```
A test "restarts" by building a second responder on the same database; the first one's memory is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from engine.actions import Environment, HttpHost, load_actions
from engine.core.messages import Command, EvidenceLine, Outcome, SignedCommand, decode_command, encode
from engine.edge import approvals, audit, claims, control, incidents
from engine.edge.database import Database, url_of
from engine.edge.executor import Executor, ExecutorSettings
from engine.edge.incident_turns import ResponderConfig
from engine.edge.investigate import Investigator
from engine.edge.responder import Responder
from engine.response import report, signing
from engine.response.guardrails import ModeRule, Policy
from engine.response.model import IncidentState
from engine.response.steps import Actions, Runbook
from tests.executor.conftest import TOKEN, ManualClock, OpenClaw
from tests.response.conftest import SPIKE, START_MS, alert, outcome

KEY = signing.generate()
AUTOMATIC = Policy(modes=(ModeRule("auto", "http.request"),))
ASKING = Policy()
VERIFY_MS = 60_000 + 20_000


class BrokerDownError(Exception):
    """The topic cannot be written."""


@dataclass
class World:
    """What outlives a responder: the databases, the topic, the time."""

    database: Database
    violations_url: str
    runbooks: list[Runbook]
    actions: Actions
    http: httpx.AsyncClient
    query_url: str = ""
    up: str = "1"
    now_ms: int = START_MS
    topic: list[tuple[str, SignedCommand]] = field(default_factory=list)
    broker_down: bool = False
    after_send: BaseException | None = None

    def responder(self, policy: Policy = AUTOMATIC) -> Responder:
        async def send(key: str, command: SignedCommand) -> None:
            if self.broker_down:
                raise BrokerDownError("no broker")
            self.topic.append((key, command))
            if self.after_send is not None:
                raise self.after_send

        config = ResponderConfig(self.runbooks, self.actions, policy, KEY, lambda: self.now_ms)
        databases = {"aureus_os": self.violations_url}
        investigator = Investigator(self.http, databases=databases, hosts={}, query_url=self.query_url)
        return Responder(config, self.database, investigator, send)

    def commands(self) -> list[Command]:
        keys = signing.public_keys(KEY.public_key())
        return [signing.verify(signed, keys) for _, signed in self.topic]

    async def state(self, incident: int = 1) -> IncidentState:
        async with self.database.connection() as conn:
            found = await incidents.load(conn, incident)
        assert found is not None
        return found

    async def kinds(self, incident: int = 1) -> list[str]:
        async with self.database.connection() as conn:
            assert await audit.verify(conn) is None
            return [row.kind for row in await audit.rows(conn, incident=incident)]


@pytest_asyncio.fixture
async def world(
    database: Database, postgres_url: str, runbooks: list[Runbook], actions: Actions
) -> AsyncIterator[World]:
    server = await asyncpg.connect(postgres_url)
    await server.execute("create database aureus_os_test")
    url = url_of(postgres_url, "aureus_os_test")
    conn = await asyncpg.connect(url)
    await conn.execute(
        "create table policy_violations (id bigserial primary key, policy_id text, source_user text, "
        "source_channel text, created_at timestamptz default now())"
    )
    await conn.execute(
        "insert into policy_violations (policy_id, source_user, source_channel, created_at) "
        "select 'no-secrets', 'mallory', 'telegram', to_timestamp($1 / 1000.0) from generate_series(1, 11)",
        START_MS,
    )
    await conn.close()
    async with httpx.AsyncClient() as client:
        world = World(database, url, runbooks, actions, client)

        async def query(request: web.Request) -> web.Response:
            found = [{"metric": {}, "value": [0, world.up]}]
            return web.json_response({"status": "success", "data": {"resultType": "vector", "result": found}})

        app = web.Application()
        app.router.add_get("/api/v1/query", query)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world.query_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield world
        await runner.cleanup()
    await server.execute("drop database aureus_os_test with (force)")
    await server.close()


async def report_outcome(world: World, responder: Responder, done: Outcome) -> None:
    """What an executor does: write the outcome down, then say so."""
    command = next(command for command in world.commands() if command.id == done.command)
    async with world.database.transaction() as conn:
        await claims.record_refused(conn, command, encode(command).decode(), done)
    await responder.on_outcome(done)


async def operate(world: World, kind: str, by: str, text: str = "") -> None:
    """What the console and the command line do."""
    async with world.database.connection() as conn:
        query = "insert into operator_events (incident, kind, by_name, text, at_ms) values (1, $1, $2, $3, $4)"
        await conn.execute(query, kind, by, text, world.now_ms)


async def to_outcome(world: World) -> Command:
    """An incident whose command was sent."""
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
    return world.commands()[0]


async def test_an_incident_runs_from_the_alert_to_the_report(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        [(key, signed)] = world.topic
        command = world.commands()[0]
        assert key == "http:openclaw"
        assert command.params["json"] == {"user_id": "mallory", "reason": "policy_violation_spike"}
        assert signed.received_ms == START_MS + 3
        await report_outcome(world, responder, outcome(command.id, "succeeded", START_MS + 100))
        await responder.on_transition(alert("resolved", START_MS + 60_000))
        world.now_ms = START_MS + 100 + VERIFY_MS
        await responder.on_tick(world.now_ms)
        await responder.settled()
    state = await world.state()
    assert (state.status, state.resolution) == ("resolved", "verified")
    async with world.database.connection() as conn:
        stored = await incidents.record(conn, 1)
    assert stored is not None
    text = report.render(stored)
    assert "mallory" in text
    assert [row.step for row in stored.evidence] == ["suspects", "policies", "stopped"]
    assert [row.status for row in stored.commands] == ["succeeded"]


async def test_pending_alerts_and_alerts_without_a_runbook_open_nothing(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("pending", START_MS))
        await responder.on_transition(alert("firing", START_MS, {"alertname": "Unknown"}))
        await responder.on_transition(alert("resolved", START_MS))
        assert responder.counts == {"transition_ignored": 1, "no_runbook": 1, "resolved_without_incident": 1}
    async with world.database.connection() as conn:
        assert await conn.fetchval("select count(*) from incidents") == 0


async def test_every_message_may_come_twice(world: World) -> None:
    async with world.responder() as responder:
        for _ in range(2):
            await responder.on_transition(alert("firing", START_MS))
            await responder.settled()
        command = world.commands()[0]
        for _ in range(2):
            await report_outcome(world, responder, outcome(command.id, "succeeded", START_MS + 100))
        for _ in range(2):
            await responder.on_transition(alert("resolved", START_MS + 60_000))
        world.now_ms = START_MS + 100 + VERIFY_MS
        for _ in range(2):
            await responder.on_tick(world.now_ms)
            await responder.settled()
        await responder.on_transition(alert("firing", START_MS))
    assert len(world.topic) == 1
    kinds = await world.kinds()
    for once in ("incident.opened", "command.sent", "command.outcome", "alert.cleared", "incident.resolved"):
        assert kinds.count(once) == 1, once


async def test_two_responders_that_get_the_same_alert_send_one_command(world: World) -> None:
    async with world.responder() as one, world.responder() as two:
        await one.on_transition(alert("firing", START_MS))
        await two.on_transition(alert("firing", START_MS))
        await two.on_tick(START_MS)
        await one.settled()
        await two.settled()
    assert len(world.topic) == 1


async def test_a_question_that_a_crash_cut_off_is_asked_again(world: World) -> None:
    first = world.responder()
    await first.on_transition(alert("firing", START_MS))
    await first.__aexit__()  # cut off at B: the question was asked and nobody hears the answer
    assert (await world.state()).awaiting.kind == "evidence"
    async with world.responder() as second:
        await second.on_tick(world.now_ms)
        await second.settled()
    assert len(world.topic) == 1
    assert (await world.state()).awaiting.kind == "outcome"


async def test_a_command_that_was_decided_and_not_sent_is_sent_after_the_restart(world: World) -> None:
    world.broker_down = True
    await to_outcome_without_broker(world)  # cut off at D
    assert world.topic == []
    world.broker_down = False
    async with world.responder() as second:
        await second.on_tick(world.now_ms)
        await second.on_tick(world.now_ms)
    assert len(world.topic) == 1


async def to_outcome_without_broker(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
    assert (await world.state()).awaiting.kind == "outcome"


async def test_a_crash_between_sending_and_marking_sends_the_very_same_bytes_again(world: World) -> None:
    world.after_send = BrokerDownError("the connection broke after the broker had it")  # cut off at E
    await to_outcome_without_broker(world)
    world.after_send = None
    async with world.responder() as second:
        await second.on_tick(world.now_ms)
    assert len(world.topic) == 2
    assert world.topic[0] == world.topic[1]


async def test_an_outcome_that_comes_after_a_restart_goes_on_from_there(world: World) -> None:
    command = await to_outcome(world)
    async with world.responder() as second:
        await report_outcome(world, second, outcome(command.id, "succeeded", START_MS + 100))
    assert (await world.state()).awaiting.kind == "verify"
    async with world.responder() as third:
        await third.on_transition(alert("resolved", START_MS + 60_000))
        world.now_ms = START_MS + 100 + VERIFY_MS
        await third.on_tick(world.now_ms)
        await third.settled()
    assert (await world.state()).status == "resolved"
    assert len(world.topic) == 1


async def test_an_inconclusive_outcome_is_verified_and_never_repeated(world: World) -> None:
    command = await to_outcome(world)
    async with world.responder() as responder:
        await report_outcome(
            world, responder, outcome(command.id, "inconclusive", START_MS + 100, reason="lease_ended")
        )
        world.now_ms = START_MS + 100 + VERIFY_MS
        await responder.on_tick(world.now_ms)
    state = await world.state()
    assert (state.awaiting.kind, state.escalated_reason) == ("people", "ineffective_still_firing")
    assert len(world.topic) == 1


@pytest.mark.parametrize("restart", [False, True])
async def test_an_approval_sends_the_very_text_that_was_approved(world: World, restart: bool) -> None:
    first = world.responder(ASKING)
    await first.on_transition(alert("firing", START_MS))
    await first.settled()
    assert world.topic == []
    async with world.database.transaction() as conn:
        [waiting] = await approvals.waiting(conn, START_MS)
        world.now_ms = START_MS + 5_000
        await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=world.now_ms)
    second = world.responder(ASKING) if restart else first
    for _ in range(2):
        await second.on_tick(world.now_ms)
    await first.__aexit__()
    await second.__aexit__()
    [(_, signed)] = world.topic
    assert signed.body == waiting.body
    async with world.database.connection() as conn:
        assert await approvals.approved_for(conn, signed, waiting.command, world.now_ms) == "approved"


async def test_a_denied_approval_escalates_and_sends_nothing(world: World) -> None:
    async with world.responder(ASKING) as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        async with world.database.transaction() as conn:
            [waiting] = await approvals.waiting(conn, START_MS)
            await approvals.decide(conn, waiting.command, "denied", by="ada", now_ms=START_MS)
        await responder.on_tick(world.now_ms)
    assert (await world.state()).escalated_reason == "approval_denied"
    assert world.topic == []


async def test_a_question_is_taken_back_when_the_alert_clears(world: World) -> None:
    async with world.responder(ASKING) as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        async with world.database.connection() as conn:
            [waiting] = await approvals.waiting(conn, START_MS)
        await responder.on_transition(alert("resolved", START_MS + 1_000))
        async with world.database.transaction() as conn:
            late = await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=START_MS)
        assert late.reason == "already_decided"
        world.now_ms = START_MS + 20_000
        await responder.on_tick(world.now_ms)
    assert (await world.state()).resolution == "cleared"
    assert world.topic == []


async def test_the_pause_switch_holds_back_what_was_approved(world: World) -> None:
    async with world.responder(ASKING) as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        async with world.database.transaction() as conn:
            [waiting] = await approvals.waiting(conn, START_MS)
            await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=START_MS)
            await control.set_paused(conn, True, "ada", START_MS)
        await responder.on_tick(world.now_ms)
    assert (await world.state()).escalated_reason == "paused"
    assert world.topic == []


async def test_an_alert_that_comes_back_opens_the_incident_again_and_the_cooldown_holds(world: World) -> None:
    command = await to_outcome(world)
    async with world.responder() as responder:
        await report_outcome(world, responder, outcome(command.id, "succeeded", START_MS + 100))
        await responder.on_transition(alert("resolved", START_MS + 60_000))
        world.now_ms = START_MS + 100 + VERIFY_MS
        await responder.on_tick(world.now_ms)
        await responder.settled()
        world.now_ms = START_MS + 100_000
        await responder.on_transition(alert("firing", START_MS + 100_000))
        await responder.settled()
    state = await world.state()
    assert (state.status, state.attempt, state.escalated_reason) == ("open", 2, "cooldown")
    assert len(world.topic) == 1


async def test_long_after_it_was_resolved_it_is_a_new_incident(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await operate(world, "close", "ada", "known")
        await responder.on_tick(world.now_ms)
        world.now_ms = START_MS + 3_600_000
        await responder.on_transition(alert("firing", START_MS + 3_600_000))
        await responder.settled()
        async with world.database.connection() as conn:
            assert [row["id"] for row in await conn.fetch("select id from incidents where status = 'open'")] == [2]


async def test_alerts_of_one_group_join_one_incident(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.on_transition(alert("firing", START_MS + 1, {**SPIKE, "signal": "metrics"}))
        await responder.settled()
    assert len((await world.state()).alerts) == 2
    assert len(world.topic) == 1


async def test_a_database_that_cannot_be_asked_escalates(world: World) -> None:
    world.violations_url = url_of(world.violations_url, "not_there")
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
    assert (await world.state()).escalated_reason == "investigation_failed"
    assert world.topic == []


async def test_an_escalation_that_nobody_acknowledges_reaches_the_next_level(world: World) -> None:
    world.violations_url = url_of(world.violations_url, "not_there")
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        world.now_ms = START_MS + 4 * 3_600_000
        await responder.on_tick(world.now_ms)
        await operate(world, "acknowledge", "ada")
        await responder.on_tick(world.now_ms)
    async with world.database.connection() as conn:
        told = [(row["kind"], row["told"]) for row in await conn.fetch("select kind, told from notices order by seq")]
    assert told == [
        ("opened", []),
        ("escalate", ["team-lead"]),
        ("escalate", ["security@your-org.com"]),
        ("acknowledged", []),
    ]
    state = await world.state()
    assert (state.acknowledged_by, state.wake_ms) == ("ada", None)


@pytest.mark.parametrize("incident", [1, 77])
async def test_an_outcome_that_no_executor_wrote_down_is_not_believed(world: World, incident: int) -> None:
    command = await to_outcome(world)
    async with world.responder() as responder:
        await responder.on_outcome(outcome(command.id, "succeeded", START_MS, incident=incident))
        await responder.on_outcome(outcome("nobody's", "succeeded", START_MS, incident=incident))
        assert responder.counts["outcome_ignored"] == 2
    assert (await world.state()).awaiting.kind == "outcome"
    assert "command.outcome" not in await world.kinds()


async def test_what_an_outcome_says_is_taken_from_the_database_and_not_from_the_message(world: World) -> None:
    command = await to_outcome(world)
    async with world.responder() as responder:
        async with world.database.transaction() as conn:
            failed = outcome(command.id, "failed", START_MS + 100, reason="unexpected_status")
            await claims.record_refused(conn, command, encode(command).decode(), failed)
        await responder.on_outcome(outcome(command.id, "succeeded", START_MS + 100, incident=77))
    assert (await world.state()).actions[0].status == "failed"


async def test_what_people_do_is_applied_in_order_and_once(world: World) -> None:
    async with world.responder() as one, world.responder() as two:
        await one.on_transition(alert("firing", START_MS))
        await one.settled()
        for kind, by, text in (("note", "bob", "known client"), ("acknowledge", "ada", ""), ("close", "ada", "fixed")):
            await operate(world, kind, by, text)
        await one.on_tick(world.now_ms)
        await two.on_tick(world.now_ms)
    kinds = ("incident.note", "incident.acknowledged", "incident.closed")
    assert [kind for kind in await world.kinds() if kind in kinds] == list(kinds)
    state = await world.state()
    assert (state.acknowledged_by, state.status) == ("ada", "closed")
    async with world.database.connection() as conn:
        done = await conn.fetch("select done_ms from operator_events")
    assert [row["done_ms"] for row in done] == [world.now_ms] * 3


async def test_an_incident_that_cannot_go_on_keeps_what_people_did_about_it(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        await operate(world, "note", "bob", "x")
        await operate(world, "close", "bob")
        async with world.database.connection() as conn:
            await conn.execute("update incidents set state = '{}' where id = 1")
        await responder.on_tick(world.now_ms)
        assert responder.counts["turn_failed"] == 1
    async with world.database.connection() as conn:
        assert await conn.fetchval("select count(*) from operator_events where done_ms is null") == 2


async def test_an_approved_command_that_is_withdrawn_says_so(world: World) -> None:
    async with world.responder(ASKING) as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        async with world.database.transaction() as conn:
            [waiting] = await approvals.waiting(conn, START_MS)
            await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=START_MS)
        await responder.on_transition(alert("resolved", START_MS + 1_000))
        await responder.on_tick(world.now_ms)
    async with world.database.connection() as conn:
        rows = [row for row in await audit.rows(conn, incident=1) if row.kind == "command.not_sent"]
    assert world.topic == []
    assert len(rows) == 1
    assert "approved by ada, and not sent: alert cleared" in rows[0].data


async def test_an_approval_just_before_the_end_counts_although_the_timer_comes_first(world: World) -> None:
    async with world.responder(ASKING) as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        async with world.database.transaction() as conn:
            [waiting] = await approvals.waiting(conn, START_MS)
            await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=waiting.expires_ms - 1)
        world.now_ms = waiting.expires_ms
        await responder.on_tick(world.now_ms)
    kinds = await world.kinds()
    assert "command.not_sent" in kinds
    assert "command.unapproved" not in kinds


async def test_a_nul_character_anywhere_leaves_everything_readable(world: World) -> None:
    labels = {**SPIKE, "pod": "a\x00b"}
    line = EvidenceLine(START_MS * 1_000_000, "a\x00line", {"job": "a\x00"})
    async with world.responder() as responder:
        firing = alert("firing", START_MS, labels, annotations={"summary": "a\x00b"}, value="1\x00", evidence=[line])
        await responder.on_transition(firing)
        await responder.settled()
    async with world.database.connection() as conn:
        assert await conn.fetchval("select state ->> 'status' from incidents") == "open"
        lines = await conn.fetchval("select data ->> 'lines' from audit where kind = 'alert.firing'")
    assert "a\ufffdline" in lines
    assert (await world.state()).alert.labels["pod"] == "a\ufffdb"


async def test_a_question_that_nobody_can_answer_does_not_hang_the_incident(world: World) -> None:
    first = world.responder()
    await first.on_transition(alert("firing", START_MS))
    await first.__aexit__()  # the question is lost, and each time it is asked again the answer cannot be kept
    async with world.database.connection() as conn:
        await conn.execute("alter table evidence rename to evidence_away")
    async with world.responder() as second:
        for _ in range(2):
            await second.on_tick(world.now_ms)
            await second.settled()
            world.now_ms += 60_000
    assert (await world.state()).escalated_reason == "investigation_failed"


async def test_after_a_long_outage_a_question_is_asked_again_before_it_counts_as_unanswered(world: World) -> None:
    first = world.responder()
    await first.on_transition(alert("firing", START_MS))
    await first.__aexit__()
    world.now_ms += 3_600_000
    async with world.responder() as second:
        await second.on_tick(world.now_ms)
        await second.settled()
    assert (await world.state()).awaiting.kind == "outcome"


async def test_silence_while_the_service_is_down_is_no_repair(world: World) -> None:
    world.up = "0"
    command = await to_outcome(world)
    async with world.responder() as responder:
        await report_outcome(world, responder, outcome(command.id, "succeeded", START_MS + 100))
        await responder.on_transition(alert("resolved", START_MS + 60_000))
        world.now_ms = START_MS + 100 + VERIFY_MS
        await responder.on_tick(world.now_ms)
        await responder.settled()
    state = await world.state()
    assert (state.status, state.escalated_reason) == ("open", "ineffective_expect_failed")


async def test_the_topic_holds_commands_that_an_executor_can_read(world: World) -> None:
    await to_outcome(world)
    [(_, signed)] = world.topic
    command = decode_command(signed.body)
    assert (command.mark, command.namespace, command.runbook) == ("live", "aureus", "PolicyViolationSpike")


async def test_with_the_real_executor_the_user_is_blocked_after_a_person_agreed(world: World) -> None:
    service = OpenClaw()
    runner = web.AppRunner(service.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    environment = Environment(
        hosts={"openclaw": HttpHost(f"http://127.0.0.1:{runner.addresses[0][1]}", TOKEN)},
        databases={},
        http=world.http,
        connect=asyncpg.connect,
        sleep=asyncio.sleep,
    )
    clock = ManualClock()
    clock.ms = world.now_ms
    settings = ExecutorSettings("one", frozenset({"http.request"}), lambda command, destructive: "approve")
    keys = signing.public_keys(KEY.public_key())
    executor = Executor(world.database, settings, keys, load_actions(), environment, clock)
    async with world.responder(ASKING) as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        async with world.database.transaction() as conn:
            [waiting] = await approvals.waiting(conn, START_MS)
            await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=START_MS)
        await responder.on_tick(world.now_ms)
        message = encode(world.topic[0][1])
        first, again = await executor.execute(message), await executor.execute(message)
        assert first is not None
        assert first == again
        await responder.on_outcome(first)
    await runner.cleanup()
    assert (first.status, service.blocked) == ("succeeded", ["mallory"])
    assert (await world.state()).awaiting.kind == "verify"
    async with world.database.connection() as conn:
        stored = await incidents.record(conn, 1)
    assert stored is not None
    assert "approved by ada" in report.render(stored)


async def test_a_run_in_which_the_responder_is_another_one_for_every_message(world: World) -> None:
    async def once(work: Callable[[Responder], Awaitable[object]]) -> str:
        async with world.responder(ASKING) as responder:
            await work(responder)
        return (await world.state()).awaiting.kind

    async def tick(responder: Responder) -> None:
        await responder.on_tick(world.now_ms)
        await responder.settled()

    assert await once(lambda r: r.on_transition(alert("firing", START_MS))) == "evidence"
    assert await once(tick) == "approval"
    async with world.database.transaction() as conn:
        [waiting] = await approvals.waiting(conn, START_MS)
        await approvals.decide(conn, waiting.command, "approved", by="ada", now_ms=START_MS)
    assert await once(tick) == "outcome"
    assert await once(tick) == "outcome"
    done = outcome(waiting.command, "succeeded", START_MS + 100)
    assert await once(lambda r: report_outcome(world, r, done)) == "verify"
    assert await once(lambda r: r.on_transition(alert("resolved", START_MS + 60_000))) == "verify"
    assert await once(tick) == "verify"
    world.now_ms = START_MS + 100 + VERIFY_MS
    assert await once(tick) == "nothing"
    assert (await world.state()).resolution == "verified"
    assert len(world.topic) == 1


async def test_an_alert_that_clears_by_itself_is_settled_across_a_restart(world: World) -> None:
    async with world.responder() as first:
        await first.on_transition(alert("firing", START_MS))
        await first.on_transition(alert("resolved", START_MS + 1))
        await first.settled()
    async with world.responder() as second:
        await second.on_tick(world.now_ms)
        assert (await world.state()).awaiting.kind == "settle"
        world.now_ms = START_MS + 20_000
        await second.on_tick(world.now_ms)
    assert (await world.state()).resolution == "cleared"
    assert world.topic == []


async def test_one_incident_that_cannot_go_on_does_not_hold_up_the_others(world: World) -> None:
    async with world.responder() as responder:
        await responder.on_transition(alert("firing", START_MS))
        await responder.on_transition(alert("firing", START_MS, {**SPIKE, "service": "another"}))
        await responder.on_transition(alert("resolved", START_MS + 1))
        await responder.on_transition(alert("resolved", START_MS + 1, {**SPIKE, "service": "another"}))
        await responder.settled()
        async with world.database.connection() as conn:
            await conn.execute("update incidents set state = '{}' where id = 1")
        world.now_ms = START_MS + 20_000
        await responder.on_tick(world.now_ms)
        assert responder.counts["turn_failed"] == 1
    assert (await world.state(2)).resolution == "cleared"
