"""At most once: crashes at each point, two executors, lost leases, and a real SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.actions import Plan, Result, load_actions
from engine.core.messages import Outcome
from engine.edge import audit, claims
from engine.edge.database import Database, connect_pool
from engine.response import signing
from tests.executor.conftest import (
    KEY,
    LEASE_MS,
    MakeExecutor,
    ManualClock,
    OpenClaw,
    block,
    end_leases,
    message,
    signed,
)


async def kinds(database: Database) -> list[str]:
    async with database.connection() as conn:
        assert await audit.verify(conn) is None
        return [row.kind for row in await audit.rows(conn)]


def same(left: Outcome | None, right: Outcome | None) -> bool:
    return left is not None and left == right


async def test_a_redelivered_command_gives_the_same_outcome_and_no_second_call(
    make_executor: MakeExecutor, openclaw: OpenClaw
) -> None:
    first = await make_executor("one").execute(message(block()))
    again = await make_executor("two").execute(message(block()))
    assert same(first, again)
    assert openclaw.calls == ["POST"]


async def test_the_same_decision_made_again_later_is_the_same_command(
    make_executor: MakeExecutor, openclaw: OpenClaw
) -> None:
    first = await make_executor().execute(message(block()))
    again = await make_executor().execute(message(block(issued_ms=1, expires_ms=2)))
    assert same(first, again)
    assert openclaw.calls == ["POST"]


async def test_two_executors_at_once_on_one_command_call_once(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    openclaw.gate.clear()
    one = asyncio.create_task(make_executor("one").execute(message(block())))
    await openclaw.arrived.wait()
    two = asyncio.create_task(make_executor("two").execute(message(block())))
    openclaw.gate.set()
    first = await one
    while not two.done():
        await clock_tick(clock)
    assert same(first, two.result())
    assert openclaw.calls == ["POST"]


async def test_ten_executors_at_the_same_moment_call_once(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    tasks = [asyncio.create_task(make_executor(str(n)).execute(message(block()))) for n in range(10)]
    while not all(task.done() for task in tasks):
        await clock_tick(clock)
    assert all(same(task.result(), tasks[0].result()) for task in tasks)
    assert openclaw.calls == ["POST"]


async def clock_tick(clock: ManualClock) -> None:
    clock.advance(10)
    await asyncio.sleep(0.001)


async def test_two_commands_on_one_target_run_one_after_the_other(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    openclaw.gate.clear()
    one = asyncio.create_task(make_executor("one").execute(message(block("mallory"))))
    await openclaw.arrived.wait()
    two = asyncio.create_task(make_executor("two").execute(message(block("eve"))))
    for _ in range(50):
        await clock_tick(clock)
    assert openclaw.calls == ["POST"], "the second waits for the target"
    openclaw.gate.set()
    first = await one
    while not two.done():
        await clock_tick(clock)
    second = two.result()
    assert first is not None
    assert second is not None
    assert [first.status, second.status] == ["succeeded", "succeeded"]
    assert openclaw.blocked == ["mallory", "eve"]
    assert first.finished_ms <= second.started_ms


async def abandon_while_calling(make_executor: MakeExecutor, openclaw: OpenClaw) -> None:
    """An executor that dies after its request was carried out and before its outcome was written."""
    openclaw.gate.clear()
    task = asyncio.create_task(make_executor("dead").execute(message(block())))
    await openclaw.arrived.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    openclaw.gate.set()


async def test_a_crash_after_the_call_is_inconclusive_with_what_the_check_says_now(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    await end_leases(database)
    outcome = await make_executor("next").execute(message(block()))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("inconclusive", "executor_lost")
    assert outcome.detail["check"]["state"] == "yes"  # type: ignore[index]  # JSON
    assert openclaw.calls == ["POST"]
    assert await kinds(database) == ["command.claimed", "command.planned", "command.inconclusive"]


async def test_a_crash_between_claim_and_call_is_inconclusive_too_and_never_called(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    async with database.transaction() as conn:
        assert await claims.take(conn, block(), signed(block()).body, "dead", clock.now_ms(), 0) is not None
    outcome = await make_executor("next").execute(message(block()))
    assert outcome is not None
    assert outcome.status == "inconclusive"
    assert outcome.detail["check"]["state"] == "no"  # type: ignore[index]  # JSON
    assert openclaw.calls == []


async def test_a_crash_before_the_claim_leaves_the_command_to_the_next(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    async with database.connection() as conn:
        undone = conn.transaction()
        await undone.start()
        assert await claims.take(conn, block(), "{}", "dead", 0, LEASE_MS) is not None
        await undone.rollback()
    outcome = await make_executor("next").execute(message(block()))
    assert outcome is not None
    assert outcome.status == "succeeded"


async def test_while_the_lease_of_a_silent_executor_lasts_others_wait(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    waiting = asyncio.create_task(make_executor("next").execute(message(block())))
    for _ in range(20):
        await clock.until_sleepers()
        clock.advance(250)
    assert not waiting.done()
    await end_leases(database)
    await clock.until_sleepers()
    clock.advance(250)
    outcome = await waiting
    assert outcome is not None
    assert outcome.status == "inconclusive"
    assert openclaw.calls == ["POST"]


async def test_a_dead_executor_does_not_hold_its_target_for_ever(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    await end_leases(database)
    outcome = await make_executor("next").execute(message(block("eve")))
    assert outcome is not None
    assert outcome.status == "succeeded"
    lost = await make_executor("next").execute(message(block("mallory")))
    assert lost is not None
    assert lost.status == "inconclusive"


async def test_recovery_concludes_what_the_dead_left(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    executor = make_executor("next")
    assert await executor.recover() == [], "the lease still lasts"
    await end_leases(database)
    recovered = await executor.recover()
    assert [outcome.status for outcome in recovered] == ["inconclusive"]
    assert await executor.execute(message(block())) == recovered[0]


async def test_the_lease_is_kept_while_an_action_takes_long(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    openclaw.gate.clear()
    running = asyncio.create_task(make_executor("slow").execute(message(block())))
    await openclaw.arrived.wait()
    for _ in range(10):
        await clock.until_sleepers(2)  # the renewal, and the watch over its end
        clock.advance(LEASE_MS // 3)
    await clock.until_sleepers(2)
    assert await make_executor("other").recover() == []
    openclaw.gate.set()
    outcome = await running
    assert outcome is not None
    assert outcome.status == "succeeded"


async def test_who_lost_the_lease_cannot_write_success(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    """
    slow:   claim -- call ----------(stopped)---------- answer -> fenced, takes the recorded outcome
    other:                 lease over -> inconclusive
    """
    openclaw.gate.clear()
    slow = asyncio.create_task(make_executor("slow").execute(message(block())))
    await openclaw.arrived.wait()
    await end_leases(database)  # the slow one does not notice: as if its process had been stopped
    [concluded] = await make_executor("other").recover()
    openclaw.gate.set()
    outcome = await slow
    assert concluded.status == "inconclusive"
    assert outcome == concluded
    assert openclaw.calls == ["POST"]
    assert "command.fenced" in await kinds(database)
    assert "command.succeeded" not in await kinds(database)


async def test_a_lost_lease_stops_the_work(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    openclaw.gate.clear()
    slow = asyncio.create_task(make_executor("slow").execute(message(block())))
    await openclaw.arrived.wait()
    await clock.until_sleepers(2)
    await end_leases(database)
    [concluded] = await make_executor("other").recover()
    clock.advance(LEASE_MS // 3)  # now its renewal wakes up and finds the lease lost
    assert await slow == concluded


@contextlib.asynccontextmanager
async def small_database(database: Database) -> AsyncIterator[Database]:
    """The same database over one connection: who takes it cuts all others off."""
    pool = await connect_pool(database.url, 1)
    yield Database(database.url, pool)
    pool.terminate()


async def test_who_is_cut_off_from_the_database_stops_before_another_takes_its_target(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    """
    slow:   claim -- run ---- no database ------ end of its lease: cancelled                     -> inconclusive
    other:                                                  lease over -> inconclusive, eve runs
    """
    started, stopped = asyncio.Event(), asyncio.Event()

    async def run(*_: object) -> Result:
        started.set()
        try:
            await asyncio.Event().wait()
            return Result("done", "never", {})
        finally:
            stopped.set()

    endless = {"http.request": dataclasses.replace(load_actions()["http.request"], run=run)}
    async with small_database(database) as narrow, asyncio.timeout(20):
        slow = asyncio.create_task(make_executor("slow", db=narrow, actions=endless).execute(message(block())))
        await started.wait()
        await clock.until_sleepers(2)
        async with narrow.pool.acquire():
            clock.advance(LEASE_MS // 3)  # its renewal waits for the database now, and goes on waiting
            await asyncio.sleep(0)
            assert not stopped.is_set()
            clock.advance(LEASE_MS * 2 // 3 - 1)
            await stopped.wait()
            await end_leases(database)
            outcome = await make_executor("other").execute(message(block("eve")))
        lost = await slow
    assert outcome is not None
    assert lost is not None
    assert (outcome.status, openclaw.blocked) == ("succeeded", ["eve"])
    assert (lost.status, lost.reason) == ("inconclusive", "executor_lost")
    assert "command.fenced" in await kinds(database)


async def test_who_was_held_up_between_claim_and_run_does_not_run(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    action = load_actions()["http.request"]

    async def plan(*args: Any) -> Plan:
        await clock.until_sleepers(2)
        clock.ms += LEASE_MS  # and nobody is woken: the process stood still
        return await action.plan(*args)

    late = {"http.request": dataclasses.replace(action, plan=plan)}
    running = asyncio.create_task(make_executor("late", actions=late).execute(message(block())))
    while not running.done() and "command.fenced" not in await kinds(database):  # noqa: ASYNC110  # rows tell nobody
        await asyncio.sleep(0.001)
    await end_leases(database)
    while not running.done():
        await clock_tick(clock)
    outcome = running.result()
    assert outcome is not None
    assert (outcome.status, openclaw.calls) == ("inconclusive", [])


async def test_a_lease_is_counted_by_the_databases_clock(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    clock.ms += 1000 * LEASE_MS
    assert await make_executor("of another time").recover() == []


CHILD = """
import asyncio, sys
from pathlib import Path
import asyncpg, httpx
from engine.actions import Environment, HttpHost, load_actions
from engine.edge.clock import SystemClock
from engine.edge.database import open_database
from engine.edge.executor import Executor, ExecutorSettings
from engine.edge.keys import load_public
from engine.response import signing

