"""The three services react for real: each admin call changes what clients see next."""

from __future__ import annotations

import time

import aiohttp
import asyncpg
import msgspec
import pytest
from aiohttp import WSMsgType

from examples.aureus.aureus_os import broken_policy
from examples.aureus.chat import connect
from examples.aureus.signatures import KeyDirectory, Payload, SignedMessage, Signer
from tests.examples.conftest import LokiReceiver, Stack, until

TTL_S = 30


def signed(signer: Signer, *, age_s: int = 0, body: str = "pay 5") -> SignedMessage:
    return signer.sign(Payload("billing", time.time_ns() // 1_000_000 - age_s * 1000, body), TTL_S)


async def send(stack: Stack, message: SignedMessage, path: str = "/verify") -> tuple[int, object]:
    return await stack.post("bridge", path, msgspec.to_builtins(message))


async def rows(postgres_url: str, database: str, sql: str, *values: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(postgres_url, database=database)
    try:
        return [tuple(row) for row in await connection.fetch(sql, *values)]
    finally:
        await connection.close()


async def test_a_rotated_key_fails_until_bridge_reloads_its_keys(
    stack: Stack, loki: LokiReceiver, postgres_url: str
) -> None:
    directory, old, new = KeyDirectory(stack.keys), Signer("reload-1"), Signer("reload-2")
    directory.publish(old.key_id, old.public_key)
    await stack.post("bridge", "/api/admin/keys/reload")
    assert await send(stack, signed(old)) == (200, {"verified": True, "reason": None})

    directory.publish(new.key_id, new.public_key)
    status, _ = await send(stack, signed(old, body="reload-2"), "/keys/rotation")
    assert status == 202
    assert await send(stack, signed(new)) == (200, {"verified": False, "reason": "key_mismatch"})
    assert await stack.get("bridge", "/api/admin/keys") == {"loaded": ["reload-1"], "current": "reload-1"}

    _, answer = await stack.post("bridge", "/api/admin/keys/reload")
    assert answer == {"loaded": ["reload-1", "reload-2"], "current": "reload-2"}
    assert await send(stack, signed(new)) == (200, {"verified": True, "reason": None})
    assert await send(stack, signed(old)) == (200, {"verified": True, "reason": None})

    sample = 'bridge_signature_failures_total{reason="key_mismatch"}'
    assert await stack.metric("bridge", sample) == 1
    found = await rows(
        postgres_url,
        "bridge",
        "SELECT action, result, reason, key_id FROM audit_log WHERE key_id = 'reload-2' ORDER BY id",
    )
    assert found == [
        ("key_rotation", "ok", "", "reload-2"),
        ("verify", "failed", "key_mismatch", "reload-2"),
        ("key_reload", "ok", "", "reload-2"),
        ("verify", "ok", "", "reload-2"),
    ]

    await until(lambda: len(loki.events("keys_reloaded", key_id="reload-2")) == 1, "keys_reloaded in the log")
    assert loki.events("key_rotation", old_key_id="reload-1", new_key_id="reload-2")
    assert loki.events("signature_verification_failed", reason="key_mismatch", source="billing")


async def test_bridge_tells_expiry_from_tampering_and_a_restart_reads_the_keys(stack: Stack) -> None:
    signer = Signer("restart-1")
    KeyDirectory(stack.keys).publish(signer.key_id, signer.public_key)
    async with stack.session.get(stack.urls["bridge"] + "/health") as response:
        assert (response.status, (await response.json())["reason"]) == (503, "no keys loaded")
    status, _ = await stack.post("bridge", "/api/admin/restart")
    assert status == 202
    altered = msgspec.structs.replace(signed(signer), payload=signed(signer).payload.replace("5", "6"))
    assert await send(stack, signed(signer, age_s=TTL_S + 60)) == (
        200,
        {"verified": False, "reason": "ttl_expired"},
    )
    assert await send(stack, altered) == (200, {"verified": False, "reason": "tampered"})
    status, _ = await send(stack, altered, "/keys/rotation")
    assert status == 403


@pytest.mark.parametrize(
    ("action", "policy_id"),
    [
        ("chat", None),
        ("export-customers", "data-exfiltration"),
        ("override-prompt", "prompt-injection"),
        ("run-shell", "code-execution"),
        ("never heard of", "unknown-action"),
    ],
)
def test_what_is_not_expressly_allowed_breaks_a_policy(action: str, policy_id: str | None) -> None:
    assert broken_policy(action) == policy_id


async def test_a_blocked_user_is_thrown_out_and_stays_out(stack: Stack, loki: LokiReceiver, postgres_url: str) -> None:
    openclaw = stack.urls["openclaw"]
    chat = await connect(stack.session, openclaw, "telegram", "eve")
    bystander = await connect(stack.session, openclaw, "telegram", "bob")
    await chat.send_json({"action": "run-shell"})
    assert await chat.receive_json() == {"decision": "violation", "policy_id": "code-execution"}
    sql = "SELECT policy_id, source_channel FROM policy_violations WHERE source_user = $1"
    assert await rows(postgres_url, "aureus_os", sql, "eve") == [("code-execution", "telegram")]
    violations = 'aureus_os_policy_violations_total{policy_id="code-execution"}'
    assert await stack.metric("aureus-os", violations) == 1

    answer = await stack.post("openclaw", "/api/admin/blocklist", {"user_id": "eve", "reason": "test"})
    assert answer == (201, {"user_id": "eve", "closed": 1})
    assert (await chat.receive()).type is WSMsgType.CLOSE
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(stack.session, openclaw, "discord", "eve")
    assert refused.value.status == 403
    assert await stack.get("openclaw", "/api/admin/blocklist") == {"blocked": ["eve"]}

    await bystander.send_json({"action": "chat"})
    assert await bystander.receive_json() == {"decision": "allow", "policy_id": None}
    await bystander.close()

    await until(lambda: bool(loki.events("user_rejected", user="eve", channel="discord")), "user_rejected in the log")
    assert loki.events("user_blocked", user="eve", reason="test")
    assert loki.events("policy_violation", user="eve", channel="telegram", policy_id="code-execution")


async def test_a_row_that_cannot_be_written_is_told_and_counted_and_the_decision_stands(
    stack: Stack, loki: LokiReceiver, postgres_url: str
) -> None:
    connection = await asyncpg.connect(postgres_url, database="aureus_os")
    await connection.execute("DROP TABLE policy_violations")  # every start makes it again
    await connection.close()
    answer = await stack.post("aureus-os", "/decide", {"user": "u", "channel": "web", "action": "run-shell"})
    assert answer == (200, {"decision": "violation", "policy_id": "code-execution"})
    assert await stack.metric("aureus-os", "aureus_os_errors_total") == 1
    await until(lambda: loki.events("database_write_failed", level="error"), "database_write_failed in the log")
    assert loki.events("policy_violation", user="u")


async def test_limits_refuse_new_chats_and_reap_the_longest_silent(stack: Stack, loki: LokiReceiver) -> None:
    openclaw = stack.urls["openclaw"]
    chats = [await connect(stack.session, openclaw, "discord", f"user-{n}") for n in range(5)]
    elsewhere = await connect(stack.session, openclaw, "web", "bob")
    for chat in chats[3:]:
        await chat.send_json({"action": "chat"})
        await chat.receive_json()
    answer = await stack.post("openclaw", "/api/admin/limits", {"max_connections_per_channel": 2})
    assert answer == (200, {"max_connections_per_channel": 2, "reaped": 3})
    assert [(await chat.receive()).type for chat in chats[:3]] == [WSMsgType.CLOSE] * 3
    assert await stack.metric("openclaw", 'openclaw_active_connections{channel="discord"}') == 2
    assert await stack.metric("openclaw", 'openclaw_connections_closed_total{channel="discord"}') == 3
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(stack.session, openclaw, "discord", "late")
    assert refused.value.status == 503

    await stack.post("openclaw", "/api/admin/limits", {"max_connections_per_channel": None})
    assert await stack.get("openclaw", "/api/admin/limits") == {"max_connections_per_channel": None}
    chats.append(await connect(stack.session, openclaw, "discord", "later"))
    for chat in [*chats, elsewhere]:
        await chat.close()

    await until(
        lambda: bool(loki.events("connection_refused", user="late", channel="discord")), "connection_refused in the log"
    )


async def test_a_restart_closes_every_chat_and_then_takes_new_ones(stack: Stack, loki: LokiReceiver) -> None:
    openclaw = stack.urls["openclaw"]
    chats = [await connect(stack.session, openclaw, "slack", f"user-{n}") for n in range(3)]
    assert await stack.post("openclaw", "/api/admin/restart") == (202, {"closing": 3})
    assert [(await chat.receive()).type for chat in chats] == [WSMsgType.CLOSE] * 3

    await until(lambda: bool(loki.events("restarted", closed=3)), "restarted in the log")
    assert (await stack.get("openclaw", "/api/admin/connections"))["active"] == 0
    again = await connect(stack.session, openclaw, "slack", "user-1")
    await again.close()


@pytest.mark.parametrize("stale_after_s", [1.0])
async def test_a_silent_chat_is_reported_once_and_counted_as_leaked(stack: Stack, loki: LokiReceiver) -> None:
    chat = await connect(stack.session, stack.urls["openclaw"], "web", "gone")

    await until(lambda: loki.events("connection_timeout", user="gone", channel="web"), "connection_timeout")
    channels = (await stack.get("openclaw", "/api/admin/connections"))["channels"]
    assert channels["web"] == {"active": 1, "opened": 1, "closed": 0, "leaked": 1}
    await chat.ping()
    await chat.send_json({"action": "chat"})
    await chat.receive_json()
    assert (await stack.get("openclaw", "/api/admin/connections"))["channels"]["web"]["leaked"] == 0
    await chat.close()
    assert len(loki.events("connection_timeout")) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"X-None": ""}, 401), ({"Authorization": "Basic abc"}, 401), ({"Authorization": "Bearer wrong"}, 403)],
)
@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("bridge", "/api/admin/keys/reload"),
        ("bridge", "/api/admin/restart"),
        ("openclaw", "/api/admin/blocklist"),
        ("openclaw", "/api/admin/limits"),
        ("openclaw", "/api/admin/restart"),
    ],
)
async def test_admin_calls_need_the_token(
    stack: Stack, service: str, path: str, headers: dict[str, str], status: int
) -> None:
    answered, _ = await stack.post(service, path, {}, **headers)
    assert answered == status


