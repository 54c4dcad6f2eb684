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

from engine.actions import Environment
from engine.actions._kms import KmsApi
from engine.edge.kms import KmsClient
from tests.actions.work import Work
from tests.kms_server import CREDENTIALS, REGION, running_kms

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
        return Work(replace(self.env, command=command), "kms.rotate_signing_key", "bridge")

    def disable(self, key: str, **params: Any) -> Work:
        return Work(self.env, "kms.disable_key", "bridge", key_id=key, **params)


async def _no_wait(duration_s: float) -> None:
    """Tests do not wait."""


@pytest.fixture
def kms(kms_url: str, monkeypatch: pytest.MonkeyPatch) -> Kms:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return Kms(kms_url)