async def main(database, target, key, raw):
    async with open_database(database, Path("."), migrations=False) as db, httpx.AsyncClient() as client:
        env = Environment({"openclaw": HttpHost(target, "secret-token")}, {}, client, asyncpg.connect, asyncio.sleep)
        settings = ExecutorSettings("killed", frozenset(["http.request"]), lambda c, d: "auto", lease_ms=1000)
        keys = signing.public_keys(load_public(key))
        await Executor(db, settings, keys, load_actions(), env, SystemClock()).execute(raw.encode())

asyncio.run(main(*sys.argv[1:]))
"""


async def test_sigkill_between_claim_and_outcome_never_calls_twice(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    openclaw.gate.clear()
    command = block(expires_ms=2**52)
    key = signing.public_pem(KEY.public_key()).decode()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, database.url, openclaw.url, key, message(command).decode()
    )
    await openclaw.arrived.wait()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    openclaw.gate.set()
    await end_leases(database)
    outcome = await make_executor("next").execute(message(command))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("inconclusive", "executor_lost")
    assert openclaw.calls == ["POST"]
    assert await kinds(database) == ["command.claimed", "command.planned", "command.inconclusive"]


@pytest.mark.parametrize("point", ["before the call", "after the call"])
async def test_losing_the_database_connection_in_the_middle_does_not_call_twice(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database, point: str
) -> None:
    openclaw.gate.clear()
    running = asyncio.create_task(make_executor().execute(message(block())))
    if point == "after the call":
        await openclaw.arrived.wait()
    async with database.connection() as conn:
        await conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    openclaw.gate.set()
    while not running.done():
        await clock_tick(clock)
    outcome = running.result()
    assert outcome is not None
    assert outcome.status in ("succeeded", "inconclusive")
    assert len(openclaw.calls) <= 1
