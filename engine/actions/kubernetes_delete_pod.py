"""`kubernetes.delete_pod`: evict one pod that a controller will replace.

By the eviction API, so that a PodDisruptionBudget can say no; bound to the pod's UID, so that a new pod of the same
name (a StatefulSet's) is never taken for it. Source: API-initiated eviction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, Fleet, Plan, RefusedError, Result
from engine.actions._cluster import api_of, read, watched
from engine.actions._fleet import pods_of
from engine.actions._kubernetes import EVICTIONS, PODS, ConflictError, NoAnswerError, Object, ObjectRef, Request
from engine.core.messages import Target

_MIRROR = "kubernetes.io/config.mirror"  # a static pod: the kubelet would only show it again


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """As many pods of its controller as before must be ready again within `within_s`.

    `grace_s`: seconds it has to end by itself, by default its own. `allow_outage`: even if no other pod is ready.
    """

    within_s: Annotated[float, Meta(ge=0, le=1800)] = 300.0
    grace_s: Annotated[int, Meta(ge=1, le=3600)] | None = None
    allow_outage: bool = False


def controller_of(pod: Object) -> Object:
    """The owner that will replace the pod. Raises `RefusedError` for a pod that nobody would bring back."""
    metadata = pod["metadata"]
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None or _MIRROR in (metadata.get("annotations") or {}):
        raise RefusedError("no_controller", f"no controller would replace pod {metadata['name']}")
    found: Object = owner
    return found


def is_ready(pod: Object) -> bool:
    """Whether it takes traffic: its condition Ready is true and it is not ending."""
    conditions = pod.get("status", {}).get("conditions") or ()
    ending = "deletionTimestamp" in pod["metadata"]
    return not ending and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def ready_siblings(pods: Iterable[Object], controller_uid: str, but_uid: str = "") -> int:
    """How many pods of a controller are ready, one of them left out."""
    return sum(
        is_ready(pod)
        for pod in pods
        if pod["metadata"]["uid"] != but_uid
        and any(owner["uid"] == controller_uid for owner in pod["metadata"].get("ownerReferences") or ())
    )


async def _looked_at(env: Environment, ref: ObjectRef, params: Params) -> tuple[dict[str, Any], Fleet]:
    """The pod, as a plan keeps it, and those it is one of. Raises `RefusedError` when it must stay."""
    pod = await read(env, ref)
    controller, uid = controller_of(pod), pod["metadata"]["uid"]
    listed = await api_of(env).send(Request("list", PODS, ref.namespace))
    others = ready_siblings(listed["items"], controller["uid"], uid)
    if is_ready(pod) and others == 0 and not params.allow_outage:
        raise RefusedError("last_healthy_replica", f"{ref} is the only ready pod of {controller['name']}")
    found = {
        "pod": ref.name,
        "uid": uid,
        "controller": f"{controller['kind'].lower()} {controller['name']}",
        "controller_uid": controller["uid"],
        "ready": others + is_ready(pod),
    }
    return found, pods_of(controller, ref.namespace, listed["items"])


def _eviction(ref: ObjectRef, uid: str, params: Params, *, dry_run: bool) -> Request:
    options: Object = {"preconditions": {"uid": uid}}
    if params.grace_s is not None:
        options["gracePeriodSeconds"] = params.grace_s
    if dry_run:
        options["dryRun"] = ["All"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "deleteOptions": options,
    }
    return Request("create", EVICTIONS, ref.namespace, ref.name, body, dry_run)


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The pod that would be evicted, tried by the server in a dry run, disruption budgets included."""
    ref = ObjectRef.of_kind(target.name, "pod")
    planned, fleet = await _looked_at(env, ref, params)
    await _evict(env, _eviction(ref, planned["uid"], params, dry_run=True))
    return Plan(f"evict {ref}, of {planned['controller']}", [planned], fleet)


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Evict the planned pod, if it is still that one and may still go."""
    ref = ObjectRef.of_kind(target.name, "pod")
    planned = plan.changes[0]
    found, _ = await _looked_at(env, ref, params)
    if found["uid"] != planned["uid"]:
        raise RefusedError("replaced", f"{ref} was replaced since it was planned")
    try:
        await _evict(env, _eviction(ref, planned["uid"], params, dry_run=False))
    except NoAnswerError as error:
        return Result("unknown", "no_answer", {"error": env.redact(str(error))})
    return Result("done", "evicted", {"pod": ref.name})


async def _evict(env: Environment, request: Request) -> None:
    try:
        await api_of(env).send(request)
    except ConflictError as error:
        raise RefusedError("replaced", f"pod {request.name} was replaced since it was planned") from error


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether the planned pod is gone and its controller has as many ready pods as before."""
    if plan is None:
        return Check("unknown", "there is no plan: nothing was begun")
    planned, ref = plan.changes[0], ObjectRef.of_kind(target.name, "pod")

    async def look() -> tuple[Check, bool]:
        try:
            pods = (await api_of(env).send(Request("list", PODS, ref.namespace)))["items"]
        except RefusedError as error:
            return Check("unknown", str(error)), True
        there = any(pod["metadata"]["uid"] == planned["uid"] for pod in pods)
        ready = ready_siblings(pods, planned["controller_uid"])
        done = not there and ready >= planned["ready"]
        why = f"the pod is {'still there' if there else 'gone'}, {ready} of {planned['ready']} pods are ready"
        return Check("yes" if done else "no", why), done

    return await watched(env, params.within_s, look)


ACTION = Action(
    name="kubernetes.delete_pod",
    summary="Evict one pod that its controller replaces.",
    target_kind="kubernetes",
    params=Params,
    destructive=True,
    permissions=(PODS.rule("get", "list"), EVICTIONS.rule("create")),
    plan=plan,
    run=run,
    verify=verify,
    object_kinds=("pod",),
)
