"""The fleets of a cluster, read from it: the workloads of a namespace, and the pods of a controller."""

from __future__ import annotations

from collections.abc import Iterable

from engine.actions import Environment, Fleet, KubernetesRule
from engine.actions._cluster import api_of
from engine.actions._kubernetes import WORKLOADS, Object, Request
from engine.actions._workload import replicas

_KIND_NAMES = {"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}


def fleet_rules(kinds: Iterable[str]) -> tuple[KubernetesRule, ...]:
    """What reading the workloads of a namespace needs, for targets of those kinds that are workloads."""
    return tuple(one.rule("list", kind=kind) for kind in kinds if kind in WORKLOADS for one in WORKLOADS.values())


async def workloads_of(env: Environment, namespace: str) -> Fleet:
    """The Deployments, StatefulSets and DaemonSets of a namespace; those that are to have no pods do not count."""
    size = 0
    for kind, resource in WORKLOADS.items():
        listed = await api_of(env).send(Request("list", resource, namespace))
        # An item of a list does not name its kind.
        size += sum(replicas({**one, "kind": _KIND_NAMES[kind]}) > 0 for one in listed["items"])
    return Fleet(f"workloads of namespace {namespace}", size)


def pods_of(controller: Object, namespace: str, pods: Iterable[Object]) -> Fleet:
    """The pods of a controller, of all that its namespace has."""
    owned = [
        pod
        for pod in pods
        if any(owner["uid"] == controller["uid"] for owner in pod["metadata"].get("ownerReferences") or ())
    ]
    return Fleet(f"pods of {controller['kind'].lower()} {controller['name']} in namespace {namespace}", len(owned))
