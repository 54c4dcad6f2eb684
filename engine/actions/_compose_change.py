"""How an action changes the containers of one Compose service.

    plan     files and engine read -> what would be done, by `--dry-run` where Compose has one
    run      read again: still the planned containers? -> one `docker compose` command for this service alone
    verify   started anew, running, and by their healthchecks healthy

Compose says nothing about who gave a command, so after a crash only the containers themselves tell: the engine's own
times are compared, never ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, Plan, Result, ServiceAccess
from engine.actions._cluster import watched
from engine.actions._compose import ComposeApi, ComposeError, Container, Service, ServiceRef, look, refuse_outage
from engine.actions._kubernetes import NoAnswerError
from engine.actions._refused import RefusedError
from engine.core.messages import Target

_GRACE_S = 60.0
_STEADY_LOOKS = 3


class ServiceParams(Struct, frozen=True, forbid_unknown_fields=True):
    """All has to be well within `within_s`. `allow_outage`: even if other services lose what they depend on."""

    within_s: Annotated[float, Meta(ge=0, le=1800)] = 120.0
    allow_outage: bool = False


@dataclass(frozen=True)
class ServiceChange:
    """A command of Compose for one service, in the three parts of an action.

    `arguments` are those of the command, `tried` says what a dry run would do and raises `RefusedError` against it;
    `anew(before, now)` tells whether the containers are those that the command has started.
    """

    verb: str
    arguments: Callable[[ServiceRef, Service], list[str]]
    tried: Callable[[ComposeApi, ServiceRef, Service, Any], Awaitable[list[str]]]
    anew: Callable[[list[dict[str, Any]], tuple[Container, ...]], bool]

    def action(self, name: str, summary: str, params: type[Struct]) -> Action:
        """The action that makes this change."""
        return Action(
            name=name,
            summary=summary,
            target_kind="compose",
            params=params,
            destructive=True,
            permissions=(
                ServiceAccess("the socket of the project's Docker engine: whoever may use it is root on its machine"),
            ),
            plan=self.plan,
            run=self.run,
            verify=self.verify,
        )

    async def plan(self, env: Environment, target: Target, params: Any) -> Plan:
        """The containers of the service and what would be done to them. Raises `RefusedError`."""
        api, ref = _project(env, target)
        found = await look(api, ref)
        refuse_outage(ref, found, params.allow_outage)
        would = await self.tried(api, ref, found, params)
        changes = [
            {
                "container": one.name,
                "id": one.id,
                "image": one.image,
                "state": one.state,
                "health": one.health,
                "started_at": one.started_at,
                "would": [line for line in would if one.name in line],
            }
            for one in found.containers
        ]
        return Plan(f"{self.verb} {ref}: {'; '.join(one.words for one in found.containers)}", changes, found.fleet)

    async def run(self, env: Environment, target: Target, params: Any, plan: Plan) -> Result:
        """Give the command, once. Raises `RefusedError` when the containers are no longer the planned ones."""
        api, ref = _project(env, target)
        found = await look(api, ref)
        if found.ids != {change["id"] for change in plan.changes}:
            raise RefusedError("changed_meanwhile", f"{ref} has other containers than it was planned for")
        refuse_outage(ref, found, params.allow_outage)
        await self.tried(api, ref, found, params)
        arguments = self.arguments(ref, found)
        detail: dict[str, Any] = {"command": ["docker", "compose", *arguments]}
        try:
            await api.compose(*arguments, limit_s=params.within_s + _GRACE_S)
        except ComposeError as error:  # some of the containers may have been reached: the check tells
            return Result("unknown", "compose_failed", {**detail, "error": env.redact(str(error))})
        except NoAnswerError as error:
            return Result("unknown", "no_answer", {**detail, "error": env.redact(str(error))})
        return Result("done", "done", detail)

    async def verify(self, env: Environment, target: Target, params: Any, plan: Plan | None) -> Check:
        """Whether all containers were started anew and are well, asked again until `within_s` is over.

        What has no healthcheck has to be seen running a few times, as it may be about to crash.
        """
        if plan is None:
            return Check("unknown", "there is no plan: nothing was begun")
        api, ref = _project(env, target)
        seen: list[tuple[str, ...]] = []

        async def once() -> tuple[Check, bool]:
            try:
                found = (await look(api, ref)).containers
            except ComposeError as error:
                return Check("unknown", env.redact(str(error))), False
            except RefusedError as error:
                return Check("no" if error.reason == "no_containers" else "unknown", error.message), True
            words = "; ".join(one.words for one in found)
            if not self.anew(plan.changes, found):
                return Check("no", f"not started anew since the plan: {words}"), False
            if not all(one.healthy for one in found):
                seen.clear()
                return Check("no", words), False
            seen.append(tuple(one.started_at for one in found))
            steady = len(seen) >= _STEADY_LOOKS and len(set(seen[-_STEADY_LOOKS:])) == 1
            return Check("yes", words), steady or all(one.health for one in found)

        return await watched(env, params.within_s, once)


def _project(env: Environment, target: Target) -> tuple[ComposeApi, ServiceRef]:
    ref = ServiceRef.parse(target.name)
    if ref is None or ref.project not in env.compose:
        raise RefusedError("bad_name", f"the target is PROJECT/SERVICE of executor.compose, not {target.name!r}")
    return env.compose[ref.project], ref
