"""What a cluster says about an object: its pods, status, logs, events and revisions. Only reading verbs are used.

What a read needs to be allowed is declared in `engine.actions._reads`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from engine.actions._kubernetes import (
    CONTROLLER_REVISIONS,
    EVENTS,
    POD_LOGS,
    PODS,
    REPLICA_SETS,
    ConflictError,
    KubernetesApi,
    NoAnswerError,
    Object,
    ObjectRef,
    Request,
    Resource,
)
from engine.actions._refused import RefusedError
from engine.actions._workload import REVISION_ANNOTATION, annotation
from engine.edge.investigate import _cluster_rows as rows
from engine.edge.investigate._found import Found, InvestigationError
from engine.response.model import KubernetesRead
from engine.response.steps import READS, Read

_LOGS_MAX = 20
_LINE_MAX = 4_096


class LogApi(KubernetesApi, Protocol):
    """A client that also reads answers that are no objects."""

    async def text(self, request: Request) -> str:
        """The answer as text. Raises as `send` does."""
        ...


@dataclass(frozen=True)
class Cluster:
    """A cluster and its namespaces that may be read."""

    api: LogApi = field(repr=False)
    namespaces: frozenset[str]


async def read_cluster(cluster: Cluster | None, query: KubernetesRead, max_rows: int) -> Found:
    """The rows of a read. Raises `InvestigationError`, also for a text that is no name of an object."""
    if cluster is None:
        raise InvestigationError("no responder.namespaces are set")
    ref = ObjectRef.parse(query.target)
    if ref is None or ref.kind not in READS[query.read]:
        kinds = " or ".join(READS[query.read])
        raise InvestigationError(f"what has {query.read} is NAMESPACE/KIND/NAME of kind {kinds}: {query.target!r}")
    if ref.namespace not in cluster.namespaces:
        raise InvestigationError(f"namespace {ref.namespace!r} is not in responder.namespaces")
    try:
        if query.read == "logs":
            return await _logs(cluster.api, ref, min(query.tail, max_rows), max_rows)
        return Found(await _READ[query.read](cluster.api, ref))
    except (RefusedError, NoAnswerError, ConflictError) as error:
        raise InvestigationError(str(error)) from error


async def _get(api: KubernetesApi, ref: ObjectRef) -> Object:
    return await api.send(Request("get", ref.resource, ref.namespace, ref.name))


async def _list(api: KubernetesApi, resource: Resource, namespace: str, workload: Object | None = None) -> list[Object]:
    """The objects of a namespace; those that a workload selects by its labels, if one is given."""
    selected = (("labelSelector", rows.selector_text(workload["spec"]["selector"])),) if workload else ()
    found: list[Object] = (await api.send(Request("list", resource, namespace, query=selected)))["items"]
    return found


async def _pods_of(api: KubernetesApi, ref: ObjectRef) -> list[Object]:
    found = await _get(api, ref)
    return [found] if ref.kind == "pod" else await _list(api, PODS, ref.namespace, found)


async def _pods(api: KubernetesApi, ref: ObjectRef) -> list[dict[str, object]]:
    return [rows.pod(one) for one in sorted(await _pods_of(api, ref), key=rows.name_of)]


async def _status(api: KubernetesApi, ref: ObjectRef) -> list[dict[str, object]]:
    found = await _get(api, ref)
    if ref.kind == "persistentvolumeclaim":
        return [rows.claim(found)]
    if ref.kind == "horizontalpodautoscaler":
        return [rows.autoscaler(found)]
    if ref.kind == "deployment":  # which is numbered itself
        return [rows.workload(ref.kind, found, int(annotation(found, REVISION_ANNOTATION) or 0))]
    known = await _revisions_of(api, ref, found)
    return [rows.workload(ref.kind, found, next((row["revision"] for row in known if row["current"]), 0))]


async def _revisions(api: KubernetesApi, ref: ObjectRef) -> list[dict[str, object]]:
    return await _revisions_of(api, ref, await _get(api, ref))


async def _revisions_of(api: KubernetesApi, ref: ObjectRef, workload: Object) -> list[dict[str, object]]:
    resource = REPLICA_SETS if ref.kind == "deployment" else CONTROLLER_REVISIONS
    return rows.revisions(workload, await _list(api, resource, ref.namespace, workload))


async def _events(api: KubernetesApi, ref: ObjectRef) -> list[dict[str, object]]:
    found = await _get(api, ref)
    sets = await _list(api, REPLICA_SETS, ref.namespace, found) if ref.kind == "deployment" else []
    concerns = rows.concerning(ref.kind, ref.name, [rows.name_of(one) for one in sets])
    events = [rows.event(one) for one in await _list(api, EVENTS, ref.namespace)]
    return sorted((one for one in events if concerns(str(one["object"]))), key=rows.age, reverse=True)


async def _logs(api: LogApi, ref: ObjectRef, tail: int, max_rows: int) -> Found:
    """The last lines of each container; so many that the newest of every one fit into the rows asked for."""
    containers = [
        (rows.name_of(pod), str(one["name"]))
        for pod in sorted(await _pods_of(api, ref), key=rows.name_of)
        for one in pod["spec"]["containers"]
    ]
    lines: list[dict[str, object]] = []
    silent = ""
    shown = containers[: min(_LOGS_MAX, max_rows)]
    for pod, container in shown:
        query = (("container", container), ("tailLines", str(max(1, min(tail, max_rows // len(shown))))))
        try:
            text = await api.text(Request("get", POD_LOGS, ref.namespace, pod, query=query))
        except (RefusedError, NoAnswerError) as error:  # a container that has not started has no log
            silent = silent or f"{pod}: {error}"
            continue
        lines += [{"pod": pod, "line": line[:_LINE_MAX]} for line in text.splitlines()]
    if silent and not lines:
        raise InvestigationError(silent)
    return Found(lines, truncated=bool(silent) or len(shown) < len(containers))


_READ: Mapping[Read, Callable[[KubernetesApi, ObjectRef], Awaitable[list[dict[str, object]]]]] = {
    "pods": _pods,
    "status": _status,
    "events": _events,
    "revisions": _revisions,
}
