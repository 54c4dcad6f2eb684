"""One KMS for all tests of this folder, and an alias of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import asyncpg
import boto3
import httpx
import pytest

from engine.actions import Action, Check, Environment, Plan, Result, load_actions
from engine.actions._kms import KmsApi
from engine.core.messages import Target
from engine.edge.kms import KmsClient
from tests.kms_server import CREDENTIALS, REGION, running_kms

ACTIONS = load_actions()
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kms_url() -> Iterator[str]:
    with running_kms() as url:
        yield url


class Kms:
    """An alias, an administrator's client to set scenes with, and what the executor may use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin = boto3.client("kms", region_name=REGION, endpoint_url=url)
        self.alias = f"alias/bridge-{next(_numbers)}"
        self.client = KmsClient(self.alias, REGION, url)
        self.env = Environment({}, {}, httpx.AsyncClient(), asyncpg.connect, _no_wait, command="command-1")
        self.use(self.client)

    def use(self, client: KmsApi) -> None:
        self.env = replace(self.env, kms={"bridge": client})

    def key(self, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY", **more: Any) -> str:
        """A new key that the alias points to; its id."""
        made: str = self.admin.create_key(KeySpec=spec, KeyUsage=usage, **more)["KeyMetadata"]["KeyId"]
        self.admin.create_alias(AliasName=self.alias, TargetKeyId=made)
        return made

    def at(self, key: str | None = None) -> dict[str, Any]:
        """What KMS says of a key, without one of the key behind the alias."""
        found: dict[str, Any] = self.admin.describe_key(KeyId=key or self.alias)["KeyMetadata"]
        return found

    def tags(self, key: str) -> dict[str, str]:
        return {tag["TagKey"]: tag["TagValue"] for tag in self.admin.list_resource_tags(KeyId=key)["Tags"]}

    def keys(self) -> set[str]:
        return {one["KeyId"] for page in self.admin.get_paginator("list_keys").paginate() for one in page["Keys"]}

    def rotate(self, command: str = "command-1") -> Work:
        return Work(replace(self.env, command=command), "kms.rotate_signing_key")

    def disable(self, key: str, **params: Any) -> Work:
        return Work(self.env, "kms.disable_key", key_id=key, **params)


class Work:
    """One action on one alias, as the executor goes about it."""

    def __init__(self, env: Environment, action: str, /, **params: Any) -> None:
        self.env = env
        self.action: Action = ACTIONS[action]
        self.target = Target("kms", "bridge")
        self.params = self.action.decode_params(params)

    async def plan(self) -> Plan:
        return await self.action.plan(self.env, self.target, self.params)

    async def run(self, plan: Plan) -> Result:
        return await self.action.run(self.env, self.target, self.params, plan)

    async def verify(self, plan: Plan | None) -> Check:
        return await self.action.verify(self.env, self.target, self.params, plan)

    async def through(self) -> tuple[Plan, Result, Check]:
        """Plan, run, verify."""
        plan = await self.plan()
        return plan, await self.run(plan), await self.verify(plan)


async def _no_wait(duration_s: float) -> None:
    """Tests do not wait."""


@pytest.fixture
def kms(kms_url: str, monkeypatch: pytest.MonkeyPatch) -> Kms:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return Kms(kms_url)
