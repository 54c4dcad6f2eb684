"""At most once: crashes at each point, two executors, lost leases, and a real SIGKILL."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from engine.core.messages import Outcome
from engine.edge import audit, claims
from engine.edge.database import Database
from engine.response import signing
from tests.executor.conftest import KEY, LEASE_MS, MakeExecutor, ManualClock, OpenClaw, block, message, signed


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
        clock.advance(250)
        await asyncio.sleep(0)
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
    clock.advance(1)
    await asyncio.sleep(0)


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
    clock.advance(LEASE_MS)
    outcome = await make_executor("next").execute(message(block()))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("inconclusive", "executor_lost")
    assert outcome.detail["check"]["state"] == "yes"  # type: ignore[index]  # JSON
    assert openclaw.calls == ["POST"]
    assert await kinds(database) == ["command.claimed", "command.planned", "command.inconclusive"]


async def test_a_crash_between_claim_and_call_is_inconclusive_too_and_never_called(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock, database: Database
) -> None:
    now_ms = clock.now_ms()
    async with database.transaction() as conn:
        assert await claims.take(conn, block(), signed(block()).body, "dead", now_ms, now_ms + LEASE_MS) is not None
    clock.advance(LEASE_MS)
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
        assert await claims.take(conn, block(), "{}", "dead", 0, 2**50) is not None
        await undone.rollback()
    outcome = await make_executor("next").execute(message(block()))
    assert outcome is not None
    assert outcome.status == "succeeded"


async def test_while_the_lease_of_a_silent_executor_lasts_others_wait(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    waiting = asyncio.create_task(make_executor("next").execute(message(block())))
    for _ in range(20):
        await clock.until_somebody_sleeps()
        clock.advance(250)
    assert not waiting.done()
    clock.advance(LEASE_MS)
    outcome = await waiting
    assert outcome is not None
    assert outcome.status == "inconclusive"
    assert openclaw.calls == ["POST"]


async def test_a_dead_executor_does_not_hold_its_target_for_ever(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    clock.advance(LEASE_MS)
    outcome = await make_executor("next").execute(message(block("eve")))
    assert outcome is not None
    assert outcome.status == "succeeded"
    lost = await make_executor("next").execute(message(block("mallory")))
    assert lost is not None
    assert lost.status == "inconclusive"


async def test_recovery_concludes_what_the_dead_left(
    make_executor: MakeExecutor, openclaw: OpenClaw, clock: ManualClock
) -> None:
    await abandon_while_calling(make_executor, openclaw)
    executor = make_executor("next")
    assert await executor.recover() == [], "the lease still lasts"
    clock.advance(LEASE_MS)
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
        await clock.until_somebody_sleeps()
        clock.advance(LEASE_MS // 3)
    await clock.until_somebody_sleeps()
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
    clock.ms += LEASE_MS + 1  # the slow one does not notice: as if its process had been stopped
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
    await clock.until_somebody_sleeps()
    clock.ms += LEASE_MS + 1
    [concluded] = await make_executor("other").recover()
    clock.advance(0)  # now its renewal wakes up and finds the lease lost
    assert await slow == concluded


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
    clock.ms = 2**51  # well after the lease, on any clock
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
