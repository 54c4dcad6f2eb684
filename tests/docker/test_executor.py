"""A signed command through the executor to a real engine: what may be changed, and what the outcome says."""

from __future__ import annotations

import pytest

from engine.actions import load_actions
from engine.core.messages import Command, Outcome, Target, encode
from engine.edge.clock import SystemClock
from engine.edge.database import Database
from engine.edge.executor import Executor, ExecutorSettings
from engine.response import signing
from tests.docker.conftest import Project, service

pytestmark = pytest.mark.real
KEY = signing.generate()


async def carried_out(database: Database, project: Project, target: str) -> Outcome:
    now_ms = SystemClock().now_ms()
    command = Command(
        id=f"restart-{target}",
        incident=7,
        rule="aureus/ServiceDown",
        runbook="ServiceDown",
        step="restart",
        action="compose.restart",
        target=Target("compose", target),
        params={},
        severity="critical",
        issued_ms=now_ms,
        expires_ms=now_ms + 3_600_000,
    )
    actions = load_actions()
    settings = ExecutorSettings("one", frozenset(actions), lambda _, __: "auto")
    keys = signing.public_keys(KEY.public_key())
    executor = Executor(database, settings, keys, actions, project.env, SystemClock())
    outcome = await executor.execute(encode(signing.sign(command, KEY)))
    assert outcome is not None
    return outcome


async def test_a_command_restarts_its_service_once_however_often_it_comes(database: Database, project: Project) -> None:
    project.up(web=service())
    before = project.started("web")
    outcome = await carried_out(database, project, f"{project.name}/web")
    assert (outcome.status, outcome.reason) == ("succeeded", "verified")
    assert outcome.detail["command"] == ["docker", "compose", "restart", "--no-deps", "web"]
    after = project.started("web")
    assert after != before
    assert await carried_out(database, project, f"{project.name}/web") == outcome
    assert project.started("web") == after


@pytest.mark.parametrize("target", ["other/web", "PROJECT/--all", "PROJECT/", "PROJECT/web web"])
async def test_a_target_outside_the_allow_list_is_refused_before_anything_is_asked(
    database: Database, project: Project, target: str
) -> None:
    outcome = await carried_out(database, project, target.replace("PROJECT", project.name))
    assert (outcome.status, outcome.reason) == ("refused", "target_not_allowed")
