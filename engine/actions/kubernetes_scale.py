"""`kubernetes.scale`: more (when told so, fewer) pods of a Deployment or StatefulSet, within bounds.

The seed's `scale --replicas=5` mended: it may shrink what is larger already, and fights an autoscaler, which sets
the number back.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine.actions import Environment, Plan, RefusedError, Undo
from engine.actions._change import ObjectChange, RolloutParams
from engine.actions._cluster import api_of
from engine.actions._kubernetes import AUTOSCALERS, Object, ObjectRef, Request
from engine.actions._workload import autoscaler_of, ready, replicas

_Count = Annotated[int, Meta(ge=0, le=10_000)]
_Ceiling = Annotated[int, Meta(ge=1, le=10_000)]


class Params(RolloutParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Either `replicas`, so many, or `by`, so many more (fewer if negative); never below `floor` or above `ceiling`.

    `allow_shrink` permits fewer pods than now, `override_autoscaler` to act though an autoscaler is in charge,
    `allow_outage` to have no pod at all, and to shrink a StatefulSet whose pods are not all ready.
    """

    ceiling: _Ceiling
    floor: _Count = 1
    replicas: _Count | None = None
    by: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    allow_shrink: bool = False
    override_autoscaler: bool = False

    def __post_init__(self) -> None:
        if (self.replicas is None) == (not self.by):
            raise ValueError("give either replicas or by, which is not 0")
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor} is above ceiling {self.ceiling}")
        if self.replicas is not None and not self.floor <= self.replicas <= self.ceiling:
            raise ValueError(f"replicas {self.replicas} is not between floor {self.floor} and ceiling {self.ceiling}")


def wanted_replicas(current: int, params: Params) -> int:
    """How many pods there shall be. Raises `RefusedError` when bounds or direction forbid the change."""
    by = params.by or 0
    wanted = min(max(current + by, params.floor), params.ceiling) if params.replicas is None else params.replicas
    if by > 0 and wanted <= current:
        raise RefusedError("at_ceiling", f"{current} pods already, the ceiling is {params.ceiling}")
    if by < 0 and wanted >= current:
        raise RefusedError("at_floor", f"only {current} pods, the floor is {params.floor}")
    if wanted < current and not params.allow_shrink:
        raise RefusedError("would_shrink", f"from {current} to {wanted} pods; `allow_shrink: true` permits it")
    if wanted < current and wanted == 0 and not params.allow_outage:
        raise RefusedError("last_healthy_replica", "no pod would be left; `allow_outage: true` does it all the same")
    return wanted


def refuse_shrink(workload: Object, current: int, params: Params) -> None:
    """Raises `RefusedError` when the pods that go may be the ready ones: a StatefulSet ends its last ones first."""
    fewer = replicas(workload) < current and workload["kind"] == "StatefulSet"
    if fewer and ready(workload) < current and not params.allow_outage:
        raise RefusedError(
            "last_healthy_replica",
            f"only {ready(workload)} of {current} pods are ready, and the last ones go first, ready or not; "
            "`allow_outage: true` does it all the same",
        )


async def _alter(env: Environment, ref: ObjectRef, workload: Object, params: Params) -> str:
    listed = await api_of(env).send(Request("list", AUTOSCALERS, ref.namespace))
    autoscaler = autoscaler_of(listed["items"], workload["kind"], ref.name)
    if autoscaler is not None and not params.override_autoscaler:
        raise RefusedError(
            "autoscaler_in_charge",
            f"the autoscaler {autoscaler} sets the replicas of {ref}: change its bounds with kubernetes.autoscale",
        )
    current = replicas(workload)
    workload["spec"]["replicas"] = wanted_replicas(current, params)
    refuse_shrink(workload, current, params)
    return f"scale from {current} to {workload['spec']['replicas']} pods"


def _undo(params: Params, plan: Plan) -> Undo | None:
    for change in plan.changes[0]["differences"] if plan.changes else ():
        if change["path"] == "spec.replicas":
            before = change["from"]
            bounds = {"floor": min(params.floor, before), "ceiling": max(params.ceiling, before)}
            outage = {} if before else {"allow_outage": True}
            return Undo("kubernetes.scale", {"replicas": before, "allow_shrink": True, **bounds, **outage})
    return None


_CHANGE = ObjectChange(kinds=("deployment", "statefulset"), alter=_alter, reads=(AUTOSCALERS.rule("list"),), undo=_undo)
ACTION = _CHANGE.action("kubernetes.scale", "Change how many pods a workload has.", Params)
