"""`compose.restart`: stop and start the containers of one Compose service, without its dependencies or dependents.

The containers stay as they are, with the configuration that they were made with; stopped ones are started.
"""

from __future__ import annotations

from typing import Any

from engine.actions._compose import ComposeApi, Container, Service, ServiceRef
from engine.actions._compose_change import ServiceChange, ServiceParams


class Params(ServiceParams, frozen=True, forbid_unknown_fields=True):
    """All has to be well within `within_s`. `allow_outage`: even if other services lose what they depend on."""


def _arguments(ref: ServiceRef, found: Service) -> list[str]:
    return ["restart", "--no-deps", ref.service]


async def _tried(api: ComposeApi, ref: ServiceRef, found: Service, params: Params) -> list[str]:
    return [f"{one.name}: restart" for one in found.containers]


def _anew(before: list[dict[str, Any]], now: tuple[Container, ...]) -> bool:
    started = {change["id"]: change["started_at"] for change in before}
    return started.keys() == {one.id for one in now} and all(started[one.id] != one.started_at for one in now)


_CHANGE = ServiceChange(verb="restart", arguments=_arguments, tried=_tried, anew=_anew)
ACTION = _CHANGE.action("compose.restart", "Restart the containers of a Compose service.", Params)
