"""The executor acts only on what it may, on a real PostgreSQL and a real HTTP target that counts its calls."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from engine.core.masking import MASK
from engine.core.messages import Command, Outcome, SignedCommand, Target, encode
from engine.edge import approvals, audit, control
from engine.edge.database import Database
from engine.edge.executor import MalformedCommandError
from engine.response import signing
from tests.executor.conftest import KEY, START_MS, TOKEN, MakeExecutor, ManualClock, OpenClaw, block, message, signed


async def kinds(database: Database) -> list[str]:
    async with database.connection() as conn:
        assert await audit.verify(conn) is None
        return [row.kind for row in await audit.rows(conn)]


async def reasons(database: Database) -> list[str]:
    async with database.connection() as conn:
        rows = await audit.rows(conn)
    return [msgspec.json.decode(row.data).get("reason", "") for row in rows]


async def test_a_good_command_is_claimed_planned_run_checked_and_written_down(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    outcome = await make_executor().execute(message(block()))
    assert outcome is not None
    assert (outcome.status, outcome.reason, outcome.incident) == ("succeeded", "verified", 7)
    assert openclaw.blocked == ["mallory"]
    assert outcome.detail["plan"]["summary"] == f"POST {openclaw.url}/api/admin/blocklist"  # type: ignore[index]  # JSON
    assert await kinds(database) == ["command.claimed", "command.planned", "command.succeeded"]


async def test_the_token_is_in_no_outcome_and_no_row(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    params = {"method": "GET", "path": "/echo", "expect_status": [201]}
    outcome = await make_executor().execute(message(block(params=params)))
    assert outcome is not None
    assert f"you sent Bearer {MASK}" in str(outcome.detail)
    assert TOKEN not in str(outcome)
    async with database.connection() as conn:
        everything = await conn.fetchval("select string_agg(a::text, '') from audit a")
        everything += await conn.fetchval("select string_agg(c::text, '') from claims c")
    assert TOKEN not in everything


def forged() -> bytes:
    return encode(signing.sign(block(), signing.generate()))


def forged_with_our_key_name() -> bytes:
    other = signing.sign(block(), signing.generate())
    return encode(msgspec.structs.replace(other, key_id=signed(block()).key_id))


def changed_body() -> bytes:
    good = signed(block())
    return encode(msgspec.structs.replace(good, body=good.body.replace("mallory", "alice")))


def changed_by_a_blank() -> bytes:
    good = signed(block())
    return encode(msgspec.structs.replace(good, body=good.body + " "))


def signature_that_is_no_base64() -> bytes:
    return encode(msgspec.structs.replace(signed(block()), signature="?!"))


def signed_but_no_command() -> bytes:
    return encode(signing.sign_body('{"id": 1}', KEY))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (forged(), "unknown_key"),
        (forged_with_our_key_name(), "bad_signature"),
        (changed_body(), "bad_signature"),
        (changed_by_a_blank(), "bad_signature"),
        (signature_that_is_no_base64(), "bad_signature"),
        (message(block(mark="replay")), "replay"),
    ],
)
async def test_a_message_that_cannot_be_believed_has_no_outcome_and_burns_no_id(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database, raw: bytes, reason: str
) -> None:
    executor = make_executor()
    assert await executor.execute(raw) is None
    assert openclaw.calls == []
    assert await kinds(database) == ["message.refused"]
    assert await reasons(database) == [reason]
    good = await executor.execute(message(block()))
    assert good is not None
    assert good.status == "succeeded"


@pytest.mark.parametrize("raw", [b"", b"not json", b"\xff\xfe", b'{"body": 1}', signed_but_no_command()])
async def test_garbage_is_for_the_dead_letters_and_writes_no_row(
    make_executor: MakeExecutor, database: Database, raw: bytes
) -> None:
    with pytest.raises(MalformedCommandError):
        await make_executor().execute(raw)
    assert await kinds(database) == []


GOOD = block().params


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (block(expires_ms=START_MS), "expired", "expired"),
        (block(expires_ms=START_MS - 1), "expired", "expired"),
        (block(action="shell.run"), "refused", "unknown_action"),
        (block(action="postgres.terminate_idle"), "refused", "wrong_target_kind"),
        (block(target=Target("http", "example.org")), "refused", "target_not_allowed"),
        (block(target=Target("http", "")), "refused", "target_not_allowed"),
        (
            block(
                action="postgres.terminate_idle",
                target=Target("postgres", "payroll"),
                params={"idle_minutes": 10, "roles": ["app"]},
            ),
            "refused",
            "target_not_allowed",
        ),
        (block(params={**GOOD, "namespace": "production"}), "refused", "namespace_not_allowed"),
        (block(params={**GOOD, "path": "//elsewhere/x"}), "refused", "bad_params"),
        (block(params={**GOOD, "path": "/../x"}), "refused", "bad_params"),
        (block(params={**GOOD, "shell": "rm"}), "refused", "bad_params"),
        (block(params={}), "refused", "bad_params"),
    ],
)
async def test_what_is_not_allowed_is_refused_with_its_name_and_nothing_is_called(
    make_executor: MakeExecutor,
    openclaw: OpenClaw,
    database: Database,
    command: Command,
    status: str,
    reason: str,
) -> None:
    executor = make_executor()
    outcome = await executor.execute(message(command))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == (status, reason)
    assert openclaw.calls == []
    assert await kinds(database) == [f"command.{status}"]
    assert await executor.execute(message(command)) == outcome


async def test_an_action_outside_the_allow_list_is_refused(make_executor: MakeExecutor, openclaw: OpenClaw) -> None:
    outcome = await make_executor(allow=()).execute(message(block()))
    assert outcome is not None
    assert outcome.reason == "action_not_allowed"
    assert openclaw.calls == []


async def test_a_bad_parameter_is_named(make_executor: MakeExecutor) -> None:
    outcome = await make_executor().execute(message(block(params={**GOOD, "method": "BREW"})))
    assert outcome is not None
    assert "method" in str(outcome.detail["message"])


async def test_nothing_starts_while_everything_is_paused(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    executor = make_executor()
    async with database.transaction() as conn:
        assert await control.set_paused(conn, True, "ada", START_MS)
    outcome = await executor.execute(message(block()))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("refused", "paused")
    async with database.transaction() as conn:
        assert await control.set_paused(conn, False, "ada", START_MS)
        assert not await control.set_paused(conn, False, "ada", START_MS)
        assert not await control.is_paused(conn)
    assert await executor.execute(message(block())) == outcome, "a refusal is for good"
    fresh = await executor.execute(message(block("eve")))
    assert fresh is not None
    assert fresh.status == "succeeded"
    assert openclaw.blocked == ["eve"]


async def test_a_pause_that_is_being_set_is_waited_for_and_obeyed(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    async with database.connection() as conn:
        pausing = conn.transaction()
        await pausing.start()
        await conn.execute("select from control for update")
        running = asyncio.create_task(make_executor().execute(message(block())))
        async with database.connection() as other, asyncio.timeout(10):
            while not await other.fetchval("select count(*) from pg_locks where not granted"):  # noqa: ASYNC110  # PostgreSQL tells nobody
                await asyncio.sleep(0.01)
        await control.set_paused(conn, True, "ada", START_MS)
        await pausing.commit()
    outcome = await running
    assert outcome is not None
    assert (outcome.status, outcome.reason, openclaw.calls) == ("refused", "paused", [])


async def test_observe_mode_only_refuses(make_executor: MakeExecutor, openclaw: OpenClaw) -> None:
    outcome = await make_executor(mode="observe").execute(message(block()))
    assert outcome is not None
    assert outcome.reason == "observe_mode"
    assert openclaw.calls == []


async def ask(database: Database, command: Command, expires_ms: int = START_MS + 60_000) -> None:
    async with database.transaction() as conn:
        body = signed(command).body
        await approvals.request(conn, body, now_ms=START_MS - 10, expires_ms=expires_ms, by="responder")


async def decide(database: Database, command: Command, decision: approvals.Decision, at_ms: int = START_MS) -> str:
    async with database.transaction() as conn:
        return (await approvals.decide(conn, command.id, decision, by="ada", now_ms=at_ms)).reason


async def test_with_approval_the_exact_command_runs(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    await ask(database, block())
    assert await decide(database, block(), "approved") == "accepted"
    outcome = await make_executor(mode="approve").execute(message(block()))
    assert outcome is not None
    assert outcome.status == "succeeded"
    assert await kinds(database) == [
        "approval.requested",
        "approval.approved",
        "command.claimed",
        "command.planned",
        "command.succeeded",
    ]


async def test_without_an_approval_nothing_runs(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    outcome = await make_executor(mode="approve").execute(message(block()))
    assert outcome is not None
    assert outcome.reason == "approval_missing"
    assert openclaw.calls == []


@pytest.mark.parametrize("mode", ["approve", "auto"])
@pytest.mark.parametrize(
    ("decision", "reason"), [(None, "approval_waiting"), ("denied", "approval_denied")], ids=["waiting", "denied"]
)
async def test_who_was_asked_must_have_agreed_in_any_mode(
    make_executor: MakeExecutor,
    openclaw: OpenClaw,
    database: Database,
    mode: str,
    decision: approvals.Decision | None,
    reason: str,
) -> None:
    await ask(database, block())
    if decision is not None:
        await decide(database, block(), decision)
    outcome = await make_executor(mode=mode).execute(message(block()))
    assert outcome is not None
    assert outcome.reason == reason
    assert openclaw.calls == []


async def test_an_approval_ends(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database, clock: ManualClock
) -> None:
    await ask(database, block())
    await decide(database, block(), "approved")
    clock.advance(60_000)
    outcome = await make_executor(mode="approve").execute(message(block()))
    assert outcome is not None
    assert outcome.reason == "approval_expired"
    assert openclaw.calls == []


async def test_an_approval_for_another_body_does_not_count(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    await ask(database, block())
    await decide(database, block(), "approved")
    other = block(params={**GOOD, "json": {"user_id": "alice"}})
    outcome = await make_executor(mode="approve").execute(message(other))
    assert outcome is not None
    assert outcome.reason == "approval_for_other_command"
    assert openclaw.calls == []


async def test_a_used_id_with_another_content_is_not_believed(
    make_executor: MakeExecutor, openclaw: OpenClaw, database: Database
) -> None:
    executor = make_executor()
    await executor.execute(message(block()))
    other = block(params={**GOOD, "json": {"user_id": "alice"}})
    assert await executor.execute(message(other)) is None
    assert openclaw.blocked == ["mallory"]
    assert (await reasons(database))[-1] == "changed_command"


async def test_an_empty_target_set_is_nothing_to_do(make_executor: MakeExecutor) -> None:
    command = block(
        action="postgres.terminate_idle",
        target=Target("postgres", "main"),
        params={"idle_minutes": 10, "roles": ["nobody_has_this_role"]},
    )
    outcome = await make_executor().execute(message(command))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("succeeded", "nothing_to_do")


@pytest.mark.parametrize(
    ("params", "status", "reason"),
    [
        ({"method": "POST", "path": "/moved"}, "failed", "unexpected_status"),
        ({"method": "GET", "path": "/nothing"}, "failed", "unexpected_status"),
        ({"method": "GET", "path": "/huge"}, "succeeded", "done_unchecked"),
        (
            {"method": "GET", "path": "/echo", "check": {"path": "/echo", "expect": "status == 500"}},
            "failed",
            "check_failed",
        ),
        (
            {"method": "GET", "path": "/echo", "check": {"path": "/echo", "expect": "body.nope == 1"}},
            "inconclusive",
            "check_unknown",
        ),
        (
            {"method": "GET", "path": "/echo", "check": {"path": "/huge", "expect": "true"}},
            "inconclusive",
            "check_unknown",
        ),
    ],
)
async def test_answers_become_outcomes(
    make_executor: MakeExecutor, openclaw: OpenClaw, params: dict[str, object], status: str, reason: str
) -> None:
    outcome = await make_executor().execute(message(block(params=params)))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == (status, reason), outcome.detail
    assert openclaw.calls.count("POST") == 0, "no redirect is followed"
    assert len(encode(outcome)) < 10_000


async def test_a_closed_port_is_a_failure_and_nothing_was_sent(make_executor: MakeExecutor) -> None:
    outcome = await make_executor().execute(message(block(target=Target("http", "closed"))))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("failed", "unreachable")


async def test_no_answer_is_inconclusive_and_the_request_is_not_sent_again(
    make_executor: MakeExecutor, openclaw: OpenClaw
) -> None:
    openclaw.gate.clear()
    outcome = await make_executor().execute(message(block(params={**GOOD, "timeout_s": 0.2})))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("succeeded", "verified"), "the check decides"
    assert openclaw.calls == ["POST"]


async def test_no_answer_without_a_check_is_inconclusive(make_executor: MakeExecutor, openclaw: OpenClaw) -> None:
    openclaw.gate.clear()
    params = {name: value for name, value in GOOD.items() if name != "check"}
    outcome = await make_executor().execute(message(block(params={**params, "timeout_s": 0.2})))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("inconclusive", "no_answer")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({}, "succeeded", "verified"),
        ({"check": {"path": "/api/admin/blocklist", "expect": '"eve" in body.blocked'}}, "failed", "check_failed"),
        ({"check": None}, "inconclusive", "unexpected_status"),
        ({"check": None, "expect_status": [504]}, "succeeded", "done_unchecked"),
    ],
)
async def test_an_answer_of_a_proxy_that_gave_up_leaves_it_to_the_check(
    make_executor: MakeExecutor, changes: dict[str, object], status: str, reason: str
) -> None:
    outcome = await make_executor().execute(message(block(params={**GOOD, "path": "/proxy", **changes})))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == (status, reason)
    result = outcome.detail
    assert isinstance(result, dict)
    assert len(str(result.get("body", ""))) == (0 if reason == "done_unchecked" else 200), "what helps, and no more"


async def test_outcomes_wait_until_they_are_published(make_executor: MakeExecutor) -> None:
    executor = make_executor()
    outcome = await executor.execute(message(block()))
    assert isinstance(outcome, Outcome)
    assert await make_executor("two").recover() == [outcome]
    await executor.mark_published(outcome)
    assert await executor.recover() == []


def test_a_signed_command_survives_json() -> None:
    good = signed(block())
    again = msgspec.json.decode(encode(good), type=SignedCommand)
    assert signing.verify(again, signing.public_keys(KEY.public_key())) == block()
