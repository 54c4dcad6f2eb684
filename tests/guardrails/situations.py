"""The dangerous situations: how each is brought about, and what has to become of it.

A verdict names the kind of the audit's row, `reason` the reason in it, `calls` how often a service was really touched.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from engine.core.messages import Target, encode
from engine.edge import approvals, claims, control
from engine.edge.clock import DatabaseClock
from engine.response import signing
from tests.executor.conftest import ManualClock
from tests.guardrails.world import HOUR_MS, KEY, MINUTE_MS, STABLE_MS, STRANGER, World, command, message

VERDICTS = {
    "refused": "command.refused",
    "expired": "command.expired",
    "waits for a person": "command.held",
    "handed to people": "incident.escalated",
    "not believed": "message.refused",
    "decision refused": "approval.refused",
    "first of two": "approval.first_of_two",
    "not sent": "command.not_sent",
    "observed": "command.observed",
    "not verified": "verify.failed",
    "inconclusive": "command.inconclusive",
    "failed": "command.failed",
    "ran once": "command.succeeded",
}


@dataclass(frozen=True)
class Situation:
    """One row of the table."""

    name: str
    bring_about: Callable[[World], Awaitable[None]]
    verdict: str
    reason: str
    calls: int = 0
    times: int = 1
    on_cluster: bool = False

    @property
    def kind(self) -> str:
        """The kind of the audit's row."""
        return VERDICTS[self.verdict]


# again and again, many at once ----------------------------------------------------------------------------------------


async def flap(world: World, gap_ms: int) -> None:
    """
    alert    ──fires────clears────────────fires ...
    service    restarted?       stable       gap
    """
    await world.act()
    await world.later(MINUTE_MS)
    await world.clear()
    await world.later(STABLE_MS)
    await world.later(gap_ms)


async def twenty_flaps_within_minutes(world: World) -> None:
    for _ in range(20):
        await flap(world, 2 * MINUTE_MS)
    assert await world.has("command.refused", "cooldown") == 2, "the second and the third time"


async def twenty_flaps_an_hour_apart(world: World) -> None:
    for _ in range(20):
        await flap(world, HOUR_MS)


async def fires_again_while_it_is_verified(world: World) -> None:
    await world.act()
    await world.clear()
    await world.later(MINUTE_MS)
    await world.fire()
    await world.later(STABLE_MS)
    await world.deliver()


async def storm_of_fifty(world: World) -> None:
    """The first five have been restarted by the time that the sixth shows what it is."""
    for number in range(1, 51):
        await world.fire(service=f"service-{number}")
    await world.deliver()
    await _told_once(world)


async def storm_that_is_waited_for(world: World) -> None:
    world.configure(storm_settle_s=20)
    await _fifty_within_ten_seconds(world)
    await _told_once(world)


async def storm_of_questions(world: World) -> None:
    """In mode `approve` nobody is asked fifty times, now or when their time is over."""
    world.configure(overrides=[{"mode": "approve"}], storm_settle_s=20)
    await _fifty_within_ten_seconds(world)
    await _told_once(world)
    await world.later(15 * MINUTE_MS)
    assert await world.has("incident.escalated", "approval_expired") == 50
    assert [kind for kind in await _notices(world) if kind != "opened"] == ["escalate", "escalate"]


async def storm_and_a_yes(world: World) -> None:
    world.configure(storm_settle_s=20)
    await _fifty_within_ten_seconds(world)
    await world.decide("approve", "ada")
    await world.tick()
    await world.deliver()


async def storm_that_one_failure_explains(world: World) -> None:
    world.configure(storm_settle_s=20)
    await world.fire(alertname="DatabaseFailure", service="openclaw")
    await _fifty_within_ten_seconds(world)


async def storm_that_is_explained_afterwards(world: World) -> None:
    world.configure(storm_settle_s=20)
    await _fifty_within_ten_seconds(world, lambda: world.fire(alertname="DatabaseFailure", service="openclaw"))


async def _fifty_within_ten_seconds(world: World, then: Callable[[], Awaitable[None]] | None = None) -> None:
    assert isinstance(world.clock, ManualClock)
    for number in range(1, 51):
        await world.fire(service=f"service-{number}")
        world.clock.advance(200)
    if then:
        await then()
    await world.later(20_000)
    await world.deliver()


