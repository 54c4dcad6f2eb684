"""How an action changes a workload: read, change, let the server try it, write, watch the rollout.

    plan     read -> change -> update with dryRun=All -> what would differ
    run      read -> same object, same spec as planned? -> change -> update, bound to the version that was read
    verify   our command's id on the object? -> rollout complete?

The id of the command is left as an annotation in the same write: a command that comes again finds it and does
nothing, and after a crash it tells whether the write took place. Only the status of an object may change between
planning and running; it does all the time in an incident, so a write that meets it is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, Permission, Plan, Result, Undo
from engine.actions._cluster import api_of, read, watched
from engine.actions._fleet import fleet_rules, workloads_of
from engine.actions._kubernetes import KINDS, WORKLOADS, ConflictError, NoAnswerError, Object, ObjectRef, Request
from engine.actions._refused import RefusedError
from engine.actions._workload import COMMAND_ANNOTATION, REVISION_ANNOTATION, Rollout, annotation, differences, rollout
from engine.core.messages import Target

_ATTEMPTS = 5


class RolloutParams(Struct, frozen=True, forbid_unknown_fields=True):
    """The rollout has to be complete within `within_s`. `allow_outage`: even if all pods may be gone at once."""

    within_s: Annotated[float, Meta(ge=0, le=1800)] = 300.0
    allow_outage: bool = False


# Alters the object and says in a few words what it did, or raises RefusedError.
Alter = Callable[[Environment, ObjectRef, Object, Any], Awaitable[str]]


@dataclass(frozen=True)
class ObjectChange:
    """A change to one object of one of these kinds, in the three parts of an action.

    `progress` tells from the object how far the change has taken effect; `reads` is what `alter` looks at besides.
    With a `skeleton` an object that is not there is made: it is what `alter` is given then.
    """

    kinds: tuple[str, ...]
    alter: Alter
    reads: tuple[Permission, ...] = ()
    undo: Callable[[Any, Plan], Undo | None] | None = None
    progress: Callable[[Object], Rollout] = rollout
    skeleton: Callable[[ObjectRef], Object] | None = None

    def action(self, name: str, summary: str, params: type[Struct]) -> Action:
        """The action that makes this change."""
        return Action(
            name=name,
            summary=summary,
            target_kind="kubernetes",
            params=params,
            destructive=True,
            permissions=(
                *(KINDS[kind].rule("get", "update", kind=kind) for kind in self.kinds),
                *self.reads,
                *fleet_rules(self.kinds),
            ),
            plan=self.plan,
            run=self.run,
            verify=self.verify,
            undo=self.undo,
            object_kinds=self.kinds,
        )

    async def plan(self, env: Environment, target: Target, params: Any) -> Plan:
        """What the change would alter, tried by the server without storing it. Raises `RefusedError`."""
        ref = ObjectRef.of_kind(target.name, *self.kinds)
        for _ in range(_ATTEMPTS):
            found = await self._read(env, ref)
            wished, what = await self._altered(env, ref, found, params)
            if wished["spec"] == found["spec"]:
                return Plan(f"{what}: {ref}; it is so already", [])
            try:
                tried = await api_of(env).send(_write(ref, wished, dry_run=True))
            except ConflictError:
                continue
            planned: dict[str, Any] = {
                "object": str(ref),
                "uid": found["metadata"].get("uid", ""),
                "spec_sha256": _digest(found),
                "revision": annotation(found, REVISION_ANNOTATION),
                "differences": list(differences(found["spec"], tried["spec"])),
            }
            fleet = await workloads_of(env, ref.namespace) if ref.kind in WORKLOADS else None
            return Plan(f"{what}: {ref}", [planned], fleet)
        raise _changing(ref)

    async def run(self, env: Environment, target: Target, params: Any, plan: Plan) -> Result:
        """Write the change, once. Raises `RefusedError` when the object is no longer the planned one."""
        ref = ObjectRef.of_kind(target.name, *self.kinds)
        for _ in range(_ATTEMPTS):
            found = await self._read(env, ref)
            if annotation(found, COMMAND_ANNOTATION) == env.command:
                return Result("done", "done_before", {"resource_version": found["metadata"]["resourceVersion"]})
            _refuse_changed(found, plan.changes[0])
            wished, _ = await self._altered(env, ref, found, params)
            try:
                written = await api_of(env).send(_write(ref, wished))
            except ConflictError:
                continue
            except NoAnswerError as error:
                return Result("unknown", "no_answer", {"error": env.redact(str(error))})
            return Result("done", "written", {"resource_version": written["metadata"]["resourceVersion"]})
        raise _changing(ref)

    async def verify(self, env: Environment, target: Target, params: Any, plan: Plan | None) -> Check:
        """Whether our change is on the object and has taken effect, asked again until `within_s` is over."""
        if plan is None:
            return Check("unknown", "there is no plan: nothing was begun")
        ref, uid = ObjectRef.of_kind(target.name, *self.kinds), plan.changes[0]["uid"]

        async def look() -> tuple[Check, bool]:
            try:
                found = await read(env, ref)
            except RefusedError as error:
                return Check(
                    "no" if error.reason in ("not_found", "unknown_namespace") else "unknown", str(error)
                ), True
            if uid not in ("", found["metadata"]["uid"]):
                return Check("no", f"{ref} was deleted and made anew"), True
            if annotation(found, COMMAND_ANNOTATION) != env.command:
                return Check("no", f"{ref} does not carry this command's id: the change did not take place"), True
            state = self.progress(found)
            return Check("yes" if state.state == "complete" else "no", state.why), state.state != "progressing"

        return await watched(env, params.within_s, look)

    async def _read(self, env: Environment, ref: ObjectRef) -> Object:
        try:
            return await read(env, ref)
        except RefusedError as error:
            if error.reason != "not_found" or self.skeleton is None:
                raise
            return self.skeleton(ref)

    async def _altered(self, env: Environment, ref: ObjectRef, found: Object, params: Any) -> tuple[Object, str]:
        wished = deepcopy(found)
        what = await self.alter(env, ref, wished, params)
        metadata = wished["metadata"]
        metadata["annotations"] = {**(metadata.get("annotations") or {}), COMMAND_ANNOTATION: env.command}
        return wished, what


def _changing(ref: ObjectRef) -> RefusedError:
    return RefusedError("changing", f"{ref} changed {_ATTEMPTS} times between being read and written")


def _digest(found: Object) -> str:
    """Of the spec: not every kind of object counts its changes in a generation."""
    return hashlib.sha256(msgspec.json.encode(found["spec"], order="deterministic")).hexdigest()


def _refuse_changed(found: Object, planned: dict[str, Any]) -> None:
    if found["metadata"].get("uid", "") != planned["uid"]:
        raise RefusedError("replaced", f"{planned['object']} was made or deleted since it was planned")
    if _digest(found) != planned["spec_sha256"]:
        raise RefusedError("changed_meanwhile", f"somebody changed {planned['object']} since it was planned")


def _write(ref: ObjectRef, wished: Object, *, dry_run: bool = False) -> Request:
    """The object back to the server: one that never was there has no UID, and is made."""
    if "uid" in wished["metadata"]:
        return Request("update", ref.resource, ref.namespace, ref.name, wished, dry_run)
    return Request("create", ref.resource, ref.namespace, "", wished, dry_run)


def undo_rollout(params: RolloutParams, plan: Plan) -> Undo | None:
    """Back to the revision that ran when the change was planned; only Deployments number theirs."""
    revision = plan.changes[0]["revision"] if plan.changes else ""
    return Undo("kubernetes.rollout_undo", {"revision": int(revision)}) if revision else None
