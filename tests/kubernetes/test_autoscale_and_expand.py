"""`kubernetes.autoscale` and `kubernetes.expand_pvc` on a real API server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.actions import Environment, RefusedError
from tests.actions.work import Work
from tests.cluster import Cluster
from tests.kubernetes.conftest import Workload

pytestmark = pytest.mark.real

NEW = {"workload": "deployment/app", "max_replicas": 6, "cpu_percent": 70}


def autoscaler(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/app")[
        "spec"
    ]
    return found


async def reason(work: Work) -> str:
    with pytest.raises(RefusedError) as caught:
        await work.plan()
    return caught.value.reason


async def test_an_autoscaler_is_made_changed_and_put_back(cluster: Cluster, env: Environment, namespace: str) -> None:
    target = f"{namespace}/horizontalpodautoscaler/app"
    made = Work(env, "kubernetes.autoscale", target, **NEW)
    plan, result, check = await made.through()
    assert (result.reason, check.state) == ("written", "yes")
    assert made.action.undo is not None
    assert made.action.undo(made.params, plan) is None
    assert autoscaler(cluster, namespace)["scaleTargetRef"]["name"] == "app"
    change = Work(replace(env, command="command-2"), "kubernetes.autoscale", target, min_replicas=3, max_replicas=9)
    plan, _, check = await change.through()
    assert check.why == "the autoscaler keeps 3 to 9 pods"
    back = made.action.undo(change.params, plan)
    assert back is not None
    await Work(replace(env, command="command-3"), back.action, target, **back.params).through()
    bounds = autoscaler(cluster, namespace)
    assert (bounds["minReplicas"], bounds["maxReplicas"]) == (1, 6)


async def test_making_one_again_after_a_crash_makes_no_second_one(
    cluster: Cluster, env: Environment, namespace: str
) -> None:
    work = Work(env, "kubernetes.autoscale", f"{namespace}/horizontalpodautoscaler/app", **NEW)
    plan = await work.plan()
    assert ((await work.run(plan)).reason, (await work.run(plan)).reason) == ("written", "done_before")


async def test_one_that_somebody_else_made_meanwhile_is_left_alone(
    cluster: Cluster, env: Environment, namespace: str
) -> None:
    target = f"{namespace}/horizontalpodautoscaler/app"
    work = Work(env, "kubernetes.autoscale", target, **NEW)
    plan = await work.plan()
    await Work(replace(env, command="other"), "kubernetes.autoscale", target, **(NEW | {"max_replicas": 3})).through()
    with pytest.raises(RefusedError) as caught:
        await work.run(plan)
    assert caught.value.reason == "replaced"
    assert autoscaler(cluster, namespace)["maxReplicas"] == 3


@pytest.mark.parametrize(
    ("name", "params", "why"),
    [
        ("app", {"max_replicas": 5}, "would_shrink"),
        ("app", {"min_replicas": 7}, "not_admitted"),
        ("other", NEW, "autoscaler_in_charge"),
        ("other", {"max_replicas": 5}, "not_found"),
    ],
)
async def test_bounds_that_must_not_be_are_refused(
    env: Environment, namespace: str, name: str, params: dict[str, Any], why: str
) -> None:
    await Work(env, "kubernetes.autoscale", f"{namespace}/horizontalpodautoscaler/app", **NEW).through()
    assert (
        await reason(Work(env, "kubernetes.autoscale", f"{namespace}/horizontalpodautoscaler/{name}", **params)) == why
    )


async def test_scaling_points_to_the_autoscaler(env: Environment, deployment: Workload, namespace: str) -> None:
    target = deployment()
    await Work(env, "kubernetes.autoscale", f"{namespace}/horizontalpodautoscaler/app", **NEW).through()
    assert await reason(Work(env, "kubernetes.scale", target, by=1, ceiling=5)) == "autoscaler_in_charge"


async def test_a_volume_is_asked_for_and_waited_for(cluster: Cluster, env: Environment, namespace: str) -> None:
    cluster.volume(namespace, "data", "1Gi")
    target = f"{namespace}/persistentvolumeclaim/data"
    work = Work(env, "kubernetes.expand_pvc", target, by_percent=50, ceiling="2Gi", within_s=1)
    plan = await work.plan()
    assert plan.changes[0]["differences"] == [
        {"path": "spec.resources.requests.storage", "from": "1Gi", "to": "1536Mi"}
    ]
    assert (await work.run(plan)).status == "done"
    check = await work.verify(plan)
    assert (check.state, check.why) == ("no", "the volume has 1Gi of 1536Mi, after 1 s")
    cluster.grow(namespace, "data", "1536Mi")
    assert (await work.verify(plan)).state == "yes"


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"size": "512Mi", "ceiling": "2Gi"}, "would_shrink"),
        ({"by_percent": 101, "ceiling": "2Gi"}, "at_ceiling"),
    ],
)
async def test_a_size_that_must_not_be_is_refused(
    cluster: Cluster, env: Environment, namespace: str, params: dict[str, Any], why: str
) -> None:
    cluster.volume(namespace, "data", "1Gi")
    assert await reason(Work(env, "kubernetes.expand_pvc", f"{namespace}/persistentvolumeclaim/data", **params)) == why


async def test_a_storage_class_that_cannot_expand_says_so_in_the_plan(
    cluster: Cluster, env: Environment, namespace: str
) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    cluster.create(claims, {"metadata": {"name": "data"}, "spec": spec | {"storageClassName": ""}})
    cluster.grow(namespace, "data", "1Gi")
    work = Work(env, "kubernetes.expand_pvc", f"{namespace}/persistentvolumeclaim/data", size="2Gi", ceiling="2Gi")
    with pytest.raises(RefusedError, match="resize") as caught:
        await work.plan()
    assert caught.value.reason == "not_admitted"
