"""What the Docker Compose actions go by: a service of a project, its containers as the engine shows them, the client.

Source: the Compose specification, and the Docker Engine API's `ContainerInspect` (1.41 and later).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from engine.actions._refused import RefusedError
from engine.response.blast_radius import Fleet

PROJECT_NAME = r"[a-z0-9][a-z0-9_-]*"
_SERVICE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_TARGET = re.compile(rf"({PROJECT_NAME})/({_SERVICE_NAME})")
_LABEL = "com.docker.compose."
READ_S = 30.0


class ComposeError(Exception):
    """The program or the engine said no; the message is in its own words."""


class ComposeApi(Protocol):
    """A client of one project: its files, on its engine.

    Every method raises `ComposeError` for what failed, `RefusedError` for an engine that may not be used, and
    `NoAnswerError` when nobody can tell whether it happened, also after `limit_s` seconds.
    """

    async def compose(self, *arguments: str, limit_s: float = READ_S) -> str:
        """What `docker compose ARGUMENTS` prints; what it says about its progress comes last."""
        ...

    async def inspect(self, kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Things of a kind (`container`, `image`) as the engine describes them."""
        ...


@dataclass(frozen=True)
class ServiceRef:
    """A service as a target names it: `PROJECT/SERVICE`, e.g. `aureus/bridge`."""

    project: str
    service: str

    @classmethod
    def parse(cls, text: str) -> ServiceRef | None:
        """The service, or None for a text that is not of this form: no name can pass for an option."""
        found = _TARGET.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    def __str__(self) -> str:
        return f"service {self.service} of project {self.project}"


class Container(Struct, frozen=True):
    """A container of a service. `health` is "" without a healthcheck; `started_at` is the engine's own clock."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    health: str
    started_at: str
    config_hash: str

    @classmethod
    def of(cls, inspected: Mapping[str, Any]) -> Container:
        """From what the engine says of it."""
        state, config = inspected["State"], inspected["Config"]
        return cls(
            id=inspected["Id"],
            name=inspected["Name"].removeprefix("/"),
            image=config["Image"],
            image_id=inspected["Image"],
            state=state["Status"],
            health=_health(state.get("Health")),
            started_at=state["StartedAt"],
            config_hash=config["Labels"].get(f"{_LABEL}config-hash", ""),
        )

    @property
    def healthy(self) -> bool:
        """It runs, and its healthcheck, if it has one, says that it is well."""
        return self.state == "running" and self.health in ("", "healthy")

    @property
    def words(self) -> str:
        """E.g. `shop-web-1 is running (healthy)`."""
        return f"{self.name} is {self.state}" + (f" ({self.health})" if self.health else "")


def _health(found: Mapping[str, Any] | None) -> str:
    status = str(found["Status"]) if found else ""
    return "" if status == "none" else status


@dataclass(frozen=True)
class Service:
    """A service: which others depend on it, by its project's files, and what containers it has, by the engine.

    `fleet` are the services of its project.
    """

    dependents: tuple[str, ...]
    containers: tuple[Container, ...]
    fleet: Fleet

    @property
    def ids(self) -> set[str]:
        """The ids of its containers."""
        return {one.id for one in self.containers}


async def look(api: ComposeApi, ref: ServiceRef) -> Service:
    """The service as it is now. Raises `RefusedError`: `unknown_service`, or `no_containers`."""
    services = msgspec.json.decode(await api.compose("config", "--format", "json"))["services"]
    if ref.service not in services:
        raise RefusedError("unknown_service", f"{ref}: its files have {', '.join(sorted(services))}")
    ids = (await api.compose("ps", "--all", "--quiet", "--no-trunc", ref.service)).split()
    inspected = await api.inspect("container", ids) if ids else []
    own = [one for one in inspected if one["Config"]["Labels"].get(f"{_LABEL}oneoff") != "True"]
    if not own:
        raise RefusedError("no_containers", f"{ref} has no containers: somebody took it down, or it was never up")
    dependents = sorted(name for name, one in services.items() if ref.service in (one.get("depends_on") or {}))
    containers = sorted((Container.of(one) for one in own), key=lambda one: one.name)
    return Service(tuple(dependents), tuple(containers), Fleet(f"services of project {ref.project}", len(services)))


def refuse_outage(ref: ServiceRef, found: Service, allow_outage: bool) -> None:
    """Raise `RefusedError` where all healthy containers would go at once, and other services count on them."""
    healthy = [one.name for one in found.containers if one.healthy]
    if healthy and found.dependents and not allow_outage:
        raise RefusedError(
            "last_healthy_replica",
            f"{ref}: all its containers go at once, {', '.join(healthy)} are healthy, and "
            f"{', '.join(found.dependents)} depend on it; `allow_outage: true` does it all the same",
        )
