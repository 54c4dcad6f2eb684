"""What Deployments, StatefulSets and DaemonSets say about themselves: pure functions on their JSON.

Source: Kubernetes API reference, apps/v1, and the deployment concept page for how percentages are rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from engine.actions._kubernetes import Object
from engine.actions._refused import RefusedError
from engine.core.masking import MASK

COMMAND_ANNOTATION = "aureus-sentinel/command"
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
_ENV_VALUE = re.compile(r"\.env\[[^]]*\]\.value$")


@dataclass(frozen=True)
class Rollout:
    """How far a rollout is, and why it is taken for that."""

    state: Literal["complete", "progressing", "stuck"]
    why: str


def kind_of(workload: Object) -> str:
    """`Deployment`, `StatefulSet` or `DaemonSet`."""
    return str(workload["kind"])


def replicas(workload: Object) -> int:
    """How many pods are wanted; of a DaemonSet as many as there are nodes for it."""
    if kind_of(workload) == "DaemonSet":
        return int(workload.get("status", {}).get("desiredNumberScheduled", 0))
    return int(workload["spec"].get("replicas", 1))


def ready(workload: Object) -> int:
    """How many pods are ready."""
    status = workload.get("status", {})
    return int(status.get("numberReady" if kind_of(workload) == "DaemonSet" else "readyReplicas", 0))


def annotation(workload: Object, name: str) -> str:
    """An annotation of the object itself, "" if it has none."""
    return str((workload["metadata"].get("annotations") or {}).get(name, ""))


def unavailable_at_most(workload: Object) -> int:
    """How many pods a rollout may take away at the same time."""
    wanted = replicas(workload)
    if kind_of(workload) != "Deployment":
        rolling = (workload["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
        return max(1, _share(rolling.get("maxUnavailable", 1), wanted, up=True))
    strategy = workload["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return wanted
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    return unavailable if surge or unavailable else 1


def _share(value: int | str, of: int, *, up: bool) -> int:
    """A number of pods, given as such or as a percentage."""
    if isinstance(value, int):
        return value
    hundredths = int(value.removesuffix("%")) * of
    return -(-hundredths // 100) if up else hundredths // 100


def refuse_rollout(workload: Object, allow_outage: bool) -> None:
    """Raises `RefusedError` when a change of the pod template would not be rolled out, or would end the last pod."""
    strategy = (workload["spec"].get("updateStrategy") or {}).get("type")
    if workload["spec"].get("paused"):
        raise RefusedError("rollout_paused", "the deployment is paused: a change would not be rolled out")
    if strategy == "OnDelete":
        raise RefusedError("on_delete", "its update strategy is OnDelete: a change would not be rolled out")
    left = replicas(workload) - unavailable_at_most(workload)
    if ready(workload) > 0 and left < 1 and not allow_outage:
        raise RefusedError(
            "last_healthy_replica",
            f"its update strategy may take all {replicas(workload)} pods at once, and {ready(workload)} are ready; "
            "`allow_outage: true` does it all the same",
        )


def rollout(workload: Object) -> Rollout:
    """How far the newest change is: seen by the controller, all pods replaced, all available."""
    status, wanted = workload.get("status", {}), replicas(workload)
    generation = workload["metadata"].get("generation", 0)
    if status.get("observedGeneration", 0) < generation:
        return Rollout("progressing", "the controller has not seen the change yet")
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Rollout("stuck", condition.get("message") or "the progress deadline is exceeded")
    daemons = kind_of(workload) == "DaemonSet"
    updated = status.get("updatedNumberScheduled" if daemons else "updatedReplicas", 0)
    available = status.get("numberAvailable" if daemons else "availableReplicas", 0)
    total = status.get("currentNumberScheduled" if daemons else "replicas", 0)
    revisions = status.get("currentRevision"), status.get("updateRevision")
    if kind_of(workload) == "StatefulSet" and revisions[0] == revisions[1]:
        updated = total  # its controller clears the count once all are of one revision
    why = f"{updated} of {wanted} pods updated, {available} available, {total} in all"
    done = updated >= wanted and available >= wanted and total <= wanted
    return Rollout("complete" if done else "progressing", why)


def autoscaler_of(autoscalers: Iterable[Object], kind: str, name: str) -> str | None:
    """The name of the HorizontalPodAutoscaler that sets the replicas of this workload."""
    for one in autoscalers:
        scaled = one["spec"]["scaleTargetRef"]
        if (scaled["kind"], scaled["name"]) == (kind, name):
            return str(one["metadata"]["name"])
    return None


def container_of(workload: Object, name: str) -> dict[str, Any]:
    """The container of the pod template with this name, "" for the only one. Raises `RefusedError`."""
    containers = workload["spec"]["template"]["spec"]["containers"]
    found = [one for one in containers if not name or one["name"] == name]
    if len(found) == 1:
        only: dict[str, Any] = found[0]
        return only
    known = ", ".join(one["name"] for one in containers)
    what = f"there is no container {name!r}" if name else "there are several containers, name one"
    raise RefusedError("unknown_container", f"{what}; it has {known}")


def differences(before: Any, after: Any, path: str = "spec") -> Iterator[dict[str, Any]]:
    """Each place where two specs differ, `{path, from, to}`; values of environment variables are masked."""
    if before == after:
        return
    before, after = _by_name(before), _by_name(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), path + (key if key.startswith("[") else f".{key}"))
    else:
        hidden = _ENV_VALUE.search(path) is not None
        shown = [MASK if hidden and value is not None else _masked(value) for value in (before, after)]
        yield {"path": path, "from": shown[0], "to": shown[1]}


def _by_name(value: Any) -> Any:
    """A list of named things as a mapping, so that one more at its head does not change all."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return {f"[{one['name']}]": one for one in value}
    return value


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(one) for one in value]
    if isinstance(value, dict):
        variable = {"name", "value"} <= value.keys()
        return {key: MASK if variable and key == "value" else _masked(one) for key, one in value.items()}
    return value
