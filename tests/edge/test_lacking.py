"""What the executor says at its start of permissions that its accounts lack, asked of real systems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.actions import RefusedError, load_actions
from engine.actions._needs import Need
from engine.edge.lacking import lacking_in_kms, say_what_is_lacking
from tests.kms.conftest import Kms
from tests.kms_server import CREDENTIALS, running_kms

ACTIONS = load_actions()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with running_kms() as url:
        yield Kms(url)


class Forbidding:
    """The client of credentials that may not do one thing."""

    def __init__(self, kms: Kms, operation: str) -> None:
        self.alias = kms.alias
        self._client, self._operation = kms.client, operation

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == self._operation:
            raise RefusedError("forbidden", f"the executor's credentials lack the permission: kms:{operation}")
        return await self._client.call(operation, **parameters)


@pytest.mark.parametrize("operation", ["DescribeKey", "GetKeyPolicy", "ListResourceTags", "ListKeys"])
async def test_an_operation_of_kms_that_only_reads_is_tried_and_nothing_is_changed(kms: Kms, operation: str) -> None:
    key = kms.key()
    keys, needed = kms.keys(), ACTIONS["kms.rotate_signing_key"].permissions
    assert await lacking_in_kms(kms.client, needed) == []
    said = [f"the executor's credentials lack the permission: kms:{operation}"]
    assert await lacking_in_kms(Forbidding(kms, operation), needed) == said
    assert (kms.keys(), kms.at()["KeyId"], kms.tags(key)) == (keys, key, {})


async def test_each_grant_that_a_database_lacks_is_a_warning_and_one_that_is_away_holds_up_nothing(
    kms: Kms, postgres_url: str
) -> None:
    kms.key()
    url = postgres_url.replace("postgres@", "nobody@")
    env = replace(kms.env, databases={"away": "postgresql://u:pa55@127.0.0.1:9/x", "main": url})
    env = replace(env, kms={"bridge": Forbidding(kms, "ListKeys")})
    needs = [
        Need(
            "One",
            "end",
            "postgres.terminate_idle",
            "{{ labels.database }}",
            ACTIONS["postgres.terminate_idle"].permissions,
        ),
        Need("One", "rotate", "kms.rotate_signing_key", "bridge", ACTIONS["kms.rotate_signing_key"].permissions),
    ]
    admin = await env.connect(postgres_url)
    await admin.execute("create role nobody login")
    try:
        with capture_logs() as logs:
            await say_what_is_lacking(env, needs, [])
    finally:
        await admin.execute("drop role nobody")
        await admin.close()
    assert [(one["event"], one["where"]) for one in logs] == [
        ("executor.permissions_unknown", "database away"),
        ("executor.permission_missing", "database main"),
        ("executor.permission_missing", "database main"),
        ("executor.permission_missing", "kms bridge"),
    ]
    assert "pa55" not in str(logs)
    granted = [one["permission"] for one in logs[1:3]]
    assert granted == ['GRANT pg_signal_backend TO "nobody";', 'GRANT pg_read_all_stats TO "nobody";']
