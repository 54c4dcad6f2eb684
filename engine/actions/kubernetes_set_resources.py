"""`kubernetes.set_resources`: requests and limits of a container, which rolls the workload out.

Less than now is refused unless told so: memory taken from a running service ends it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import field

from engine.actions import Environment, RefusedError
from engine.actions._change import ObjectChange, RolloutParams, undo_rollout
from engine.actions._kubernetes import Object, ObjectRef
from engine.actions._quantity import Quantity, amount
from engine.actions._workload import container_of, refuse_rollout

_Resources = dict[Literal["cpu", "memory"], Quantity]


class Params(RolloutParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Requests and limits of `cpu` and `memory`, as in `500m` and `1Gi`; what is not named stays.

    `allow_shrink` permits less than now. `container` may be left out where there is only one.
    """

    requests: _Resources = field(default_factory=dict)
    limits: _Resources = field(default_factory=dict)
    container: str = ""
    allow_shrink: bool = False

    def __post_init__(self) -> None:
        if not self.requests and not self.limits:
            raise ValueError("give requests or limits")


def with_resources(container: Object, params: Params) -> list[str]:
    """Set them in the container; what was set, in words. Raises `RefusedError` when something would shrink."""
    said = []
    resources = container.setdefault("resources", {})
    for side, wished in (("requests", params.requests), ("limits", params.limits)):
        for name, quantity in wished.items():
            now = resources.get(side, {}).get(name)
            if now is not None and amount(quantity) < amount(now) and not params.allow_shrink:
                raise RefusedError(
                    "would_shrink", f"{side}.{name} from {now} to {quantity}; `allow_shrink: true` permits it"
                )
            if now is None or amount(quantity) != amount(now):
                resources.setdefault(side, {})[name] = quantity
            said.append(f"{side}.{name} {quantity}")
    return said


async def _alter(env: Environment, ref: ObjectRef, workload: Object, params: Params) -> str:
    refuse_rollout(workload, params.allow_outage)
    container = container_of(workload, params.container)
    said = with_resources(container, params)
    return f"set {', '.join(said)} of container {container['name']}"


_CHANGE = ObjectChange(kinds=("deployment", "statefulset", "daemonset"), alter=_alter, undo=undo_rollout)
ACTION = _CHANGE.action("kubernetes.set_resources", "Set requests and limits of a container.", Params)