@pytest.mark.parametrize(
    ("service", "path", "body", "complaint"),
    [
        ("bridge", "/verify", {"key_id": 1}, "Expected `str`, got `int` - at `$.key_id`"),
        ("aureus-os", "/decide", {"user": "u"}, "missing required field `channel`"),
        ("openclaw", "/api/admin/blocklist", {"user_id": ""}, "user_id is empty"),
        ("openclaw", "/api/admin/limits", {"max_connections_per_channel": 0}, "must be 1 or more"),
        ("openclaw", "/api/admin/limits", {}, "missing required field"),
    ],
)
async def test_a_wrong_body_is_refused_with_the_reason(
    stack: Stack, service: str, path: str, body: object, complaint: str
) -> None:
    status, text = await stack.post(service, path, body)
    assert status == 400
    assert complaint in text


async def test_chats_need_a_known_channel_and_a_user(stack: Stack) -> None:
    for path, status in (("/ws/irc?user=u", 404), ("/ws/web", 400)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stack.session.ws_connect(stack.urls["openclaw"] + path)
        assert refused.value.status == status


async def test_every_metric_of_the_vocabulary_stands_at_zero_from_the_start(stack: Stack) -> None:
    for reason in ("ttl_expired", "key_mismatch", "tampered"):
        assert await stack.metric("bridge", f'bridge_signature_failures_total{{reason="{reason}"}}') == 0
    assert await stack.metric("bridge", "bridge_signatures_verified_total") == 0
    for channel in ("telegram", "discord", "slack", "web"):
        for name in ("active_connections", "connections_opened_total", "connections_closed_total"):
            assert await stack.metric("openclaw", f'openclaw_{name}{{channel="{channel}"}}') == 0
    for service, prefix in (("bridge", "bridge"), ("aureus-os", "aureus_os"), ("openclaw", "openclaw")):
        for name in ("requests_total", "errors_total", "request_duration_seconds_count"):
            assert await stack.metric(service, f"{prefix}_{name}") == 0
        assert await stack.metric(service, "process_cpu_seconds_total") > 0
        async with stack.session.get(stack.urls[service] + "/metrics") as response:
            assert "_created" not in await response.text()
