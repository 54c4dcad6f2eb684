"""`kubernetes.expand_pvc`: a larger volume for a PersistentVolumeClaim. Volumes never shrink, so there is no undo.

Whether its storage class can do that, the server says in the dry run. Some volumes grow only when their pod starts
again; the claim says so in a condition. Source: Persistent Volumes, "Expanding Persistent Volumes Claims".
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from engine.actions import Environment, RefusedError
from engine.actions._change import ObjectChange
from engine.actions._kubernetes import Object, ObjectRef
from engine.actions._quantity import Quantity, amount
from engine.actions._workload import Rollout

_MI = 2**20


class Params(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Either `size`, as in `20Gi`, or `by_percent` more than now, rounded up to whole Mi; never above `ceiling`.

    The volume has to have its size within `within_s`.
    """

    ceiling: Quantity
    size: Quantity | None = None
    by_percent: Annotated[int, Meta(ge=1, le=400)] | None = None
    within_s: Annotated[float, Meta(ge=0, le=1800)] = 600.0

    def __post_init__(self) -> None:
        if (self.size is None) == (self.by_percent is None):
            raise ValueError("give either size or by_percent")
        if self.size is not None and amount(self.size) > amount(self.ceiling):
            raise ValueError(f"size {self.size} is above ceiling {self.ceiling}")


def wanted_size(now: str, params: Params) -> str:
    """The new size. Raises `RefusedError` when it would be smaller than now or above the ceiling."""
    size = params.size
    if size is None:
        grown = amount(now) * (100 + (params.by_percent or 0)) / 100
        size = f"{-(-int(grown) // _MI)}Mi"
        if amount(size) > amount(params.ceiling):
            raise RefusedError("at_ceiling", f"from {now} to {size}, the ceiling is {params.ceiling}")
    if amount(size) < amount(now):
        raise RefusedError("would_shrink", f"from {now} to {size}: volumes never shrink")
    return now if amount(size) == amount(now) else size


def growth(claim: Object) -> Rollout:
    """How far the volume has grown."""
    wanted = claim["spec"]["resources"]["requests"]["storage"]
    status = claim.get("status", {})
    now = status.get("capacity", {}).get("storage", "0")
    why = f"the volume has {now} of {wanted}"
    if amount(now) >= amount(wanted):
        return Rollout("complete", why)
    if "Infeasible" in str(status.get("allocatedResourceStatuses", {}).get("storage", "")):
        return Rollout("stuck", f"{why}, and cannot grow")
    if any(one["type"] == "FileSystemResizePending" for one in status.get("conditions") or ()):
        return Rollout("progressing", f"{why}; its file system grows when its pod starts again")
    return Rollout("progressing", why)


async def _alter(env: Environment, ref: ObjectRef, claim: Object, params: Params) -> str:
    requests = claim["spec"]["resources"]["requests"]
    now = requests["storage"]
    requests["storage"] = wanted_size(now, params)
    return f"expand from {now} to {requests['storage']}"


_CHANGE = ObjectChange(kinds=("persistentvolumeclaim",), alter=_alter, progress=growth)
ACTION = _CHANGE.action("kubernetes.expand_pvc", "Give a PersistentVolumeClaim a larger volume.", Params)
