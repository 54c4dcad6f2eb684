"""`kubernetes.autoscale`: make a HorizontalPodAutoscaler, or change the bounds of one.

The target is the autoscaler, `NAMESPACE/horizontalpodautoscaler/NAME`. How many pods there are within the bounds is its
own business: the check sees that the cluster has them, not that load has brought it there. Source: autoscaling/v2.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from engine.actions import Environment, Plan, RefusedError, Undo
from engine.actions._change import ObjectChange
from engine.actions._cluster import api_of
from engine.actions._kubernetes import AUTOSCALERS, Object, ObjectRef, Request
from engine.actions._workload import Rollout, autoscaler_of

_Count = Annotated[int, Meta(ge=1, le=10_000)]
_KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet"}


class Params(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on the pods, and the use of requested CPU to aim at; what is not named stays.

    For a new one `workload` (`deployment/NAME` or `statefulset/NAME`), `max_replicas` and `cpu_percent` are needed.
    `allow_shrink` permits lower bounds than now.
    """

    min_replicas: _Count | None = None
    max_replicas: _Count | None = None
    cpu_percent: Annotated[int, Meta(ge=1, le=1000)] | None = None
    workload: Annotated[str, Meta(pattern=r"^((deployment|statefulset)/[a-z0-9][-a-z0-9.]*)?$")] = ""
    allow_shrink: bool = False
    within_s: Annotated[float, Meta(ge=0, le=1800)] = 30.0

    def __post_init__(self) -> None:
        if self.min_replicas is None and self.max_replicas is None and self.cpu_percent is None:
            raise ValueError("give min_replicas, max_replicas or cpu_percent")


def with_bounds(spec: Object, params: Params) -> str:
    """Set the bounds; what they are now, in words. Raises `RefusedError` for lower ones and for an empty range."""
    for key, wanted in (("minReplicas", params.min_replicas), ("maxReplicas", params.max_replicas)):
        if wanted is not None and wanted < spec.get(key, 0) and not params.allow_shrink:
            raise RefusedError("would_shrink", f"{key} from {spec[key]} to {wanted}; `allow_shrink: true` permits it")
        if wanted is not None:
            spec[key] = wanted
    low, high = spec.get("minReplicas", 1), spec["maxReplicas"]
    if low > high:
        raise RefusedError("not_admitted", f"min_replicas {low} is above max_replicas {high}")
    if params.cpu_percent is not None:
        spec["metrics"] = [*(one for one in spec.get("metrics") or () if not _is_cpu(one)), _cpu(params.cpu_percent)]
    return f"from {low} to {high} pods"


def _is_cpu(metric: dict[str, Any]) -> bool:
    return bool(metric["type"] == "Resource" and metric["resource"]["name"] == "cpu")


def _cpu(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _skeleton(ref: ObjectRef) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": {},
    }


async def _alter(env: Environment, ref: ObjectRef, autoscaler: Object, params: Params) -> str:
    spec = autoscaler["spec"]
    if not spec:
        spec["scaleTargetRef"] = await _workload(env, ref, params)
        spec["maxReplicas"] = params.max_replicas
        return f"new autoscaler, {with_bounds(spec, params)}"
    return f"autoscaler {with_bounds(spec, params)}"


async def _workload(env: Environment, ref: ObjectRef, params: Params) -> Object:
    """What a new autoscaler scales. Raises `RefusedError` when that is not said, or another one does already."""
    if not params.workload or params.max_replicas is None or params.cpu_percent is None:
        raise RefusedError("not_found", f"there is no {ref}; for a new one give workload, max_replicas and cpu_percent")
    kind, _, name = params.workload.partition("/")
    scaled = {"apiVersion": "apps/v1", "kind": _KINDS[kind], "name": name}
    listed = await api_of(env).send(Request("list", AUTOSCALERS, ref.namespace))
    other = autoscaler_of(listed["items"], _KINDS[kind], name)
    if other is not None:
        raise RefusedError("autoscaler_in_charge", f"{params.workload} has an autoscaler already: {other}")
    return scaled


def _undo(params: Params, plan: Plan) -> Undo | None:
    names = {"spec.minReplicas": "min_replicas", "spec.maxReplicas": "max_replicas"}
    if not plan.changes or not plan.changes[0]["uid"]:
        return None
    before = {names[one["path"]]: one["from"] for one in plan.changes[0]["differences"] if one["path"] in names}
    return Undo("kubernetes.autoscale", before | {"allow_shrink": True}) if before else None


def _accepted(autoscaler: Object) -> Rollout:
    spec = autoscaler["spec"]
    return Rollout("complete", f"the autoscaler keeps {spec.get('minReplicas', 1)} to {spec['maxReplicas']} pods")


_CHANGE = ObjectChange(
    kinds=("horizontalpodautoscaler",),
    alter=_alter,
    reads=(AUTOSCALERS.rule("list", "create"),),
    undo=_undo,
    progress=_accepted,
    skeleton=_skeleton,
)
ACTION = _CHANGE.action("kubernetes.autoscale", "Make an autoscaler, or change its bounds.", Params)
