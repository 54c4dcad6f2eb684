"""The dangerous situations of a cluster, on a real Kubernetes API: nothing may be changed in any of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from engine.actions import Plan, load_actions
from engine.core.messages import Command, Target
from tests.cluster import manifest
from tests.guardrails.situations import Situation
from tests.guardrails.world import World, command, message

APPS = "/apis/apps/v1/namespaces"
BUDGETS = "/apis/policy/v1/namespaces"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces"


def _path(world: World) -> str:
    return f"{APPS}/{world.namespace}/deployments/app"


def _deploy(world: World, replicas: int = 2) -> str:
    """A Deployment whose pods are ready; as a target."""
    world.cluster.create(f"{APPS}/{world.namespace}/deployments", manifest("app", replicas=replicas))
    world.cluster.settled(_path(world))
    return f"{world.namespace}/deployment/app"


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
        Situation("target's namespace: asked", production_namespace_asked, "waits for a person", "policy_rule"),
        Situation("target's namespace: sent", production_namespace_sent, "refused", "approval_missing"),
    )
]
