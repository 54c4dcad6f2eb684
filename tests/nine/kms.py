"""A key service (moto's server) that knows its users and lets each do only what its policy allows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx

from tests.nine.signatures import ALIAS
from tests.parts import Program, answers, free_ports

REGION = "eu-central-1"
_ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["*"], "Resource": "*"}]}
_NOBODY = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody"}


@dataclass
class Kms:
    """Where it is, an administrator's client, and the key of the bridge when everything began."""

    url: str
    admin: Any
    first_key: str
    users: dict[str, dict[str, str]] = field(default_factory=dict)

    def user(self, name: str, policy: dict[str, Any]) -> dict[str, str]:
        """A new user with a policy; the environment of a process that acts as it.

        The server knows actions alone: resources and conditions of a policy would match nothing there.
        """
        allowed = [action for one in policy["Statement"] for action in one["Action"]]
        policy = {**policy, "Statement": [{"Effect": "Allow", "Action": sorted(set(allowed)), "Resource": "*"}]}
        iam = _client("iam", self.url, self.users.get("admin", _NOBODY))
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        self.users[name] = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
        return self.users[name]

    def client_of(self, name: str) -> Any:
        """A client that acts as a user."""
        return _client("kms", self.url, self.users[name])

    def key_of_alias(self) -> str:
        """The id of the key that the alias points to."""
        return str(self.admin.describe_key(KeyId=ALIAS)["KeyMetadata"]["KeyId"])

    def state_of(self, key: str) -> str:
        """`Enabled`, `Disabled`, ..."""
        return str(self.admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"])


def _client(service: str, url: str, user: dict[str, str]) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=user["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=user["AWS_SECRET_ACCESS_KEY"],
    )


@contextmanager
def running_kms(folder: Path) -> Iterator[Kms]:
    """A server with the bridge's signing key under its alias; whoever is no user of it is refused."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    server = Program([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], folder / "kms.log")
    try:
        server.wait_until(lambda: answers(f"{url}/moto-api/"), "moto's server")
        kms = Kms(url, None, "")
        kms.admin = _client("kms", url, kms.user("admin", _ANYTHING))
        kms.first_key = kms.admin.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        kms.admin.create_alias(AliasName=ALIAS, TargetKeyId=kms.first_key)
        httpx.post(f"{url}/moto-api/reset-auth", content=b"0").raise_for_status()  # from here on it asks who calls
        yield kms
    finally:
        server.kill()
