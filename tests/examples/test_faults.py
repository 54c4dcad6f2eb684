"""Each fault is real traffic that shows in metrics, logs and tables, and ends when it is repaired."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from examples.aureus import fault
from examples.aureus.faults import FAULTS, FaultBoard, FaultError, World
from examples.aureus.signatures import KeyDirectory
from examples.aureus.signers import SigningDesk
from tests.examples.conftest import LokiReceiver, Stack, until


async def switch(stack: Stack, control: str, name: str, on: bool) -> Any:
    async with stack.session.post(f"{control}/faults/{name}", json={"on": on}) as response:
        response.raise_for_status()
        return await response.json()


async def test_ordinary_traffic_verifies_chats_and_stays_healthy(
    stack: Stack, control: str, loki: LokiReceiver
) -> None:
    await until(lambda: len(loki.events("signature_verified")) >= 5, "verified signatures")
    await until(lambda: len(loki.events("connection_opened")) >= 10, "chats")
    await until(lambda: loki.events("policy_allowed"), "messages that are allowed")
    assert not loki.events("signature_verification_failed", reason="key_mismatch")
    assert not loki.events("signature_verification_failed", reason="tampered")
    assert not loki.events("user_rejected")
    for service in stack.urls:
        assert (await stack.get(service, "/health"))["status"] == "ok"


async def test_a_policy_attack_comes_from_one_user_and_ends_with_the_block(
    stack: Stack, control: str, loki: LokiReceiver
) -> None:
    answer = await switch(stack, control, "policy-attack", True)
    assert answer["on"]
    assert "mallory on telegram" in answer["injected"]
    await until(lambda: len(loki.events("policy_violation", user="mallory", channel="telegram")) >= 3, "attack")
    await stack.post("openclaw", "/api/admin/blocklist", {"user_id": "mallory", "reason": "attack"})
    await until(lambda: loki.events("user_rejected", user="mallory"), "mallory knocks")
    before = len(loki.events("policy_violation", user="mallory"))
    knocks = len(loki.events("user_rejected", user="mallory"))
    await until(lambda: len(loki.events("user_rejected", user="mallory")) >= knocks + 2, "mallory knocks again")
    assert len(loki.events("policy_violation", user="mallory")) == before


async def test_a_connection_leak_opens_far_more_than_it_closes_until_a_restart(
    stack: Stack, control: str, loki: LokiReceiver
) -> None:
    await switch(stack, control, "connection-leak", True)
    await until(lambda: len(loki.events("connection_opened", channel="discord")) >= 120, "120 chats on discord")
    discord = (await stack.get("openclaw", "/api/admin/connections"))["channels"]["discord"]
    assert discord["active"] >= 110
    assert discord["closed"] <= 10
    stopped = await switch(stack, control, "connection-leak", False)
    assert not stopped["on"]
    assert stopped["events"] >= 110
    await until(lambda: len(loki.events("connection_closed", channel="discord")) >= 110, "the leak is closed")


@pytest.mark.parametrize("stale_after_s", [0.5])
async def test_a_restart_closes_leaked_chats_and_their_clients_never_come_back(
    stack: Stack, control: str, loki: LokiReceiver
) -> None:
    await switch(stack, control, "connection-leak", True)
    leaked = "connection_timeout"
    await until(lambda: len(loki.events(leaked, channel="discord")) >= 60, "leaked chats are reported")
    relays = {line["user"] for line in loki.events(leaked) if line["user"].startswith("relay-")}
    assert len(relays) > 20
    _, answer = await stack.post("openclaw", "/api/admin/restart")
    await until(lambda: loki.events("restarted", closed=answer["closing"]), "restarted")
    assert answer["closing"] >= 60
    before = len(loki.events("connection_opened"))
    await until(lambda: len(loki.events("connection_opened")) >= before + 10, "visitors come back")
    channels = (await stack.get("openclaw", "/api/admin/connections"))["channels"]
    assert sum(channel["active"] for channel in channels.values()) < answer["closing"] + 60


async def test_a_key_mismatch_lasts_until_the_keys_are_reloaded(stack: Stack, control: str, loki: LokiReceiver) -> None:
    answer = await switch(stack, control, "key-mismatch", True)
    assert "from key-1 to key-2" in answer["injected"]
    failed = {"reason": "key_mismatch", "key_id": "key-2"}
    await until(lambda: len(loki.events("signature_verification_failed", **failed)) >= 3, "mismatches")
    assert loki.events("key_rotation", old_key_id="key-1", new_key_id="key-2")
    await stack.post("bridge", "/api/admin/keys/reload")
    await until(lambda: len(loki.events("signature_verified", key_id="key-2")) >= 3, "the new key is believed")


async def test_switching_a_key_mismatch_off_brings_back_the_old_key(
    stack: Stack, control: str, loki: LokiReceiver
) -> None:
    await switch(stack, control, "key-mismatch", True)
    await until(lambda: loki.events("signature_verification_failed", reason="key_mismatch"), "a mismatch")
    await switch(stack, control, "key-mismatch", False)
    before = len(loki.events("signature_verified", key_id="key-1"))
    await until(lambda: len(loki.events("signature_verified", key_id="key-1")) > before, "the old key again")
    assert KeyDirectory(stack.keys).load().current == "key-1"


@pytest.mark.parametrize(("name", "reason"), [("tampering", "tampered"), ("ttl-expiry", "ttl_expired")])
async def test_altered_and_late_messages_are_refused_for_what_they_are(
    stack: Stack, control: str, loki: LokiReceiver, name: str, reason: str
) -> None:
    await switch(stack, control, name, True)
    failed = "signature_verification_failed"
    await until(lambda: len(loki.events(failed, reason=reason, key_id="key-1")) >= 4, f"{reason} failures")
    others = [line for line in loki.events(failed) if line["reason"] not in (reason, "ttl_expired")]
    assert others == []


async def test_a_switch_that_already_stands_there_changes_nothing(stack: Stack, control: str) -> None:
    first = await switch(stack, control, "ttl-expiry", True)
    again = await switch(stack, control, "ttl-expiry", True)
    assert (again["at_ms"], again["injected"]) == (first["at_ms"], first["injected"])
    async with stack.session.get(f"{control}/faults") as response:
        states = (await response.json())["faults"]
    assert {state["name"]: state["on"] for state in states} == {name: name == "ttl-expiry" for name in FAULTS}


@pytest.mark.parametrize(
    ("name", "body", "status", "complaint"),
    [
        ("rain", {"on": True}, 404, "no fault 'rain'; there are policy-attack, "),
        ("tampering", {"on": "yes"}, 400, "Expected `bool`, got `str` - at `$.on`"),
    ],
)
async def test_the_control_refuses_what_it_does_not_know(
    stack: Stack, control: str, name: str, body: object, status: int, complaint: str
) -> None:
    async with stack.session.post(f"{control}/faults/{name}", json=body) as response:
        assert response.status == status
        assert complaint in await response.text()


async def test_a_leak_that_the_machine_cannot_hold_is_refused_with_the_figures(stack: Stack) -> None:
    async with aiohttp.ClientSession() as session:
        desk = SigningDesk(session, stack.urls["bridge"], KeyDirectory(stack.keys))
        board = FaultBoard(World(session, stack.urls["openclaw"], desk, files_max=256), seed=1)
        with pytest.raises(FaultError, match="needs 2600 open files, the limit here is 256"):
            await board.switch("connection-leak", on=True)
    assert not any(state.on for state in board.states())


async def test_a_person_switches_faults_from_the_shell(control: str, capsys: pytest.CaptureFixture[str]) -> None:
    for state in ("on", "off"):
        arguments = ["tampering", state, "--control", control]
        assert await asyncio.to_thread(fault.main, arguments) == 0
        assert msgspec.json.decode(capsys.readouterr().out)["on"] is (state == "on")


def test_the_shell_command_says_when_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert fault.main(["tampering", "on", "--control", "http://127.0.0.1:9"]) == 1
    assert "does not answer at http://127.0.0.1:9" in capsys.readouterr().err
