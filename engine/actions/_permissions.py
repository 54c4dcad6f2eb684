"""What an action's credentials must allow, as data, and the manifests and statements that allow just that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.actions._aws import AwsAccess
from engine.actions._sql import SqlGrant, SqlNote, SqlOwner, SqlPrivilege


@dataclass(frozen=True)
class KubernetesRule:
    """Verbs on one resource of one API group ("" is the core); a subresource is written `pods/eviction`.

    With a `kind` it is only needed where the target is of this kind.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    kind: str = ""

    def __str__(self) -> str:
        return f"{', '.join(self.verbs)} on {self.resource}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True)
class ServiceAccess:
    """What another service has to accept, in words: Sentinel cannot grant it."""

    text: str

    def __str__(self) -> str:
        return self.text


Permission = KubernetesRule | SqlGrant | SqlPrivilege | SqlOwner | SqlNote | AwsAccess | ServiceAccess


def needed_for(permissions: Iterable[Permission], target: str) -> list[Permission]:
    """Those that a target of this name needs, as a runbook writes it; all of them where it does not show its kind."""
    kinds = {one.kind for one in permissions if isinstance(one, KubernetesRule) and one.kind}
    shown = {kind for kind in kinds if f"/{kind}/" in target} or kinds
    return [one for one in permissions if not isinstance(one, KubernetesRule) or one.kind in {"", *shown}]


def merged_rules(permissions: Iterable[Permission]) -> list[dict[str, list[str]]]:
    """The rules of an RBAC role: each resource once, by group and name, with all verbs that any of them asks for."""
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in permissions:
        if isinstance(one, KubernetesRule):
            verbs[one.group, one.resource] |= set(one.verbs)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": sorted(found)}
        for (group, resource), found in sorted(verbs.items())
    ]


def rbac_manifests(
    permissions: Iterable[Permission], namespace: str, account: tuple[str, str], name: str
) -> list[dict[str, Any]]:
    """A Role and a RoleBinding called `name` in the namespace, for the service account (namespace, name).

    Without a Kubernetes permission there are none. Everything is namespaced, so no ClusterRole is needed.
    Source: the RBAC API, rbac.authorization.k8s.io/v1.
    """
    rules = merged_rules(permissions)
    if not rules:
        return []
    group, metadata = "rbac.authorization.k8s.io", {"name": name, "namespace": namespace}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": dict(metadata), "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}],
    }
    return [role, binding]
