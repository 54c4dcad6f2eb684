"""`kubernetes.rollout_restart`: replace every pod of a workload, a few at a time, as its update strategy says.

An annotation of the pod template is set to the command's id. A tool that keeps the whole pod template as it stands
in Git takes the annotation away again, which is a second rollout: let it ignore the annotations of the pod template.
"""

from __future__ import annotations

from engine.actions import Environment
from engine.actions._change import ObjectChange, RolloutParams
from engine.actions._kubernetes import Object, ObjectRef
from engine.actions._workload import refuse_rollout

_RESTARTED_BY = "aureus-sentinel/restarted-by"


class Params(RolloutParams, frozen=True, forbid_unknown_fields=True):
    """The rollout has to be complete within `within_s`. `allow_outage`: even if all pods may be gone at once."""


async def _alter(env: Environment, ref: ObjectRef, workload: Object, params: Params) -> str:
    refuse_rollout(workload, params.allow_outage)
    metadata = workload["spec"]["template"].setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), _RESTARTED_BY: env.command}
    return "restart by a rollout"


_CHANGE = ObjectChange(kinds=("deployment", "statefulset", "daemonset"), alter=_alter)
ACTION = _CHANGE.action("kubernetes.rollout_restart", "Replace every pod of a workload by a rollout.", Params)
