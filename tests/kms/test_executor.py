"""A signed command through the executor: what a later step of the runbook is told of the new key."""

from __future__ import annotations

from engine.actions import load_actions
from engine.core.messages import Command, Target, encode
from engine.edge.clock import SystemClock
from engine.edge.database import Database
from engine.edge.executor import Executor, ExecutorSettings
from engine.response import signing
from tests.kms.conftest import Kms

KEY = signing.generate()


async def test_the_outcome_names_the_new_key_where_later_steps_look_for_it(database: Database, kms: Kms) -> None:
    old = kms.key()
    now_ms = SystemClock().now_ms()
    command = Command(
        id="rotate-1",
        incident=7,
        rule="aureus/SignatureFailures",
        runbook="SignatureFailures",
        step="rotate",
        action="kms.rotate_signing_key",
        target=Target("kms", "bridge"),
        params={},
        severity="critical",
        issued_ms=now_ms,
        expires_ms=now_ms + 3_600_000,
    )
    actions = load_actions()
    settings = ExecutorSettings("one", frozenset(actions), lambda _, __: "auto")
    executor = Executor(database, settings, signing.public_keys(KEY.public_key()), actions, kms.env, SystemClock())
    outcome = await executor.execute(encode(signing.sign(command, KEY)))
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("succeeded", "verified")
    told = {name: outcome.detail[name] for name in ("key_id", "previous_key_id", "alias")}
    assert told == {"key_id": kms.at()["KeyId"], "previous_key_id": old, "alias": kms.alias}
    assert kms.tags(kms.at()["KeyId"])["aureus-sentinel/command"] == "rotate-1"