async def _notices(world: World) -> list[str]:
    async with world.database.connection() as conn:
        return [row["kind"] for row in await conn.fetch("select kind from notices order by seq")]


async def _told_once(world: World) -> None:
    """One notice for all, however many are held; openings go to those who follow everything."""
    async with world.database.connection() as conn:
        told = await conn.fetch("select kind, text from notices where kind not in ('opened', 'notify')")
    assert [row["kind"] for row in told] == ["escalate"], told
    text = told[0]["text"]
    assert "targets fail at once (within 1m): suspect the monitoring" in text


async def same_target_twice(world: World) -> None:
    await world.act(pod="a")
    await world.later(5 * MINUTE_MS)
    await world.act(pod="b")


async def budget_spent(world: World) -> None:
    for number in range(1, 7):
        await world.act(service=f"service-{number}")
        await world.later(2 * MINUTE_MS)


async def breaker_open(world: World) -> None:
    for number in range(1, 5):
        world.services.status[f"service-{number}"] = 400
        await world.act(service=f"service-{number}")
        await world.later(2 * MINUTE_MS)


async def repair_without_effect(world: World) -> None:
    await world.act()
    await world.later(STABLE_MS)
    await world.deliver()


async def no_answer(world: World) -> None:
    world.services.hang_up = True
    await world.executor().execute(message(command(params={"method": "POST", "path": "/api/admin/restart"})))


# switched off, not allowed, only watched ------------------------------------------------------------------------------


async def paused_before_deciding(world: World) -> None:
    await world.cli("pause", "--by", "ada")
    await world.act()


async def paused_on_the_way(world: World) -> None:
    await world.fire()
    await world.cli("pause", "--by", "ada")
    await world.deliver()


async def _silence(world: World, *more: str) -> None:
    said = ("--by", "ada", "--comment", "we know", "--for", "2h")
    assert (await world.cli("silence", "add", 'service="openclaw"', *said, *more)).code == 0


async def silenced(world: World) -> None:
    await _silence(world)
    await world.act()


