"""`kubernetes.delete_pod` evicts one pod, if a controller replaces it and a disruption budget lets it go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.actions import Environment, RefusedError
from engine.actions._kubernetes import Object, Request
from tests.actions.work import Work
from tests.cluster import Cluster, manifest
from tests.kubernetes.conftest import APPS, Workload

pytestmark = pytest.mark.real


def pod_of(cluster: Cluster, target: str) -> str:
    """The first pod of a namespace, as a target."""
    namespace = target.partition("/")[0]
    return f"{namespace}/pod/{cluster.pods(namespace)[0]['metadata']['name']}"


async def reason(work: Work) -> str:
    with pytest.raises(RefusedError) as caught:
        await work.plan()
    return caught.value.reason


async def test_the_pod_is_gone_and_another_one_ready_in_its_place(
    cluster: Cluster, env: Environment, deployment: Workload, namespace: str
) -> None:
    pod = pod_of(cluster, deployment())
    work = Work(env, "kubernetes.delete_pod", pod)
    plan = await work.plan()
    assert len(cluster.pods(namespace)) == 2
    assert plan.changes[0]["ready"] == 2
    assert (await work.run(plan)).status == "done"
    check = await work.verify(plan)
    assert (check.state, check.why) == ("yes", "the pod is gone, 2 of 2 pods are ready")
    assert pod.rpartition("/")[2] not in {one["metadata"]["name"] for one in cluster.pods(namespace)}


async def test_a_pod_that_nobody_would_bring_back_stays(cluster: Cluster, env: Environment, namespace: str) -> None:
    spec = {"containers": [{"name": "main", "image": "app:1"}]}
    cluster.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "alone"}, "spec": spec})
    assert await reason(Work(env, "kubernetes.delete_pod", f"{namespace}/pod/alone")) == "no_controller"


async def test_the_only_ready_pod_stays_and_a_broken_one_beside_it_may_go(
    cluster: Cluster, env: Environment, deployment: Workload, namespace: str
) -> None:
    deployment()
    broken, healthy = (pod["metadata"]["name"] for pod in cluster.pods(namespace))
    cluster.unready.add(broken)
    cluster.until(lambda: _ready_count(cluster, namespace) == 1, "one pod is not ready")
    last = Work(env, "kubernetes.delete_pod", f"{namespace}/pod/{healthy}")
    assert await reason(last) == "last_healthy_replica"
    plan, result, check = await Work(env, "kubernetes.delete_pod", f"{namespace}/pod/{broken}").through()
    assert (plan.changes[0]["ready"], result.status, check.state) == (1, "done", "yes")


async def test_the_only_ready_pod_may_go_when_told(cluster: Cluster, env: Environment, deployment: Workload) -> None:
    pod = pod_of(cluster, deployment(replicas=1))
    assert await reason(Work(env, "kubernetes.delete_pod", pod)) == "last_healthy_replica"
    _, result, check = await Work(env, "kubernetes.delete_pod", pod, allow_outage=True, grace_s=1).through()
    assert (result.status, check.state) == ("done", "yes")


async def test_a_disruption_budget_says_no(
    cluster: Cluster, env: Environment, deployment: Workload, namespace: str
) -> None:
    pod = pod_of(cluster, deployment())
    work = Work(env, "kubernetes.delete_pod", pod)
    plan = await work.plan()
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "app"}}}
    cluster.create(budgets, {"metadata": {"name": "two"}, "spec": spec})
    cluster.until(lambda: cluster.get(f"{budgets}/two").get("status", {}).get("currentHealthy") == 2, "it is seen")
    assert await reason(work) == "disruption_budget"
    with pytest.raises(RefusedError, match="disruption budget"):
        await work.run(plan)
    assert len(cluster.pods(namespace)) == 2


async def test_a_new_pod_of_the_same_name_is_not_taken_for_the_planned_one(
    cluster: Cluster, env: Environment, namespace: str
) -> None:
    path = f"{APPS}/{namespace}/statefulsets"
    cluster.create(path, manifest("db", replicas=2, serviceName="none"))
    cluster.until(lambda: _ready_count(cluster, namespace) == 2, "both are ready")
    replacing = Replacing(env, cluster, namespace)
    work = Work(replacing.env, "kubernetes.delete_pod", f"{namespace}/pod/db-1")
    plan = await work.plan()
    for moment in ("get", "create"):  # before the pod is looked at again, and between that and the eviction
        replacing.moment = moment
        with pytest.raises(RefusedError) as caught:
            await work.run(plan)
        assert caught.value.reason == "replaced"
        assert {pod["metadata"]["uid"] for pod in cluster.pods(namespace)} == replacing.uids
        plan = await work.plan()


class Replacing:
    """A client before whose request, of the verb `moment`, the pod `db-1` is deleted and made anew; once."""

    def __init__(self, env: Environment, cluster: Cluster, namespace: str) -> None:
        self._api, self._cluster, self._namespace = env.kubernetes, cluster, namespace
        self.env = replace(env, kubernetes=self)
        self.moment = ""
        self.uids: set[str] = set()

    async def send(self, request: Request) -> Object:
        if request.verb == self.moment and not request.dry_run:
            self.moment = ""
            self._replace()
        assert self._api is not None
        return await self._api.send(request)

    def _replace(self) -> None:
        before = {pod["metadata"]["uid"] for pod in self._cluster.pods(self._namespace)}
        self._cluster.delete(f"/api/v1/namespaces/{self._namespace}/pods/db-1")
        self._cluster.until(lambda: self._is_replaced(before), "db-1 is made anew")
        self.uids = {pod["metadata"]["uid"] for pod in self._cluster.pods(self._namespace)}

    def _is_replaced(self, before: set[str]) -> bool:
        now = {pod["metadata"]["uid"] for pod in self._cluster.pods(self._namespace)}
        return len(now) == 2 and now != before and _ready_count(self._cluster, self._namespace) == 2


def _ready_count(cluster: Cluster, namespace: str) -> int:
    return sum(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in cluster.pods(namespace)
        for condition in pod.get("status", {}).get("conditions") or ()
    )
