"""`kubernetes.rollout_undo`: bring back the pod template of an earlier revision of a Deployment.

A revision is a ReplicaSet that the Deployment owns, numbered by an annotation; so many are kept as its
`revisionHistoryLimit` says. Source: Deployments, "Rolling Back a Deployment".
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Annotated

from msgspec import Meta

from engine.actions import Environment, RefusedError
from engine.actions._change import ObjectChange, RolloutParams, undo_rollout
from engine.actions._cluster import api_of
from engine.actions._kubernetes import REPLICA_SETS, Object, ObjectRef, Request
from engine.actions._workload import REVISION_ANNOTATION, annotation, refuse_rollout

_HASH = "pod-template-hash"  # the controller's own label, different in every revision


class Params(RolloutParams, frozen=True, forbid_unknown_fields=True):
    """`revision`: the one to go back to, by default the one before the present one."""

    revision: Annotated[int, Meta(ge=1)] | None = None


def revisions(deployment: Object, replica_sets: Iterable[Object]) -> dict[int, Object]:
    """The pod templates of a Deployment's revisions by number, without the controller's own label."""
    out: dict[int, Object] = {}
    for one in replica_sets:
        owners = one["metadata"].get("ownerReferences") or ()
        number = annotation(one, REVISION_ANNOTATION)
        if number and any(owner["uid"] == deployment["metadata"]["uid"] for owner in owners):
            template = deepcopy(one["spec"]["template"])
            template["metadata"].get("labels", {}).pop(_HASH, None)
            out[int(number)] = template
    return out


def choose(deployment: Object, known: dict[int, Object], wanted: int | None) -> int:
    """The revision to go back to. Raises `RefusedError` when there is none."""
    current = int(annotation(deployment, REVISION_ANNOTATION) or 0)
    if wanted is not None:
        if wanted not in known:
            there = ", ".join(map(str, sorted(known))) or "none"
            raise RefusedError("unknown_revision", f"there is no revision {wanted}; there are {there}")
        return wanted
    earlier = [number for number in known if number < current]
    if not earlier:
        raise RefusedError("no_previous_revision", f"revision {current} is the oldest that is kept")
    return max(earlier)


async def _alter(env: Environment, ref: ObjectRef, workload: Object, params: Params) -> str:
    refuse_rollout(workload, params.allow_outage)
    listed = await api_of(env).send(Request("list", REPLICA_SETS, ref.namespace))
    known = revisions(workload, listed["items"])
    number = choose(workload, known, params.revision)
    workload["spec"]["template"] = known[number]
    return f"go back from revision {annotation(workload, REVISION_ANNOTATION)} to {number}"


_CHANGE = ObjectChange(kinds=("deployment",), alter=_alter, reads=(REPLICA_SETS.rule("list"),), undo=undo_rollout)
ACTION = _CHANGE.action("kubernetes.rollout_undo", "Bring back an earlier revision of a Deployment.", Params)
