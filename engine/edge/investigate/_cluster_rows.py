"""Objects of a cluster as rows of evidence: pure functions on their JSON.

Source: Kubernetes API reference, Pod, apps/v1, Event, PersistentVolumeClaim, HorizontalPodAutoscaler.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from engine.actions._kubernetes import Object
from engine.actions._quantity import amount
from engine.actions._workload import REVISION_ANNOTATION, annotation, ready, replicas

Row = dict[str, object]

_OPERATORS: Mapping[str, str] = {
    "In": "{key} in ({values})",
    "NotIn": "{key} notin ({values})",
    "Exists": "{key}",
    "DoesNotExist": "!{key}",
}
_POD_SUFFIX = {"statefulset": r"\d+", "daemonset": "[a-z0-9]{5}"}


def name_of(one: Object) -> str:
    """The name of an object."""
    return str(one["metadata"]["name"])


def selector_text(selector: Mapping[str, Any]) -> str:
    """A LabelSelector as the parameter `labelSelector` has it."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    parts += [
        _OPERATORS[one["operator"]].format(key=one["key"], values=",".join(one.get("values") or ()))
        for one in selector.get("matchExpressions") or ()
    ]
    return ",".join(parts)


def pod(one: Object) -> Row:
    """How a pod is: `reason` is why it does not run, `last_reason` how it ended the last time, such as OOMKilled."""
    status = one.get("status", {})
    containers = status.get("containerStatuses") or []
    return {
        "name": name_of(one),
        "phase": str(status.get("phase", "")),
        "ready": any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()),
        "restarts": sum(int(c.get("restartCount", 0)) for c in containers),
        "reason": _first([status.get("reason"), *(_reason(c.get("state")) for c in containers)]),
        "last_reason": _first(_reason(c.get("lastState")) for c in containers),
        "image": _images(one["spec"]),
        "started_ms": time_ms(status.get("startTime")),
    }


def _reason(state: Mapping[str, Any] | None) -> str:
    found = state or {}
    return str((found.get("waiting") or found.get("terminated") or {}).get("reason") or "")


def _first(texts: Iterable[str | None]) -> str:
    return next((text for text in texts if text), "")


def _images(spec: Mapping[str, Any]) -> str:
    return ", ".join(str(one.get("image", "")) for one in spec["containers"])


def workload(kind: str, one: Object, revision: object) -> Row:
    """How far a workload is; `revision` is the number of the one that is rolled out."""
    status, daemons = one.get("status", {}), kind == "daemonset"
    return {
        "kind": kind,
        "replicas": replicas(one),
        "ready": ready(one),
        "updated": int(status.get("updatedNumberScheduled" if daemons else "updatedReplicas", 0)),
        "available": int(status.get("numberAvailable" if daemons else "availableReplicas", 0)),
        "revision": revision,
        "image": _images(one["spec"]["template"]["spec"]),
        "paused": bool(one["spec"].get("paused", False)),
    }


def claim(one: Object) -> Row:
    """A PersistentVolumeClaim, sizes in bytes."""
    spec, status = one["spec"], one.get("status", {})
    return {
        "kind": "persistentvolumeclaim",
        "phase": str(status.get("phase", "")),
        "requested_bytes": _bytes(spec.get("resources", {}).get("requests")),
        "capacity_bytes": _bytes(status.get("capacity")),
        "storage_class": str(spec.get("storageClassName") or ""),
    }


def _bytes(quantities: Mapping[str, str] | None) -> int:
    return int(amount((quantities or {}).get("storage", "0")))


def autoscaler(one: Object) -> Row:
    """A HorizontalPodAutoscaler and what it scales, as `deployment/NAME`."""
    spec, status = one["spec"], one.get("status", {})
    scaled = spec["scaleTargetRef"]
    return {
        "kind": "horizontalpodautoscaler",
        "replicas": int(status.get("currentReplicas", 0)),
        "desired": int(status.get("desiredReplicas", 0)),
        "min": int(spec.get("minReplicas", 1)),
        "max": int(spec["maxReplicas"]),
        "workload": f"{scaled['kind'].lower()}/{scaled['name']}",
    }


def revisions(one: Object, kept: Iterable[Object]) -> list[Row]:
    """The revisions of a workload, newest first, of the ReplicaSets or ControllerRevisions that it owns."""
    uid, status = one["metadata"]["uid"], one.get("status", {})
    owned = [
        (number, kept_one)
        for kept_one in kept
        if any(owner["uid"] == uid for owner in kept_one["metadata"].get("ownerReferences") or ())
        and (number := int(kept_one.get("revision") or annotation(kept_one, REVISION_ANNOTATION) or 0))
    ]
    newest = max((number for number, _ in owned), default=0)
    current = status.get("updateRevision")  # a StatefulSet names it; else the newest is what is rolled out
    return [
        {
            "revision": number,
            "image": _images((found.get("data") or found)["spec"]["template"]["spec"]),
            "created_ms": time_ms(found["metadata"].get("creationTimestamp")),
            "current": name_of(found) == current if current else number == newest,
        }
        for number, found in sorted(owned, key=lambda pair: pair[0], reverse=True)
    ]


def event(one: Object) -> Row:
    """An event; `object` as `pod/NAME`, `count` how often it happened, `at_ms` when the last time."""
    about, series = one["involvedObject"], one.get("series") or {}
    times = (series.get("lastObservedTime"), one.get("lastTimestamp"), one.get("eventTime"), one.get("firstTimestamp"))
    return {
        "at_ms": time_ms(next((time for time in times if time), one["metadata"].get("creationTimestamp"))),
        "reason": str(one.get("reason") or ""),
        "message": str(one.get("message") or ""),
        "object": f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        "count": int(series.get("count") or one.get("count") or 1),
    }


def age(row: Row) -> int:
    """When the event of a row was, in ms."""
    return int(str(row["at_ms"]))


def concerning(kind: str, name: str, replica_sets: Sequence[str]) -> Callable[[str], bool]:
    """Whether an event's object is this one, or a ReplicaSet or pod of it, also one that is gone."""
    patterns = [f"{kind}/{re.escape(name)}"]
    patterns += [rf"replicaset/{re.escape(one)}|pod/{re.escape(one)}-[a-z0-9]{{5}}" for one in replica_sets]
    if kind in _POD_SUFFIX:
        patterns.append(f"pod/{re.escape(name)}-{_POD_SUFFIX[kind]}")
    whole = re.compile("|".join(patterns))
    return lambda text: whole.fullmatch(text) is not None


def time_ms(text: str | None) -> int:
    """A time of the API in ms, 0 for none."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
