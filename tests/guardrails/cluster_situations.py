"""The dangerous situations of a cluster, on a real Kubernetes API: what is refused must not change anything."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from engine.actions import Plan, load_actions
from engine.core.messages import Command, Outcome, Target, encode
from engine.edge import approvals
from tests.cluster import manifest
from tests.guardrails.situations import Situation
from tests.guardrails.world import World, command, message

APPS = "/apis/apps/v1/namespaces"
BUDGETS = "/apis/policy/v1/namespaces"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces"


def _path(world: World, name: str = "app") -> str:
    return f"{APPS}/{world.namespace}/deployments/{name}"


def _deploy(world: World, replicas: int = 2, name: str = "app") -> str:
    """A Deployment whose pods are ready; as a target."""
    world.cluster.create(f"{APPS}/{world.namespace}/deployments", manifest(name, replicas=replicas))
    world.cluster.settled(_path(world, name))
    return f"{world.namespace}/deployment/{name}"


def _command(action: str, target: str, **params: Any) -> Command:
    return command(action=f"kubernetes.{action}", target=Target("kubernetes", target), params=params)


def _automatic(world: World, *first: dict[str, str]) -> None:
    names = ("kubernetes.scale", "kubernetes.delete_pod", "kubernetes.rollout_restart")
    world.configure(overrides=[*first, *({"action": name, "mode": "auto"} for name in names)])


def refused(action: str, pods: int, /, **params: Any) -> Callable[[World], Awaitable[None]]:
    """A command that the executor must not carry out on a healthy Deployment."""

    async def bring_about(world: World) -> None:
        target = _deploy(world, pods)
        _automatic(world)
        await _unchanged(world, _command(action, target, **params))

    return bring_about


async def _unchanged(world: World, one: Command) -> None:
    before, pods = world.cluster.get(_path(world)), world.cluster.pods(world.namespace)
    await world.executor().execute(message(one))
    assert world.cluster.get(_path(world))["spec"] == before["spec"]
    assert [pod["metadata"]["uid"] for pod in world.cluster.pods(world.namespace)] == [
        pod["metadata"]["uid"] for pod in pods
    ]


def _a_pod(world: World) -> str:
    return f"{world.namespace}/pod/{world.cluster.pods(world.namespace)[0]['metadata']['name']}"


async def last_healthy_replica(world: World) -> None:
    _deploy(world, replicas=1)
    _automatic(world)
    await _unchanged(world, _command("delete_pod", _a_pod(world)))


async def disruption_budget(world: World) -> None:
    _deploy(world)
    _automatic(world)
    budgets = f"{BUDGETS}/{world.namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "app"}}}
    world.cluster.create(budgets, {"metadata": {"name": "two"}, "spec": spec})
    seen = f"{budgets}/two"
    world.cluster.until(lambda: world.cluster.get(seen).get("status", {}).get("currentHealthy") == 2, "it is seen")
    await _unchanged(world, _command("delete_pod", _a_pod(world)))


async def autoscaler_in_charge(world: World) -> None:
    target = _deploy(world)
    _automatic(world)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}
    spec = {"scaleTargetRef": reference, "maxReplicas": 4}
    path = f"{AUTOSCALERS}/{world.namespace}/horizontalpodautoscalers"
    world.cluster.create(path, {"metadata": {"name": "app"}, "spec": spec})
    await _unchanged(world, _command("scale", target, by=1, ceiling=5))


async def replaced_since_the_plan(world: World) -> None:
    target = _deploy(world)
    _automatic(world)
    scale = load_actions()["kubernetes.scale"]

    async def plan(*given: Any) -> Plan:
        made = await scale.plan(*given)
        world.cluster.delete(_path(world))
        world.cluster.until(lambda: not world.cluster.pods(world.namespace), "its pods are gone")
        _deploy(world)
        return made

    executor = world.executor(actions={scale.name: dataclasses.replace(scale, plan=plan)})
    await executor.execute(message(_command("scale", target, by=1, ceiling=5)))
    assert world.cluster.get(_path(world))["spec"]["replicas"] == 2


async def unknown_namespace(world: World) -> None:
    _deploy(world)
    _automatic(world)
    await _unchanged(world, _command("scale", "kube-system/deployment/app", by=1, ceiling=5))


def _guard_the_targets_namespace(world: World) -> str:
    """`approve` for the namespace that the target is in; the alert says that it is about another one."""
    _automatic(world, {"namespace": world.namespace, "mode": "approve"})
    return _deploy(world)


async def production_namespace_asked(world: World) -> None:
    await world.fire(alertname="HighMemoryUsage", target=_guard_the_targets_namespace(world), namespace="staging")
    await world.deliver()


async def production_namespace_sent(world: World) -> None:
    one = _command("scale", _guard_the_targets_namespace(world), by=1, ceiling=5)
    assert one.namespace != world.namespace
    await _unchanged(world, one)


async def another_path_as_a_name(world: World) -> None:
    _deploy(world)
    _automatic(world)
    await _unchanged(world, _command("scale", f"{world.namespace}/deployment/../../secrets/token", by=1, ceiling=5))


NAMES = ("one", "two", "three")


async def _restart(world: World, name: str) -> Outcome | None:
    """An executor of its own restarts a Deployment."""
    target = Target("kubernetes", f"{world.namespace}/deployment/{name}")
    one = command(id=f"restart-{name}", action="kubernetes.rollout_restart", target=target, params={})
    return await world.executor(f"executor-{name}").execute(message(one))


async def share_of_the_workloads(world: World) -> None:
    """Three executors restart three Deployments at the same time: of three, 30 % is one."""
    for name in NAMES:
        _deploy(world, name=name)
    _automatic(world)
    before = {name: world.cluster.get(_path(world, name))["spec"] for name in NAMES}
    outcomes = await asyncio.gather(*(_restart(world, name) for name in NAMES))
    assert sorted(one.status for one in outcomes if one) == ["refused", "refused", "succeeded"]
    changed = [name for name in NAMES if world.cluster.get(_path(world, name))["spec"] != before[name]]
    assert changed == [name for name, one in zip(NAMES, outcomes, strict=True) if one and one.status == "succeeded"]


async def share_of_the_pods(world: World) -> None:
    """Of five pods, 30 % is one; the one that replaced it does not make room for another."""
    _deploy(world, replicas=5)
    _automatic(world)
    first = await world.executor().execute(message(_command("delete_pod", _a_pod(world))))
    assert first is not None
    assert first.reason == "verified"
    await _unchanged(world, msgspec.structs.replace(_command("delete_pod", _a_pod(world)), id="evict-2"))


async def share_and_a_yes(world: World) -> None:
    for name in NAMES:
        _deploy(world, name=name)
    _automatic(world)
    await _restart(world, "one")
    target = Target("kubernetes", f"{world.namespace}/deployment/two")
    asked = command(id="restart-two", action="kubernetes.rollout_restart", target=target, params={})
    async with world.database.transaction() as conn:
        now_ms = world.clock.now_ms()
        await approvals.request(
            conn, encode(asked).decode(), now_ms=now_ms, expires_ms=asked.expires_ms, by="responder"
        )
    await world.decide("approve", "ada")
    await _restart(world, "two")


ON_A_CLUSTER = [
    dataclasses.replace(one, on_cluster=True)
    for one in (
        Situation("last healthy replica", last_healthy_replica, "refused", "last_healthy_replica"),
        Situation("disruption budget", disruption_budget, "refused", "disruption_budget"),
        Situation("autoscaler in charge", autoscaler_in_charge, "refused", "autoscaler_in_charge"),
        Situation("scale that would shrink", refused("scale", 3, replicas=2, ceiling=5), "refused", "would_shrink"),
        Situation("scale beyond the ceiling", refused("scale", 2, by=1, ceiling=2), "refused", "at_ceiling"),
        Situation("replaced since the plan", replaced_since_the_plan, "refused", "replaced"),
        Situation("unknown namespace", unknown_namespace, "refused", "namespace_not_allowed"),
        Situation("another path as a name", another_path_as_a_name, "refused", "target_not_allowed"),
        Situation("share of the workloads", share_of_the_workloads, "refused", "blast_radius", times=2),
        Situation("share of the pods", share_of_the_pods, "refused", "blast_radius"),
        Situation("share of the workloads, and a yes", share_and_a_yes, "ran once", "verified", times=2),
        Situation("target's namespace: asked", production_namespace_asked, "waits for a person", "policy_rule"),
        Situation("target's namespace: sent", production_namespace_sent, "refused", "approval_missing"),
    )
]
