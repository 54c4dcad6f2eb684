"""Signed commands through the executor to a real cluster: what may be changed, and what every outcome says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from engine.actions import Action, Environment, Result, load_actions
from engine.core.messages import Command, Outcome, Target, encode
from engine.edge import audit
from engine.edge.clock import SystemClock
from engine.edge.database import Database
from engine.edge.executor import Executor, ExecutorSettings
from engine.response import signing
from tests.cluster import Cluster
from tests.kubernetes.conftest import APPS, Workload, environment_of, path_of

pytestmark = pytest.mark.real

KEY = signing.generate()


def command(target: str, action: str = "kubernetes.scale", **params: Any) -> Command:
    """A command of an hour's life, as the responder makes it."""
    now_ms = SystemClock().now_ms()
    return Command(
        id=f"{action}-{target}-{sorted(params)}",
        incident=7,
        rule="aureus/HighCPUUsage",
        runbook="HighCPUUsage",
        step="scale",
        action=action,
        target=Target("kubernetes", target),
        params=params,
        severity="warning",
        issued_ms=now_ms,
        expires_ms=now_ms + 3_600_000,
    )


def executor(
    database: Database, env: Environment, namespaces: set[str], changed: Mapping[str, Action] | None = None
) -> Executor:
    actions = {**load_actions(), **(changed or {})}
    settings = ExecutorSettings("one", frozenset(actions), lambda _, __: "auto", frozenset(namespaces))
    return Executor(database, settings, signing.public_keys(KEY.public_key()), actions, env, SystemClock())


async def carried_out(database: Database, env: Environment, one: Command, namespaces: set[str]) -> Outcome:
    outcome = await executor(database, env, namespaces).execute(encode(signing.sign(one, KEY)))
    assert outcome is not None
    return outcome


async def test_a_command_is_planned_run_verified_and_told_how_to_be_taken_back(
    cluster: Cluster, env: Environment, database: Database, deployment: Workload, namespace: str
) -> None:
    target = deployment()
    outcome = await carried_out(database, env, command(target, by=1, ceiling=5), {namespace})
    assert (outcome.status, outcome.reason) == ("succeeded", "verified")
    assert cluster.get(path_of(target))["spec"]["replicas"] == 3
    undo = {"replicas": 2, "allow_shrink": True, "floor": 1, "ceiling": 5}
    assert outcome.detail["undo"] == {"action": "kubernetes.scale", "params": undo}


async def test_the_same_command_again_gives_the_same_outcome_and_changes_nothing(
    cluster: Cluster, env: Environment, database: Database, deployment: Workload, namespace: str
) -> None:
    target = deployment()
    one = command(target, by=1, ceiling=5)
    outcomes = await asyncio.gather(*(carried_out(database, env, one, {namespace}) for _ in range(3)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert cluster.get(path_of(target))["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("kube-system/deployment/app", "namespace_not_allowed"),
        ("NAMESPACE/deployment/nobody", "not_found"),
        ("NAMESPACE/node/app", "target_not_allowed"),
        ("NAMESPACE/deployment/../../secrets/token", "target_not_allowed"),
        ("NAMESPACE/deployment/app?dryRun=All", "target_not_allowed"),
        ("NAMESPACE/deployment/", "target_not_allowed"),
        ("", "target_not_allowed"),
    ],
)
async def test_a_target_outside_what_is_allowed_is_refused_with_its_name(
    env: Environment, database: Database, namespace: str, target: str, reason: str
) -> None:
    one = command(target.replace("NAMESPACE", namespace), by=1, ceiling=5)
    outcome = await carried_out(database, env, one, {namespace})
    assert (outcome.status, outcome.reason) == ("refused", reason)


async def test_a_refusal_of_the_action_is_the_outcome_and_stands_in_the_audit(
    env: Environment, database: Database, deployment: Workload, namespace: str
) -> None:
    one = command(deployment(), by=-1, ceiling=5)
    outcome = await carried_out(database, env, one, {namespace})
    assert (outcome.status, outcome.reason) == ("refused", "would_shrink")
    assert outcome.detail == {"message": "from 2 to 1 pods; `allow_shrink: true` permits it"}
    async with database.connection() as conn:
        assert await audit.verify(conn) is None
        assert [row.kind for row in await audit.rows(conn)] == ["command.claimed", "command.refused"]


async def test_without_a_cluster_no_target_is_allowed(cluster: Cluster, env: Environment, database: Database) -> None:
    outcome = await carried_out(database, replace(env, kubernetes=None), command("a/deployment/b", by=1), {"a"})
    assert (outcome.status, outcome.reason) == ("refused", "target_not_allowed")


async def test_an_account_without_permissions_is_told_which_one_it_lacks(
    cluster: Cluster, database: Database, deployment: Workload, namespace: str
) -> None:
    target = deployment()
    async with environment_of(cluster, cluster.kubeconfig(cluster.account(namespace, "nobody"))) as env:
        outcome = await carried_out(database, env, command(target, by=1, ceiling=5), {namespace})
    assert (outcome.status, outcome.reason) == ("refused", "forbidden")
    lacking = f"the account lacks the permission: get on deployments.apps in namespace {namespace}"
    assert outcome.detail == {"message": lacking}
    assert cluster.get(f"{APPS}/{namespace}/deployments/app")["spec"]["replicas"] == 2


@pytest.mark.parametrize(("written", "state", "replicas"), [(True, "yes", 3), (False, "no", 2)])
async def test_after_a_crash_the_next_executor_looks_whether_it_was_written_and_writes_nothing(
    cluster: Cluster,
    env: Environment,
    database: Database,
    deployment: Workload,
    namespace: str,
    written: bool,
    state: str,
    replicas: int,
) -> None:
    target = deployment()
    one = command(target, by=1, ceiling=5)
    scale = load_actions()["kubernetes.scale"]

    async def die(*given: Any) -> Result:
        if written:
            await scale.run(*given)
        raise asyncio.CancelledError

    dying = executor(database, env, {namespace}, {scale.name: replace(scale, run=die)})
    await asyncio.gather(dying.execute(encode(signing.sign(one, KEY))), return_exceptions=True)
    async with database.connection() as conn:
        await conn.execute("update claims set lease_ms = 0 where outcome is null")
    outcome = await carried_out(database, env, one, {namespace})
    assert (outcome.status, outcome.reason, outcome.detail["check"]["state"]) == (
        "inconclusive",
        "executor_lost",
        state,
    )
    assert cluster.get(path_of(target))["spec"]["replicas"] == replicas
