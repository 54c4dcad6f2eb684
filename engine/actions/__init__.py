"""What can be done to the world: one file per action, and this folder is the registry.

An action's file has a constant `ACTION` that declares its name, the kind of target it acts on, its parameters as a
`msgspec` struct, whether it is destructive, the permissions it needs, and three functions:

- `plan(env, target, params)`: what would be done, read from the real system, changing nothing;
- `run(env, target, params, plan)`: do it, once;
- `verify(env, target, params, plan)`: is what was planned so now? Asked after `run`, and when a crash left it open
  whether `run` happened; without a plan nothing was begun.

Where a change can be taken back, `undo(params, plan)` says by which action. `plan` and `run` raise `RefusedError` when
something forbids the change; nothing was done then.

Files here may not read settings or secrets: all they may use comes in the `Environment`. What several actions share
stands in modules whose names begin with `_`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg
import httpx
import msgspec
from msgspec import Struct

from engine.actions._aws import AwsAccess
from engine.actions._compose import ComposeApi, ServiceRef
from engine.actions._kms import KmsApi
from engine.actions._kubernetes import KubernetesApi, ObjectRef
from engine.actions._permissions import KubernetesRule, Permission, ServiceAccess
from engine.actions._refused import RefusedError
from engine.actions._sql import SqlGrant, SqlNote, SqlOwner, SqlPrivilege
from engine.core.masking import MASK, mask_text, passwords
from engine.core.messages import Target
from engine.core.registry import declared_in
from engine.response.blast_radius import Fleet

__all__ = [
    "Action",
    "AwsAccess",
    "Check",
    "Environment",
    "Fleet",
    "HttpHost",
    "KubernetesRule",
    "Permission",
    "Plan",
    "RefusedError",
    "Result",
    "ServiceAccess",
    "SqlGrant",
    "SqlNote",
    "SqlOwner",
    "SqlPrivilege",
    "Undo",
    "load_actions",
]

_NAME = r"[a-z]+(\.[a-z_]+)+"


@dataclass(frozen=True)
class HttpHost:
    """An HTTP service that may be called: its base URL and the bearer token to send ("" for none)."""

    base_url: str
    token: str = field(default="", repr=False)


async def _never_paused() -> bool:
    return False


@dataclass(frozen=True)
class Environment:
    """All that an action may use: allow-listed hosts and databases by name, and the clients to reach them.

    An action of several changes asks `paused` between them, and stops. `command` is the id of the command that is
    carried out: an action may leave it on what it changes, to know its own work again. `postgres_settings` are the
    server settings that may be changed.
    """

    hosts: Mapping[str, HttpHost]
    databases: Mapping[str, str] = field(repr=False)
    http: httpx.AsyncClient = field(repr=False)
    connect: Callable[[str], Awaitable[asyncpg.Connection]] = field(repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(repr=False)
    paused: Callable[[], Awaitable[bool]] = field(default=_never_paused, repr=False)
    kubernetes: KubernetesApi | None = field(default=None, repr=False)
    postgres_settings: frozenset[str] = frozenset()
    compose: Mapping[str, ComposeApi] = field(default_factory=dict, repr=False)
    kms: Mapping[str, KmsApi] = field(default_factory=dict, repr=False)
    command: str = ""

    def allows(self, target: Target) -> bool:
        """Whether the target is on the allow-list of its kind; the namespaces of a cluster the executor looks at."""
        if target.kind == "kubernetes":
            return self.kubernetes is not None and ObjectRef.parse(target.name) is not None
        if target.kind == "compose":
            ref = ServiceRef.parse(target.name)
            return ref is not None and ref.project in self.compose
        return target.name in {"http": self.hosts, "postgres": self.databases, "kms": self.kms}.get(target.kind, {})

    def redact(self, text: str) -> str:
        """The text without any token or password."""
        secrets = {host.token for host in self.hosts.values() if host.token}
        for url in (*self.databases.values(), *(host.base_url for host in self.hosts.values())):
            secrets |= passwords(url)
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return mask_text(text)


class Plan(Struct, frozen=True, omit_defaults=True):
    """What would be done: a sentence, and each change as data. No changes means there is nothing to do.

    `fleet` is what the target is one of, where such targets are alike: only a share of it is acted on alone.
    """

    summary: str
    changes: list[dict[str, Any]]
    fleet: Fleet | None = None


class Result(Struct, frozen=True):
    """What `run` did. "unknown": it may or may not have happened, e.g. no answer came to a request that was sent."""

    status: Literal["done", "failed", "unknown"]
    reason: str
    detail: dict[str, Any]


class Check(Struct, frozen=True):
    """Whether the target is in the wished state. `declared` is False when nobody said how to tell."""

    state: Literal["yes", "no", "unknown"]
    why: str
    declared: bool = True


class Undo(Struct, frozen=True):
    """The action, on the same target, that takes a change back. It is a command like any other."""

    action: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Action:
    """One action; see the module. `object_kinds`: its targets are `NAMESPACE/KIND/NAME`, of one of these kinds.

    `permissions` are enough for any parameters. `permissions_for` says, from the parameters that a runbook writes out,
    what is enough for these; None where they do not tell.
    """

    name: str
    summary: str
    target_kind: str
    params: type[Struct]
    destructive: bool
    permissions: tuple[Permission, ...]
    plan: Callable[[Environment, Target, Any], Awaitable[Plan]]
    run: Callable[[Environment, Target, Any, Plan], Awaitable[Result]]
    verify: Callable[[Environment, Target, Any, Plan | None], Awaitable[Check]]
    undo: Callable[[Any, Plan], Undo | None] | None = None
    object_kinds: tuple[str, ...] = ()
    permissions_for: Callable[[Mapping[str, Any]], tuple[Permission, ...] | None] | None = None

    def decode_params(self, params: Mapping[str, object]) -> Struct:
        """The parameters, checked. Raises `msgspec.ValidationError`: what is wrong, and where."""
        return msgspec.convert(dict(params), self.params)

    def needed(self, literal: Mapping[str, Any]) -> tuple[Permission, ...]:
        """The permissions for these parameters; those that are known only at run time are left out of them."""
        exact = self.permissions_for(literal) if self.permissions_for is not None else None
        return self.permissions if exact is None else exact

    def params_schema(self) -> dict[str, Any]:
        """The JSON Schema of the parameters."""
        return msgspec.json.schema(self.params)


def load_actions() -> dict[str, Action]:
    """Every action of this folder by name. Raises `TypeError` for a file that declares none or a bad one."""
    return declared_in(__name__, __path__, "ACTION", Action, (_NAME, "the form kind.verb"))
