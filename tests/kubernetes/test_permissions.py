"""Least privilege: what `sentinel permissions` prints is enough for an action, and with any one less it says which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.actions import RefusedError
from engine.cli.permissions import Format, permissions
from tests.actions.work import Work
from tests.cluster import Cluster, manifest
from tests.kubernetes.conftest import APPS, environment_of, path_of

pytestmark = pytest.mark.real

NEW = {"workload": "deployment/app", "max_replicas": 6, "cpu_percent": 70}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("kubernetes.rollout_restart", "deployment", {}),
    ("kubernetes.rollout_restart", "statefulset", {}),
    ("kubernetes.rollout_restart", "daemonset", {}),
    ("kubernetes.rollout_undo", "deployment", {}),
    ("kubernetes.scale", "deployment", {"by": 1, "ceiling": 5}),
    ("kubernetes.scale", "statefulset", {"by": 1, "ceiling": 5}),
    ("kubernetes.set_env", "deployment", {"env": {"LEVEL": "debug"}}),
    ("kubernetes.set_resources", "deployment", {"limits": {"memory": "1Gi"}}),
    ("kubernetes.delete_pod", "pod", {}),
    ("kubernetes.autoscale", "horizontalpodautoscaler", NEW),
    ("kubernetes.expand_pvc", "persistentvolumeclaim", {"size": "2Gi", "ceiling": "2Gi", "within_s": 0}),
]
Printed = Callable[[str, str, dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], namespace: str) -> Printed:
    """The manifests that the command prints for a runbook of one action."""

    def ask(action: str, kind: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        target = f"{namespace}/{kind}/{{{{ labels.service }}}}"
        steps = [
            {"name": "act", "act": {"action": action, "target": target, "params": params}},
            {"name": "seen", "verify": {}},
        ]
        head = {"name": "One", "match": ['alertname="One"'], "priority": "P2", "summary": "one"}
        file = tmp_path / "runbooks.yml"
        file.write_text(yaml.safe_dump({"runbooks": [head | {"escalation": [{"to": "on-call"}], "steps": steps}]}))
        permissions([file], Format.yaml, [namespace], f"{namespace}/executor")
        return list(yaml.safe_load_all(capsys.readouterr().out))

    return ask


def grant(cluster: Cluster, manifests: list[dict[str, Any]]) -> Path:
    """Apply the manifests and return a kubeconfig for their account, once the server goes by them."""
    role, binding = manifests
    namespace, account = role["metadata"]["namespace"], binding["subjects"][0]["name"]
    token = cluster.account(namespace, account)
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    cluster.create(f"{root}/roles", role)
    cluster.create(f"{root}/rolebindings", binding)
    user = f"system:serviceaccount:{namespace}:{account}"
    for group, resource, verb in single(role):
        plural, _, subresource = resource.partition("/")
        asked = {"namespace": namespace, "group": group, "resource": plural, "subresource": subresource, "verb": verb}
        review = {"spec": {"user": user, "resourceAttributes": asked}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        cluster.until(lambda path=path, review=review: cluster.create(path, review)["status"]["allowed"], f"{asked}")
    return cluster.kubeconfig(token)


def single(role: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for rule in role["rules"]:
        yield from ((rule["apiGroups"][0], rule["resources"][0], verb) for verb in rule["verbs"])


def without(manifests: list[dict[str, Any]], lacking: tuple[str, str, str], number: int) -> list[dict[str, Any]]:
    """The same for another account, with one permission less."""
    role, binding = deepcopy(manifests)
    rules = [{"apiGroups": [g], "resources": [r], "verbs": [v]} for g, r, v in single(role) if (g, r, v) != lacking]
    role["rules"] = rules
    role["metadata"]["name"] = binding["metadata"]["name"] = binding["roleRef"]["name"] = f"less-{number}"
    binding["subjects"][0]["name"] = f"executor-{number}"
    return [role, binding]


def scene(cluster: Cluster, namespace: str, kind: str) -> str:
    """Something of this kind to act on, in its second revision; its name as a target."""
    if kind == "horizontalpodautoscaler":
        return f"{namespace}/{kind}/app"
    if kind == "persistentvolumeclaim":
        cluster.volume(namespace, "app", "1Gi")
        return f"{namespace}/{kind}/app"
    made = "deployment" if kind == "pod" else kind
    target = f"{namespace}/{made}/app"
    spec = {} if made == "daemonset" else {"replicas": 2}
    cluster.create(f"{APPS}/{namespace}/{made}s", manifest("app", **spec))
    if made != "deployment":
        cluster.until(lambda: "observedGeneration" in cluster.get(path_of(target)).get("status", {}), "it is seen")
        return target
    cluster.settled(path_of(target))
    cluster.patch(path_of(target), {"spec": {"template": {"metadata": {"annotations": {"change": "1"}}}}})
    cluster.settled(path_of(target))
    return target if kind != "pod" else f"{namespace}/pod/{cluster.pods(namespace)[0]['metadata']['name']}"


def autoscaler_for(verb: str, target: str, cluster: Cluster) -> dict[str, Any]:
    """The parameters for which an autoscaler is changed, or made, whichever needs the verb."""
    namespace, path = target.partition("/")[0], "/apis/autoscaling/v2/namespaces"
    if verb != "update":
        return NEW
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}
    one = {"metadata": {"name": "app"}, "spec": {"scaleTargetRef": scaled, "maxReplicas": 3}}
    cluster.create(f"{path}/{namespace}/horizontalpodautoscalers", one)
    return {"max_replicas": 4}


@pytest.mark.parametrize(("action", "kind", "params"), CASES, ids=lambda value: str(value)[:30])
async def test_with_what_is_printed_the_action_works_and_with_one_less_it_names_what_is_missing(
    cluster: Cluster, namespace: str, printed: Printed, action: str, kind: str, params: dict[str, Any]
) -> None:
    manifests = printed(action, kind, params)
    target = scene(cluster, namespace, kind)
    needed = sorted(single(manifests[0]), key=lambda one: one[2] == "update")
    assert needed
    for number, one in enumerate(needed):
        group, resource, verb = one
        given = autoscaler_for(verb, target, cluster) if kind == "horizontalpodautoscaler" else params
        async with environment_of(cluster, grant(cluster, without(manifests, one, number))) as env:
            with pytest.raises(RefusedError) as caught:
                await Work(env, action, target, **given).plan()
        name = f"{verb} on {resource}{f'.{group}' if group else ''} in namespace {namespace}"
        assert (caught.value.reason, name in caught.value.message) == ("forbidden", True), caught.value
    async with environment_of(cluster, grant(cluster, manifests)) as env:
        work = Work(env, action, target, **given)
        plan = await work.plan()
        assert (await work.run(plan)).status == "done"
        if kind == "persistentvolumeclaim":
            cluster.grow(namespace, "app", "2Gi")
        check = await work.verify(plan)
    assert check.state == "yes", check
