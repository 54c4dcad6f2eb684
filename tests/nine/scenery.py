"""The cluster's namespace before anything goes wrong: three Deployments, a StatefulSet with its volume, accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster, manifest
from tests.nine.town import NAMESPACE

APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
OWN_NAMESPACE = "aureus-sentinel"
REPLICAS = {"bridge": 3, "aureus-os": 2, "openclaw": 2}
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def build(cluster: Cluster, bridge_env: dict[str, str]) -> None:
    """Everything of the seed that lives in a cluster, all of it ready."""
    for name in (NAMESPACE, OWN_NAMESPACE):
        cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
    for name, replicas in REPLICAS.items():
        env = bridge_env if name == "bridge" else {}
        cluster.create(f"{APPS}/deployments", workload(name, env, replicas=replicas))
    cluster.volume(NAMESPACE, "postgres-data", "10Gi")
    cluster.create(f"{APPS}/statefulsets", workload("postgres", {}, replicas=1, serviceName="postgres"))
    for name in REPLICAS:
        cluster.settled(f"{APPS}/deployments/{name}")


def clear(cluster: Cluster) -> None:
    """The workloads go; the cluster has other users."""
    for name in REPLICAS:
        cluster.delete(f"{APPS}/deployments/{name}")
    cluster.delete(f"{APPS}/statefulsets/postgres")


def workload(name: str, env: dict[str, str], **spec: Any) -> dict[str, Any]:
    """A workload of one container, with limits of one processor and 256 MiB, that rolls without an outage."""
    made = manifest(name, **spec)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["name"] = name
    container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    container["image"] = "app:1"
    container["resources"] = {"limits": {"cpu": "1", "memory": "256Mi"}}
    return made


def set_image(cluster: Cluster, name: str, image: str) -> None:
    """Deploy another image, as somebody who releases does."""
    containers = cluster.get(f"{APPS}/deployments/{name}")["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = image
    cluster.patch(f"{APPS}/deployments/{name}", {"spec": {"template": {"spec": {"containers": containers}}}})


def env_of(cluster: Cluster, name: str) -> dict[str, str]:
    """The environment of a Deployment's container."""
    (container,) = cluster.get(f"{APPS}/deployments/{name}")["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "") for one in container.get("env") or ()}


def apply(cluster: Cluster, manifests: str) -> int:
    """Create what `sentinel permissions --format yaml` printed, as `kubectl apply` would; how many objects."""
    count = 0
    for one in filter(None, yaml.safe_load_all(manifests)):
        place = one["metadata"].get("namespace")
        plural = f"{one['kind'].lower()}s"
        cluster.create(f"{_RBAC}/namespaces/{place}/{plural}" if place else f"{_RBAC}/{plural}", one)
        count += 1
    return count


def status_as(cluster: Cluster, kubeconfig: str, path: str) -> int:
    """The status of the answer to a GET by the account of a kubeconfig."""
    token = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))["users"][0]["user"]["token"]
    with cluster.api as api:
        return api.get(path, headers={"Authorization": f"Bearer {token}"}).status_code
