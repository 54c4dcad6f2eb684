"""`compose.recreate`: replace the containers of one Compose service by new ones, as many as there are.

What its files say now is what the new ones are made of. Where that, or the image, is not what the present containers
were made of, replacing them would be a deployment: it is refused unless `allow_changes` says that it is meant. No
image is pulled or built, and volumes are kept.
"""

from __future__ import annotations

import re
from typing import Any

from engine.actions._compose import ComposeApi, ComposeError, Container, Service, ServiceRef
from engine.actions._compose_change import ServiceChange, ServiceParams
from engine.actions._refused import RefusedError

_TOUCHED = re.compile(r"^\s*DRY-RUN MODE -\s+(\S+)\s+(\S+)\s+(\S.*?)\s*$", re.MULTILINE)
_RENAMED = re.compile(r"^[0-9a-f]{12}_")  # a container that is being replaced


class Params(ServiceParams, frozen=True, forbid_unknown_fields=True):
    """All has to be well within `within_s`. `allow_outage`: even if other services lose what they depend on.

    `allow_changes`: even if the files or the image have changed since the containers were made.
    """

    allow_changes: bool = False


def _arguments(ref: ServiceRef, found: Service) -> list[str]:
    keep = ["--no-deps", "--no-build", "--pull=never", f"--scale={ref.service}={len(found.containers)}"]
    return ["up", "--detach", "--force-recreate", *keep, ref.service]


async def _tried(api: ComposeApi, ref: ServiceRef, found: Service, params: Params) -> list[str]:
    differing = await _differing(api, ref, found)
    if differing and not params.allow_changes:
        raise RefusedError(
            "would_change",
            f"{ref}: {' and '.join(differing)} not what {found.containers[0].name} was made of; "
            "`allow_changes: true` brings the change along",
        )
    said = await api.compose("--dry-run", *_arguments(ref, found))
    touched = [(kind, _RENAMED.sub("", name), what) for kind, name, what in _TOUCHED.findall(said)]
    own = {one.name for one in found.containers}
    others = sorted({f"{kind} {name}" for kind, name, _ in touched if kind != "Container" or name not in own})
    if others:
        raise RefusedError("touches_others", f"recreating {ref} would also touch {', '.join(others)}")
    return [f"{name}: {what}" for _, name, what in touched]


async def _differing(api: ComposeApi, ref: ServiceRef, found: Service) -> list[str]:
    """What the new containers would be made of that the present ones were not, in words."""
    hashes = dict(line.split() for line in (await api.compose("config", "--hash", ref.service)).splitlines())
    try:
        images = {one["Id"] for one in await api.inspect("image", sorted({one.image for one in found.containers}))}
    except ComposeError as error:
        raise RefusedError("no_image", f"{ref} cannot be made anew: {error}") from error
    files = any(one.config_hash != hashes.get(ref.service) for one in found.containers)
    image = any(one.image_id not in images for one in found.containers)
    return [*(["its configuration is"] if files else []), *(["the image of that name is"] if image else [])]


def _anew(before: list[dict[str, Any]], now: tuple[Container, ...]) -> bool:
    return len(now) == len(before) and {change["id"] for change in before}.isdisjoint(one.id for one in now)


_CHANGE = ServiceChange(verb="recreate", arguments=_arguments, tried=_tried, anew=_anew)
ACTION = _CHANGE.action("compose.recreate", "Replace the containers of a Compose service by new ones.", Params)
