"""What actions know of the Kubernetes API: objects by name, requests as data, and what a refusal of the server means.

Objects are plain JSON, as the server sent them: a client that knows only the fields of its own version would drop the
others when it writes an object back. The client itself is `engine.edge.kubernetes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.actions._permissions import KubernetesRule
from engine.actions._refused import RefusedError

Verb = Literal["get", "list", "create", "update"]
Object = dict[str, Any]

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"  # RFC 1123, as Kubernetes asks for
_NAMESPACE = re.compile(_LABEL)
_OBJECT_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True)
class Resource:
    """A resource of the API, e.g. apps/v1 deployments; `subresource` "" for the object itself."""

    group: str
    version: str
    plural: str
    subresource: str = ""
    namespaced: bool = True

    @property
    def rule_name(self) -> str:
        """As RBAC writes it: `pods/eviction`."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    def rule(self, *verbs: Verb, kind: str = "") -> KubernetesRule:
        """The permission to do so much with it, for targets of this kind only if one is given."""
        return KubernetesRule(self.group, self.rule_name, verbs, kind)

    def path(self, namespace: str, name: str = "") -> str:
        """The path of one object, or of all of a namespace; `namespace` counts for namespaced ones only."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = ["namespaces", namespace] if self.namespaced else []
        return "/".join(part for part in [root, *scope, self.plural, name, self.subresource] if part)


DEPLOYMENTS = Resource("apps", "v1", "deployments")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets")
DAEMON_SETS = Resource("apps", "v1", "daemonsets")
REPLICA_SETS = Resource("apps", "v1", "replicasets")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions")
PODS = Resource("", "v1", "pods")
POD_LOGS = Resource("", "v1", "pods", "log")
EVENTS = Resource("", "v1", "events")
EVICTIONS = Resource("", "v1", "pods", "eviction")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers")
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims")

WORKLOADS: Mapping[str, Resource] = {
    "deployment": DEPLOYMENTS,
    "statefulset": STATEFUL_SETS,
    "daemonset": DAEMON_SETS,
}
KINDS: Mapping[str, Resource] = {
    **WORKLOADS,
    "pod": PODS,
    "persistentvolumeclaim": CLAIMS,
    "horizontalpodautoscaler": AUTOSCALERS,
}


@dataclass(frozen=True)
class ObjectRef:
    """An object as a target names it: `NAMESPACE/KIND/NAME`, e.g. `aureus/deployment/openclaw`."""

    namespace: str
    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ObjectRef | None:
        """The object, or None for a text that is not of this form: names are checked, so none can alter a path."""
        namespace, _, rest = text.partition("/")
        kind, _, name = rest.partition("/")
        valid = _NAMESPACE.fullmatch(namespace) and kind in KINDS and _OBJECT_NAME.fullmatch(name)
        return cls(namespace, kind, name) if valid else None

    @classmethod
    def of_kind(cls, text: str, *kinds: str) -> ObjectRef:
        """The object, which must be of one of these kinds. Raises `RefusedError` otherwise."""
        ref = cls.parse(text)
        if ref is None or ref.kind not in kinds:
            raise RefusedError(
                "wrong_kind", f"the target is NAMESPACE/KIND/NAME of kind {' or '.join(kinds)}: {text!r}"
            )
        return ref

    @property
    def resource(self) -> Resource:
        """Where it lives in the API."""
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in namespace {self.namespace}"


@dataclass(frozen=True)
class Request:
    """One request to the API. A dry run is checked and admitted by the server in full, and then not stored."""

    verb: Verb
    resource: Resource
    namespace: str
    name: str = ""
    body: Object | None = None
    dry_run: bool = False
    query: tuple[tuple[str, str], ...] = ()

    @property
    def needs(self) -> str:
        """The permission that it takes, in words."""
        where = f" in namespace {self.namespace}" if self.resource.namespaced else ""
        return f"{self.resource.rule(self.verb)}{where}"


class KubernetesApi(Protocol):
    """A client of one cluster."""

    async def send(self, request: Request) -> Object:
        """The object in the answer; for `list` the list object.

        Raises `RefusedError` when the server says no, `ConflictError` when the object has changed, and
        `NoAnswerError` when nobody can tell whether it took the request.
        """
        ...


class ConflictError(Exception):
    """The object is no longer what it was when it was read, or one of that name exists already."""


class NoAnswerError(Exception):
    """No answer, or one that says nothing about whether the request was carried out."""


def refusal(request: Request, status: int, message: str) -> Exception:
    """What an answer of 400 or more means for whoever sent the request.

    403 is RBAC's ("cannot VERB resource") or that of an admission controller; 429 to an eviction is a disruption
    budget's no, to anything else an overloaded server's. Source: the API conventions of Kubernetes, HTTP status codes.
    """
    where = f"{request.resource.rule_name} {request.name} in namespace {request.namespace}"
    if status == 403 and "cannot" in message and "resource" in message:
        return RefusedError("forbidden", f"the account lacks the permission: {request.needs}")
    if status == 404:
        return RefusedError("not_found", f"there is no {where}")
    if status == 409:
        return ConflictError(message)
    if status == 429 and request.resource == EVICTIONS:
        return RefusedError("disruption_budget", message)
    if status == 401:
        return RefusedError("unauthorized", "the cluster does not know the account")
    if status in (400, 403, 405, 422):
        return RefusedError("not_admitted", f"{where}: {message}")
    return NoAnswerError(f"status {status}: {message}")
