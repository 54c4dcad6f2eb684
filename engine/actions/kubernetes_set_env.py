"""`kubernetes.set_env`: set or remove environment variables of a container, which rolls the workload out.

Values are not for secrets: a command, with its parameters, is kept for good. Those that were there before are masked
in the plan.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from engine.actions import Environment, RefusedError
from engine.actions._change import ObjectChange, RolloutParams, undo_rollout
from engine.actions._kubernetes import Object, ObjectRef
from engine.actions._workload import container_of, refuse_rollout

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=253)]


class Params(RolloutParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Variables and their values; null removes one. `container` may be left out where there is only one."""

    env: Annotated[dict[_Name, Annotated[str, Meta(max_length=4096)] | None], Meta(min_length=1)]
    container: str = ""


def with_env(variables: list[dict[str, Any]], wished: dict[str, str | None]) -> list[dict[str, Any]]:
    """The variables, in their order, with the wished ones set or gone; new ones at the end.

    Raises `RefusedError` for one whose value comes from a Secret or ConfigMap: change it there.
    """
    taken = [one["name"] for one in variables if one["name"] in wished and "valueFrom" in one]
    if taken:
        raise RefusedError("value_from_elsewhere", f"{', '.join(taken)} comes from a Secret, a ConfigMap or a field")
    out = []
    for one in variables:
        value = wished.get(one["name"], one.get("value", ""))
        if value is not None:
            out.append({"name": one["name"], "value": value} if one["name"] in wished else one)
    there = {one["name"] for one in variables}
    new = [{"name": name, "value": value} for name, value in wished.items() if name not in there and value is not None]
    return out + new


async def _alter(env: Environment, ref: ObjectRef, workload: Object, params: Params) -> str:
    refuse_rollout(workload, params.allow_outage)
    container = container_of(workload, params.container)
    container["env"] = with_env(container.get("env") or [], params.env)
    if not container["env"]:
        del container["env"]
    return f"set {', '.join(sorted(params.env))} of container {container['name']}"


_CHANGE = ObjectChange(kinds=("deployment", "statefulset", "daemonset"), alter=_alter, undo=undo_rollout)
ACTION = _CHANGE.action("kubernetes.set_env", "Set environment variables of a container.", Params)
