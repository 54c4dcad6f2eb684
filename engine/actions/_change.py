"""How an action changes a workload: read, change, let the server try it, write, watch the rollout.

    plan     read -> change -> update with dryRun=All -> what would differ
    run      read -> same object, same spec as planned? -> change -> update, bound to the version that was read
    verify   our command's id on the object? -> rollout complete?

The id of the command is left as an annotation in the same write: a command that comes again finds it and does
nothing, and after a crash it tells whether the write took place. Only the status of an object may change between
planning and running; it does all the time in an incident, so a write that meets it is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Annotated, Any

from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, Permission, Plan, Result, Undo
from engine.actions._kubernetes import KINDS, ConflictError, KubernetesApi, NoAnswerError, Object, ObjectRef, Request
from engine.actions._refused import RefusedError
from engine.actions._workload import COMMAND_ANNOTATION, annotation, differences, ready, rollout
from engine.core.messages import Target

_ATTEMPTS = 5
_POLL_S = 1.0


class RolloutParams(Struct, frozen=True, forbid_unknown_fields=True):
    """The rollout has to be complete within `within_s`. `allow_outage`: even if all pods may be gone at once."""

    within_s: Annotated[float, Meta(ge=0, le=1800)] = 300.0
    allow_outage: bool = False


# Alters the object and says in a few words what it did, or raises RefusedError.
Change = Callable[[Environment, ObjectRef, Object, Any], Awaitable[str]]


def workload_action(
    name: str,
    summary: str,
    kinds: tuple[str, ...],
    params: type[RolloutParams],
    change: Change,
    reads: tuple[Permission, ...] = (),
    undo: Callable[[Any, Plan], Undo | None] | None = None,
) -> Action:
    """The action that makes this change to workloads of these kinds. `reads`: what it looks at besides the workload."""

    async def plan(env: Environment, target: Target, params: Any) -> Plan:
        """What the server would change, by a dry run."""
        return await plan_change(env, ObjectRef.of_kind(target.name, *kinds), change, params)

    async def run(env: Environment, target: Target, params: Any, plan: Plan) -> Result:
        """Write the change to the planned object."""
        return await run_change(env, ObjectRef.of_kind(target.name, *kinds), change, params, plan)

    async def verify(env: Environment, target: Target, params: Any, plan: Plan | None) -> Check:
        """Whether the change is there and rolled out."""
        return await verify_rollout(env, ObjectRef.of_kind(target.name, *kinds), plan, params.within_s)

    return Action(
        name=name,
        summary=summary,
        target_kind="kubernetes",
        params=params,
        destructive=True,
        permissions=(*(KINDS[kind].rule("get", "update") for kind in kinds), *reads),
        plan=plan,
        run=run,
        verify=verify,
        undo=undo,
    )


def api_of(env: Environment) -> KubernetesApi:
    """The cluster's client. Raises `RefusedError` where none is configured."""
    if env.kubernetes is None:
        raise RefusedError("no_cluster", "the executor has no cluster: set executor.namespaces")
    return env.kubernetes


async def read(env: Environment, ref: ObjectRef) -> Object:
    """The object as it is now."""
    return await api_of(env).send(Request("get", ref.resource, ref.namespace, ref.name))


async def plan_change(env: Environment, ref: ObjectRef, change: Change, params: Any) -> Plan:
    """What the change would alter, tried by the server without storing it. Raises `RefusedError`."""
    found = await read(env, ref)
    wished, what = await _changed(env, ref, found, change, params)
    summary = f"{what}: {ref}"
    if wished["spec"] == found["spec"]:
        return Plan(f"{summary}; it is so already", [])
    tried = await api_of(env).send(_update(ref, wished, dry_run=True))
    metadata = found["metadata"]
    planned: dict[str, Any] = {
        "object": str(ref),
        "uid": metadata["uid"],
        "generation": metadata["generation"],
        "revision": annotation(found, "deployment.kubernetes.io/revision"),
        "ready": ready(found),
        "differences": list(differences(found["spec"], tried["spec"])),
    }
    return Plan(summary, [planned])


async def run_change(env: Environment, ref: ObjectRef, change: Change, params: Any, plan: Plan) -> Result:
    """Write the change, once. Raises `RefusedError` when the object is no longer the planned one."""
    planned = plan.changes[0]
    for _ in range(_ATTEMPTS):
        found = await read(env, ref)
        if annotation(found, COMMAND_ANNOTATION) == env.command:
            return Result("done", "done_before", {"generation": found["metadata"]["generation"]})
        refuse_changed(found, planned)
        wished, _ = await _changed(env, ref, found, change, params)
        try:
            written = await api_of(env).send(_update(ref, wished))
        except ConflictError:
            continue
        except NoAnswerError as error:
            return Result("unknown", "no_answer", {"error": env.redact(str(error))})
        return Result("done", "written", {"generation": written["metadata"]["generation"]})
    raise RefusedError("changing", f"{ref} changed {_ATTEMPTS} times between being read and written")


def refuse_changed(found: Object, planned: dict[str, Any]) -> None:
    """Raises `RefusedError` unless the object is the planned one with the planned spec."""
    metadata = found["metadata"]
    if metadata["uid"] != planned["uid"]:
        raise RefusedError("replaced", f"{planned['object']} was deleted and made anew since it was planned")
    if metadata.get("generation") != planned["generation"]:
        raise RefusedError("changed_meanwhile", f"somebody changed {planned['object']} since it was planned")


async def verify_rollout(env: Environment, ref: ObjectRef, plan: Plan | None, within_s: float) -> Check:
    """Whether our change is on the object and rolled out, asked again for so long."""
    if plan is None:
        return Check("unknown", "there is no plan: nothing was begun")
    why = ""
    for attempt in range(1 + round(within_s / _POLL_S)):
        if attempt:
            await env.sleep(_POLL_S)
        try:
            found = await read(env, ref)
        except (NoAnswerError, RefusedError) as error:
            return Check("unknown", f"{ref} could not be read: {env.redact(str(error))}")
        if found["metadata"]["uid"] != plan.changes[0]["uid"]:
            return Check("no", f"{ref} was deleted and made anew")
        if annotation(found, COMMAND_ANNOTATION) != env.command:
            return Check("no", f"{ref} does not carry this command's id: the change did not take place")
        state = rollout(found)
        if state.state == "complete":
            return Check("yes", state.why)
        why = state.why
        if state.state == "stuck":
            return Check("no", why)
    return Check("no", f"{why}, after {within_s:g} s")


async def _changed(env: Environment, ref: ObjectRef, found: Object, change: Change, params: Any) -> tuple[Object, str]:
    wished = deepcopy(found)
    what = await change(env, ref, wished, params)
    metadata = wished["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), COMMAND_ANNOTATION: env.command}
    return wished, what


def _update(ref: ObjectRef, wished: Object, *, dry_run: bool = False) -> Request:
    return Request("update", ref.resource, ref.namespace, ref.name, wished, dry_run)


def undo_rollout(params: RolloutParams, plan: Plan) -> Undo | None:
    """Back to the revision that ran when the change was planned; only Deployments number theirs."""
    revision = plan.changes[0]["revision"] if plan.changes else ""
    return Undo("kubernetes.rollout_undo", {"revision": int(revision)}) if revision else None