async def silenced_after_the_yes(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("approve", "ada")
    await _silence(world)
    await world.tick()
    await world.deliver()


async def maintenance(world: World) -> None:
    await _silence(world, "--maintenance")
    await world.act()


async def maintenance_window(world: World) -> None:
    window = {"name": "patches", "match": ['service="openclaw"'], "start": "07:30", "duration_s": 3600}
    world.configure(maintenance=[window])
    await world.act()


async def observe_mode(world: World) -> None:
    world.configure(mode="observe", overrides=[{"mode": "observe"}])
    await world.act()


async def sent_though_only_to_be_observed(world: World) -> None:
    await world.fire()
    world.configure(mode="observe", overrides=[{"mode": "observe"}])
    await world.deliver()


async def destructive_by_default(world: World) -> None:
    world.configure(mode="auto", overrides=[{"action": "*", "mode": "auto"}])
    await world.act()


async def production_label(world: World) -> None:
    await world.act(env="production")


async def action_not_allowed(world: World) -> None:
    await world.executor().execute(message(command(action="postgres.vacuum", target=Target("postgres", "main"))))


async def unknown_action(world: World) -> None:
    await world.executor().execute(message(command(action="shell.run", params={"command": "reboot"})))


async def host_not_allowed(world: World) -> None:
    await world.act(service="billing")


async def parameters_of_another_action(world: World) -> None:
    await world.executor().execute(message(command(params={"method": "POST", "path": "/x", "shell": "reboot"})))


# texts from events ----------------------------------------------------------------------------------------------------

INJECTION = "mallory'; drop table policy_violations; --"


async def _violations(world: World) -> None:
    async with world.database.connection() as conn:
        await conn.execute("create table policy_violations (source_user text)")
        await conn.execute("insert into policy_violations values ('mallory')")


async def sql_in_a_label(world: World) -> None:
    await _violations(world)
    await world.act(alertname="PolicyViolationSpike", user=INJECTION)
    async with world.database.connection() as conn:
        assert await conn.fetchval("select count(*) from policy_violations") == 1
        assert await conn.fetchval("select query->'params'->>0 from evidence") == INJECTION


async def empty_target_set(world: World) -> None:
    await _violations(world)
    await world.act(alertname="PolicyViolationSpike", user="nobody")


async def template_in_a_label(world: World) -> None:
    text = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    async with world.database.connection() as conn:
        await conn.execute("create table policy_violations (source_user text)")
        await conn.execute("insert into policy_violations values ($1)", text)
    await world.act(alertname="PolicyViolationSpike", user=text)
    assert world.services.blocked == [text]


async def template_escape(world: World) -> None:
    await world.act(alertname="HighErrorRate")


async def shell_in_a_target(world: World) -> None:
    await world.act(service="openclaw; rm -rf /")


async def target_out_of_its_folder(world: World) -> None:
    await world.act(service="openclaw/../bridge")


async def path_to_another_host(world: World) -> None:
    await world.act(alertname="HighLatency", path="//evil.example/x")


async def path_out_of_its_folder(world: World) -> None:
    await world.act(alertname="HighLatency", path="..")


# too late, no data ----------------------------------------------------------------------------------------------------


async def command_late(world: World) -> None:
    await world.fire()
    await world.later(10 * MINUTE_MS)
    await world.deliver()


async def alert_ended_before_the_yes(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.clear(alertname="Tampered")
    await world.decide("approve", "ada")
    await world.tick()


async def alert_ended_after_the_yes(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("approve", "ada")
    await world.clear(alertname="Tampered")
    await world.tick()


async def source_dead_before_acting(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.clear(alertname="Tampered", cause="no_data")
    await world.deliver()


async def source_dead_while_resolved(world: World) -> None:
    await world.act()
    await world.clear(cause="no_data")
    await world.later(STABLE_MS)


# not to be believed ---------------------------------------------------------------------------------------------------


async def forged_signature(world: World) -> None:
    forged = msgspec.structs.replace(signing.sign(command(), STRANGER), key_id=signing.key_id(KEY.public_key()))
    await world.executor().execute(encode(forged))


async def unknown_key(world: World) -> None:
    await world.executor().execute(encode(signing.sign(command(), STRANGER)))


async def altered_on_the_way(world: World) -> None:
    signed = signing.sign(command(), KEY)
    altered = msgspec.structs.replace(signed, body=signed.body.replace("openclaw", "bridge"))
    await world.executor().execute(encode(altered))


async def command_of_a_replay(world: World) -> None:
    await world.executor().execute(message(command(mark="replay")))


async def same_message_again(world: World) -> None:
    outcomes = [
        await world.executor(name).execute(message(command())) for name in ("executor-1", "executor-2", "executor-3")
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]


async def id_of_another_command(world: World) -> None:
    await world.executor().execute(message(command(target=Target("http", "bridge"))))
    await world.executor().execute(message(command()))


# people ---------------------------------------------------------------------------------------------------------------


async def nobody_decides(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.later(15 * MINUTE_MS)
    await world.deliver()


async def yes_too_late(world: World) -> None:
    await nobody_decides(world)
    await world.decide("approve", "ada")
    await world.tick()
    await world.deliver()


async def approved_and_delivered_too_late(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("approve", "ada")
    await world.tick()
    await world.later(15 * MINUTE_MS)
    await world.deliver()


async def no_approval(world: World) -> None:
    world.configure(overrides=[{"mode": "approve"}])
    await world.executor().execute(message(command()))


async def denied(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("deny", "ada")
    await world.tick()
    await world.deliver()


async def denied_and_sent_nevertheless(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("deny", "ada")
    await _send_what_was_asked(world)


async def _send_what_was_asked(world: World) -> None:
    """A signed message that the responder would not send."""
    async with world.database.connection() as conn:
        body = await conn.fetchval("select body from approvals")
    await world.executor().execute(encode(signing.sign_body(body, KEY)))


async def changed_after_the_approval(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("approve", "ada")
    async with world.database.connection() as conn:
        body = await conn.fetchval("select body from approvals")
    changed = signing.sign_body(body.replace('"openclaw"', '"bridge"'), KEY)
    await world.executor().execute(encode(changed))


async def changed_before_the_approval(world: World) -> None:
    await world.fire(alertname="Tampered")
    async with world.database.connection() as conn:
        await conn.execute("""update approvals set body = replace(body, '"openclaw"', '"bridge"')""")
    await world.decide("approve", "ada")


def _four_eyes(world: World) -> None:
    world.configure(four_eyes=["P0"])


async def one_of_two(world: World) -> None:
    _four_eyes(world)
    await world.fire(alertname="Tampered")
    await world.decide("approve", "ada")
    await world.tick()
    await world.deliver()


async def same_person_twice(world: World) -> None:
    await one_of_two(world)
    await world.decide("approve", " ADA ")
    await world.tick()
    await world.deliver()


async def four_eyes_since_it_is_a_p0(world: World) -> None:
    world.configure(overrides=[{"mode": "approve"}], four_eyes=["P0"])
    await world.fire(severity="warning")
    await world.fire(severity="critical")
    await world.decide("approve", "ada")
    await world.tick()
    await world.deliver()


async def four_eyes_and_automatic(world: World) -> None:
    _four_eyes(world)
    await world.act(severity="critical")


async def one_yes_where_the_executor_wants_two(world: World) -> None:
    await world.fire(alertname="Tampered")
    await world.decide("approve", "ada")
    await world.tick()
    _four_eyes(world)
    await world.deliver()


# executors ------------------------------------------------------------------------------------------------------------


async def _finish(world: World, *tasks: asyncio.Task[object]) -> None:
    """Let work end whose clock is ours."""
    assert isinstance(world.clock, ManualClock)
    while not all(task.done() for task in tasks):
        world.clock.advance(10)
        await asyncio.sleep(0.001)


async def two_executors(world: World) -> None:
    world.services.gate.clear()
    one = asyncio.create_task(world.executor("executor-1").execute(message(command())))
    await world.services.arrived.wait()
    two = asyncio.create_task(world.executor("executor-2").execute(message(command())))
    await asyncio.sleep(0.05)
    world.services.gate.set()
    await _finish(world, one, two)
    assert one.result() == two.result()


async def two_commands_at_once(world: World) -> None:
    world.services.gate.clear()
    one = asyncio.create_task(world.executor("executor-1").execute(message(command())))
    await world.services.arrived.wait()
    two = asyncio.create_task(world.executor("executor-2").execute(message(command(id="restart-2"))))
    await asyncio.sleep(0.05)
    assert world.services.total == 1
    world.services.gate.set()
    await _finish(world, one, two)
    assert world.services.most_at_once == 1


CRASHING = """
import asyncio, dataclasses, os, signal, sys
from pathlib import Path
import asyncpg, httpx
from engine.actions import Environment, HttpHost, load_actions
from engine.edge.clock import SystemClock
from engine.edge.database import open_database
from engine.edge.executor import Executor, ExecutorSettings
from engine.edge.keys import load_public
from engine.response import signing

async def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(database, url, key, point, raw):
    action = load_actions()["http.request"]
    if point in ("plan", "run", "verify"):
        action = dataclasses.replace(action, **{point: die})
    async with open_database(database, Path("."), migrations=False) as db, httpx.AsyncClient() as client:
        env = Environment({"openclaw": HttpHost(url)}, {}, client, asyncpg.connect, asyncio.sleep)
        settings = ExecutorSettings("executor-killed", frozenset(["http.request"]), lambda c, d: "auto")
        keys = signing.public_keys(load_public(key))
        await Executor(db, settings, keys, {action.name: action}, env, SystemClock()).execute(raw.encode())
    await die()

asyncio.run(main(*sys.argv[1:]))
"""


def crash(point: str) -> Callable[[World], Awaitable[None]]:
    """An executor, a process of its own, is killed at a point of a command; the next one looks what it left."""

    async def bring_about(world: World) -> None:
        await world.fire()
        if point == "answer":
            world.services.gate.clear()
        sent = encode(world.topic[0]).decode()
        key = signing.public_pem(KEY.public_key()).decode()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CRASHING, world.database.url, f"{world.services.url}/openclaw", key, point, sent
        )
        if point == "answer":
            await world.services.arrived.wait()
            child.kill()
        assert await child.wait() == -9
        world.services.gate.set()
        await world.end_leases()
        [outcome] = await world.executor("executor-next").recover()
        await world.report(outcome)
        assert await world.executor("executor-another").execute(sent.encode()) == outcome

    return bring_about


# clocks ---------------------------------------------------------------------------------------------------------------


async def _by_the_databases_clock(world: World) -> None:
    world.clock = DatabaseClock(lambda: world.database.run(control.clock_ms))
    await world.clock.sync()


def _jump(world: World, duration_ms: int) -> None:
    """The machine's wall clock jumps."""
    real_ns = time.time_ns
    world.monkeypatch.setattr(time, "time_ns", lambda: real_ns() + duration_ms * 1_000_000)
    world.monkeypatch.setattr(time, "time", lambda: (real_ns() + duration_ms * 1_000_000) / 1e9)


async def cooldown_and_a_clock_that_jumps_forwards(world: World) -> None:
    await _by_the_databases_clock(world)
    await world.act(pod="a")
    _jump(world, HOUR_MS)
    await world.act(pod="b")


async def cooldown_and_a_clock_that_jumps_back(world: World) -> None:
    await _by_the_databases_clock(world)
    await world.act(pod="a")
    _jump(world, -HOUR_MS)
    await world.act(pod="b")


async def expiry_and_a_clock_that_jumps_back(world: World) -> None:
    await _by_the_databases_clock(world)
    over_ms = world.clock.now_ms() - 1
    _jump(world, -HOUR_MS)
    await world.executor().execute(message(command(expires_ms=over_ms)))


async def approval_and_a_clock_that_jumps_back(world: World) -> None:
    await _by_the_databases_clock(world)
    asked = command(expires_ms=world.clock.now_ms() - 1)
    async with world.database.transaction() as conn:
        body = encode(asked).decode()
        await approvals.request(conn, body, now_ms=asked.issued_ms, expires_ms=asked.expires_ms, by="responder")
    _jump(world, -HOUR_MS)
    await world.decide("approve", "ada")


async def lease_and_a_clock_that_jumps(world: World) -> None:
    async with world.database.transaction() as conn:
        signed = signing.sign(command(), KEY)
        assert await claims.take(conn, command(), signed.body, "executor-still", world.clock.now_ms(), 60_000)
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(1000 * HOUR_MS)
    assert await world.executor("executor-of-another-time").recover() == [], "the lease is the database's to end"
    await world.end_leases()
    await world.executor().recover()


SITUATIONS = [
    Situation("flaps 20 times, minutes apart", twenty_flaps_within_minutes, "waits for a person", "ineffective", 1, 17),
    Situation("flaps 20 times, an hour apart", twenty_flaps_an_hour_apart, "waits for a person", "flapping", 3, 17),
    Situation("fires again while verified", fires_again_while_it_is_verified, "not verified", "still_firing", 1),
    Situation("repair without effect", repair_without_effect, "handed to people", "ineffective_still_firing", 1),
    Situation("storm of 50 targets", storm_of_fifty, "waits for a person", "storm", 5, 45),
    Situation("storm of 50 that is waited for", storm_that_is_waited_for, "waits for a person", "storm", 0, 50),
    Situation("storm of 50 questions", storm_of_questions, "waits for a person", "storm", 0, 50),
    Situation("storm, and one yes", storm_and_a_yes, "ran once", "verified", 1),
    Situation("storm of one failure", storm_that_one_failure_explains, "ran once", "verified", 1),
    Situation("storm explained by the 51st", storm_that_is_explained_afterwards, "ran once", "verified", 1),
    Situation("same target twice", same_target_twice, "refused", "cooldown", 1),
    Situation("budget spent", budget_spent, "refused", "budget_spent", 5),
    Situation("breaker open", breaker_open, "refused", "circuit_open", 3),
    Situation("no answer to a request", no_answer, "inconclusive", "no_answer", 1),
    Situation("paused before deciding", paused_before_deciding, "refused", "paused"),
    Situation("paused on the way", paused_on_the_way, "refused", "paused"),
    Situation("silenced", silenced, "refused", "silenced"),
    Situation("silenced after the yes", silenced_after_the_yes, "refused", "silenced"),
    Situation("maintenance", maintenance, "refused", "maintenance"),
    Situation("maintenance window", maintenance_window, "refused", "maintenance"),
    Situation("only to be observed", observe_mode, "observed", "policy_rule"),
    Situation("sent, though only to be observed", sent_though_only_to_be_observed, "refused", "observe_mode"),
    Situation("destructive, and nothing names it", destructive_by_default, "waits for a person", "destructive"),
    Situation("production label", production_label, "waits for a person", "production_label"),
    Situation("action not allowed", action_not_allowed, "refused", "action_not_allowed"),
    Situation("action that is not there", unknown_action, "refused", "unknown_action"),
    Situation("host not on the allow-list", host_not_allowed, "refused", "target_not_allowed"),
    Situation("parameter nobody declared", parameters_of_another_action, "refused", "bad_params"),
    Situation("SQL in a label", sql_in_a_label, "handed to people", "empty_target"),
    Situation("empty target set", empty_target_set, "handed to people", "empty_target"),
    Situation("template in a label", template_in_a_label, "ran once", "done_unchecked", 1),
    Situation("template escape in a runbook", template_escape, "handed to people", "no_command"),
    Situation("shell in a target", shell_in_a_target, "handed to people", "no_command"),
    Situation("target out of its folder", target_out_of_its_folder, "refused", "target_not_allowed"),
    Situation("path to another host", path_to_another_host, "failed", "unexpected_status"),
    Situation("path out of its folder", path_out_of_its_folder, "handed to people", "no_command"),
    Situation("command comes too late", command_late, "expired", "expired"),
    Situation("alert ended before the yes", alert_ended_before_the_yes, "decision refused", "already_decided"),
    Situation("alert ended after the yes", alert_ended_after_the_yes, "not sent", "alert cleared"),
    Situation("source dead before acting", source_dead_before_acting, "handed to people", "no_data"),
    Situation("source dead while resolved", source_dead_while_resolved, "not verified", "no_data", 1),
    Situation("forged signature", forged_signature, "not believed", "bad_signature"),
    Situation("unknown key", unknown_key, "not believed", "unknown_key"),
    Situation("altered on the way", altered_on_the_way, "not believed", "bad_signature"),
    Situation("command of a replay", command_of_a_replay, "not believed", "replay"),
    Situation("same message again", same_message_again, "ran once", "verified", 1),
    Situation("id of another command", id_of_another_command, "not believed", "changed_command", 1),
    Situation("nobody decides", nobody_decides, "handed to people", "approval_expired"),
    Situation("yes after the approval expired", yes_too_late, "decision refused", "expired"),
    Situation("approved, and delivered too late", approved_and_delivered_too_late, "expired", "expired"),
    Situation("no approval", no_approval, "refused", "approval_missing"),
    Situation("denied", denied, "handed to people", "approval_denied"),
    Situation("denied, and sent nevertheless", denied_and_sent_nevertheless, "refused", "approval_denied"),
    Situation("changed after the yes", changed_after_the_approval, "refused", "approval_for_other_command"),
    Situation("changed before the yes", changed_before_the_approval, "decision refused", "changed_command"),
    Situation("four eyes: one of two", one_of_two, "first of two", "accepted"),
    Situation("four eyes: the same person twice", same_person_twice, "decision refused", "same_person"),
    Situation("four eyes: a P0 only while it waits", four_eyes_since_it_is_a_p0, "first of two", "accepted"),
    Situation("four eyes, and automatic", four_eyes_and_automatic, "waits for a person", "four_eyes"),
    Situation("one yes where two are wanted", one_yes_where_the_executor_wants_two, "refused", "approval_by_too_few"),
    Situation("two executors, one command", two_executors, "ran once", "verified", 1),
    Situation("two commands on one target", two_commands_at_once, "ran once", "verified", 2, 2),
    Situation("executor killed after the claim", crash("plan"), "inconclusive", "executor_lost"),
    Situation("executor killed after the plan", crash("run"), "inconclusive", "executor_lost"),
    Situation("executor killed during the run", crash("answer"), "inconclusive", "executor_lost", 1),
    Situation("executor killed after the run", crash("verify"), "inconclusive", "executor_lost", 1),
    Situation("executor killed after the outcome", crash("publish"), "ran once", "verified", 1),
    Situation("clock forwards: cooldown", cooldown_and_a_clock_that_jumps_forwards, "refused", "cooldown", 1),
    Situation("clock back: cooldown", cooldown_and_a_clock_that_jumps_back, "refused", "cooldown", 1),
    Situation("clock back: expired command", expiry_and_a_clock_that_jumps_back, "expired", "expired"),
    Situation("clock back: expired approval", approval_and_a_clock_that_jumps_back, "decision refused", "expired"),
    Situation("clock forwards: lease", lease_and_a_clock_that_jumps, "inconclusive", "executor_lost"),
]
