"""Each action on a real API server with its controllers: what it plans, changes, checks, refuses and takes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.actions import Environment, RefusedError
from engine.actions._kubernetes import NoAnswerError, Object, Request
from engine.actions._workload import COMMAND_ANNOTATION
from engine.core.masking import MASK
from tests.actions.work import Work
from tests.cluster import Cluster, manifest
from tests.kubernetes.conftest import APPS, Workload, environment_of, path_of

pytestmark = pytest.mark.real

CHANGES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("kubernetes.scale", {"by": 2, "ceiling": 5}, [{"path": "spec.replicas", "from": 2, "to": 4}]),
    ("kubernetes.scale", {"by": 20, "ceiling": 5}, [{"path": "spec.replicas", "from": 2, "to": 5}]),
    ("kubernetes.scale", {"replicas": 3, "ceiling": 5}, [{"path": "spec.replicas", "from": 2, "to": 3}]),
    (
        "kubernetes.scale",
        {"by": -5, "ceiling": 5, "allow_shrink": True},
        [{"path": "spec.replicas", "from": 2, "to": 1}],
    ),
    (
        "kubernetes.set_env",
        {"env": {"LEVEL": "debug"}},
        [{"path": "spec.template.spec.containers[main].env[LEVEL].value", "from": MASK, "to": MASK}],
    ),
    (
        "kubernetes.set_resources",
        {"limits": {"memory": "512Mi"}},
        [{"path": "spec.template.spec.containers[main].resources.limits.memory", "from": "256Mi", "to": "512Mi"}],
    ),
    (
        "kubernetes.rollout_restart",
        {},
        [
            {
                "path": "spec.template.metadata.annotations",
                "from": None,
                "to": {"aureus-sentinel/restarted-by": "command-1"},
            }
        ],
    ),
]


@pytest.mark.parametrize(("action", "params", "differences"), CHANGES, ids=lambda value: str(value)[:40])
async def test_the_plan_says_what_the_run_then_changes_and_the_check_sees_the_rollout(
    cluster: Cluster, env: Environment, deployment: Workload, action: str, params: dict[str, Any], differences: Any
) -> None:
    target = deployment()
    before = cluster.get(path_of(target))
    work = Work(env, action, target, **params)
    plan = await work.plan()
    assert cluster.get(path_of(target))["metadata"]["generation"] == before["metadata"]["generation"]
    assert plan.changes[0]["differences"] == differences
    result = await work.run(plan)
    assert (result.status, result.reason) == ("done", "written")
    check = await work.verify(plan)
    assert check.state == "yes", check.why
    after = cluster.get(path_of(target))
    assert after["metadata"]["annotations"][COMMAND_ANNOTATION] == "command-1"
    assert after["spec"] != before["spec"]


async def refused(work: Work) -> RefusedError:
    """Why the plan is refused."""
    with pytest.raises(RefusedError) as caught:
        await work.plan()
    return caught.value


BROKEN = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "broken"}]}}}}
HPA = {
    "metadata": {"name": "app-autoscaler"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}, "maxReplicas": 4},
}

REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("kubernetes.scale", {"by": 1, "ceiling": 2}, "at_ceiling"),
    ("kubernetes.scale", {"by": 1, "ceiling": 1}, "at_ceiling"),
    ("kubernetes.scale", {"by": -1, "floor": 2, "ceiling": 5}, "at_floor"),
    ("kubernetes.scale", {"by": -1, "ceiling": 5}, "would_shrink"),
    ("kubernetes.scale", {"replicas": 1, "ceiling": 5}, "would_shrink"),
    ("kubernetes.scale", {"replicas": 0, "floor": 0, "ceiling": 5, "allow_shrink": True}, "last_healthy_replica"),
    ("kubernetes.set_resources", {"limits": {"memory": "128Mi"}}, "would_shrink"),
    ("kubernetes.set_resources", {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}, "not_admitted"),
    ("kubernetes.set_resources", {"limits": {"memory": "1Gi"}, "container": "sidecar"}, "unknown_container"),
    ("kubernetes.set_env", {"env": {"A": "1"}, "container": "sidecar"}, "unknown_container"),
    ("kubernetes.rollout_undo", {}, "no_previous_revision"),
    ("kubernetes.rollout_undo", {"revision": 9}, "unknown_revision"),
]


@pytest.mark.parametrize(("action", "params", "reason"), REFUSALS, ids=lambda value: str(value)[:40])
async def test_a_change_that_must_not_be_is_refused_with_its_name(
    env: Environment, deployment: Workload, action: str, params: dict[str, Any], reason: str
) -> None:
    assert (await refused(Work(env, action, deployment(), **params))).reason == reason


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("kubernetes.scale", {"replicas": 2, "ceiling": 5}),
        ("kubernetes.set_env", {"env": {"LEVEL": "info", "GONE": None}}),
        ("kubernetes.set_resources", {"requests": {"cpu": "0.1"}, "limits": {"memory": "256Mi"}}),
    ],
)
async def test_what_is_so_already_is_no_change(
    env: Environment, deployment: Workload, action: str, params: dict[str, Any]
) -> None:
    assert (await Work(env, action, deployment(), **params).plan()).changes == []


async def test_where_an_autoscaler_is_in_charge_scaling_is_refused_unless_told_otherwise(
    cluster: Cluster, env: Environment, deployment: Workload, namespace: str
) -> None:
    target = deployment()
    cluster.create(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers", HPA)
    why = await refused(Work(env, "kubernetes.scale", target, by=1, ceiling=5))
    assert (why.reason, "app-autoscaler" in why.message) == ("autoscaler_in_charge", True)
    plan = await Work(env, "kubernetes.scale", target, by=1, ceiling=5, override_autoscaler=True).plan()
    assert plan.changes


async def test_an_undo_brings_back_the_template_of_the_revision_before(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    before = cluster.get(path_of(target))["spec"]["template"]
    change = Work(env, "kubernetes.set_env", target, env={"LEVEL": "debug"})
    plan, _, check = await change.through()
    assert check.state == "yes", check.why
    assert change.action.undo is not None
    back = change.action.undo(change.params, plan)
    assert back is not None
    assert (back.action, back.params) == ("kubernetes.rollout_undo", {"revision": 1})
    _, _, check = await Work(replace(env, command="command-2"), back.action, target, **back.params).through()
    assert check.state == "yes", check.why
    assert cluster.get(path_of(target))["spec"]["template"] == before


async def test_a_scale_is_taken_back_by_a_scale(cluster: Cluster, env: Environment, deployment: Workload) -> None:
    target = deployment()
    change = Work(env, "kubernetes.scale", target, by=2, ceiling=4)
    plan, _, _ = await change.through()
    assert change.action.undo is not None
    back = change.action.undo(change.params, plan)
    assert back is not None
    await Work(replace(env, command="command-2"), back.action, target, **back.params).through()
    assert cluster.get(path_of(target))["spec"]["replicas"] == 2


@pytest.mark.parametrize(("kind", "spec"), [("statefulset", {"replicas": 2, "serviceName": "none"}), ("daemonset", {})])
async def test_other_workloads_are_restarted_too(
    cluster: Cluster, env: Environment, namespace: str, kind: str, spec: dict[str, Any]
) -> None:
    target = f"{namespace}/{kind}/other"
    cluster.create(f"{APPS}/{namespace}/{kind}s", manifest("other", **spec))
    wanted = spec.get("replicas", 0)
    cluster.until(
        lambda: (
            cluster.get(path_of(target)).get("status", {}).get("observedGeneration") == 1
            and cluster.get(path_of(target))["status"].get("availableReplicas", 0) == wanted
        ),
        "it is up",
    )
    _, _, check = await Work(env, "kubernetes.rollout_restart", target).through()
    assert check.state == "yes", check.why


# Preconditions at the moment of acting -------------------------------------------------------------------------------


async def test_an_object_that_was_changed_since_the_plan_is_left_alone(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    work = Work(env, "kubernetes.scale", target, by=2, ceiling=9)
    plan = await work.plan()
    cluster.patch(path_of(target), {"spec": {"replicas": 3}})
    with pytest.raises(RefusedError) as caught:
        await work.run(plan)
    assert caught.value.reason == "changed_meanwhile"
    assert cluster.get(path_of(target))["spec"]["replicas"] == 3


async def test_an_object_of_the_same_name_made_anew_is_left_alone(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    work = Work(env, "kubernetes.rollout_restart", target)
    plan = await work.plan()
    cluster.delete(path_of(target))
    deployment()
    with pytest.raises(RefusedError) as caught:
        await work.run(plan)
    assert caught.value.reason == "replaced"
    assert (await work.verify(plan)).state == "no"


async def test_an_object_whose_status_alone_changed_is_acted_on(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    work = Work(env, "kubernetes.rollout_restart", target)
    plan = await work.plan()
    cluster.patch(path_of(target), {"metadata": {"labels": {"seen": "yes"}}})
    assert (await work.run(plan)).reason == "written"


async def test_a_write_that_meets_another_one_is_tried_again_on_the_newer_object(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    work = Work(Meeting(env, cluster, path_of(target)).env, "kubernetes.rollout_restart", target)
    assert (await work.run(await work.plan())).reason == "written"
    assert cluster.get(path_of(target))["metadata"]["labels"] == {"met": "3"}


class Meeting:
    """A client on whose way to the server somebody else writes the object: three times, then no more."""

    def __init__(self, env: Environment, cluster: Cluster, path: str) -> None:
        self._api, self._cluster, self._path, self._met = env.kubernetes, cluster, path, 0
        self.env = replace(env, kubernetes=self)

    async def send(self, request: Request) -> Object:
        if request.verb == "update" and self._met < 3:
            self._met += 1
            self._cluster.patch(self._path, {"metadata": {"labels": {"met": str(self._met)}}})
        assert self._api is not None
        return await self._api.send(request)


async def test_a_command_that_comes_again_changes_nothing(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    work = Work(env, "kubernetes.scale", target, by=1, ceiling=9)
    plan = await work.plan()
    assert (await work.run(plan)).reason == "written"
    assert (await work.run(plan)).reason == "done_before"
    assert cluster.get(path_of(target))["spec"]["replicas"] == 3


async def test_after_a_crash_the_check_tells_whether_the_write_took_place(
    env: Environment, deployment: Workload
) -> None:
    work = Work(env, "kubernetes.rollout_restart", deployment())
    plan = await work.plan()
    assert (await work.verify(None)).state == "unknown"
    assert (await work.verify(plan)).state == "no"
    await work.run(plan)
    assert (await work.verify(plan)).state == "yes"


async def test_a_rollout_that_does_not_come_up_is_no_success(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment(progressDeadlineSeconds=1)
    cluster.patch(path_of(target), BROKEN)
    work = Work(env, "kubernetes.rollout_restart", target)
    plan = await work.plan()
    await work.run(plan)
    check = await work.verify(plan)
    assert check.state == "no"
    assert "progress" in check.why
    _, _, check = await Work(replace(env, command="command-2"), "kubernetes.rollout_undo", target, revision=1).through()
    assert check.state == "yes", check.why


async def test_a_rollout_is_waited_for_no_longer_than_told(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment(replicas=1)
    cluster.patch(
        path_of(target), {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "broken"}]}}}}
    )
    work = Work(env, "kubernetes.rollout_restart", target, within_s=2)
    _, _, check = await work.through()
    assert check.state == "no"
    assert check.why.endswith("after 2 s")


# What would take the service away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["kubernetes.rollout_restart", "kubernetes.set_env", "kubernetes.set_resources"])
async def test_a_rollout_that_may_end_the_last_ready_pod_is_refused_unless_told_otherwise(
    env: Environment, deployment: Workload, action: str
) -> None:
    target = deployment(replicas=1, strategy={"type": "Recreate"})
    params: dict[str, Any] = {
        "kubernetes.set_env": {"env": {"LEVEL": "debug"}},
        "kubernetes.set_resources": {"limits": {"memory": "1Gi"}},
    }.get(action, {})
    assert (await refused(Work(env, action, target, **params))).reason == "last_healthy_replica"
    assert (await Work(env, action, target, allow_outage=True, **params).plan()).changes


async def test_a_paused_deployment_is_left_alone(cluster: Cluster, env: Environment, deployment: Workload) -> None:
    target = deployment()
    cluster.patch(path_of(target), {"spec": {"paused": True}})
    assert (await refused(Work(env, "kubernetes.rollout_restart", target))).reason == "rollout_paused"


async def test_objects_that_are_not_there_are_named(cluster: Cluster, env: Environment, namespace: str) -> None:
    why = await refused(Work(env, "kubernetes.rollout_restart", f"{namespace}/deployment/nobody"))
    assert (why.reason, why.message) == ("not_found", f"there is no deployment nobody in namespace {namespace}")
    why = await refused(Work(env, "kubernetes.rollout_restart", "nowhere/deployment/app"))
    assert (why.reason, why.message) == ("unknown_namespace", "there is no namespace nowhere")
    why = await refused(Work(env, "kubernetes.rollout_undo", f"{namespace}/statefulset/app"))
    assert why.reason == "wrong_kind"


async def test_a_cluster_that_does_not_answer_is_an_error_and_no_answer_to_a_write_is_unknown(
    cluster: Cluster, env: Environment, deployment: Workload
) -> None:
    target = deployment()
    plan = await Work(env, "kubernetes.rollout_restart", target).plan()
    config = cluster.kubeconfig()
    config.write_text(config.read_text().replace(cluster.url, "https://127.0.0.1:1"))
    async with environment_of(cluster, config) as away:
        work = Work(away, "kubernetes.rollout_restart", target, within_s=1)
        with pytest.raises(NoAnswerError):
            await work.plan()
        assert (await work.verify(plan)).state == "unknown"
        half = replace(env, kubernetes=HalfAway(env, away))
        assert (await Work(half, "kubernetes.rollout_restart", target).run(plan)).status == "unknown"


class HalfAway:
    """Reads reach the cluster, writes one that is not there."""

    def __init__(self, near: Environment, far: Environment) -> None:
        self._near, self._far = near.kubernetes, far.kubernetes

    async def send(self, request: Request) -> Object:
        api = self._far if request.verb == "update" else self._near
        assert api is not None
        return await api.send(request)
