"""The role `notifier` as a process hosts it: alone, on a real database, with its listener."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing

from engine.edge import deliveries
from engine.edge.clock import now_ms
from engine.edge.database import Database
from engine.edge.node import Node, running
from engine.edge.notifier import NOBODY
from engine.edge.run import CANNOT_START, run
from engine.edge.settings import Settings
from engine.loading import Loaded
from tests.notifiers.site import RUNBOOKS, Site
from tests.notifiers.stubs import pagerduty_webhook
from tests.waiting import until


def settings_of(site: Site, tmp_path: Path, **changes: Any) -> Settings:
    settings = Settings.model_validate(
        {
            "state_dir": str(tmp_path),
            "http": {"listen": "127.0.0.1:0"},
            "database": {"url": "postgresql://stands-here/below"},
        }
    )
    database = settings.database.model_copy(update={"url": site.database.url})
    return settings.model_copy(update={"database": database, "notify": site.settings, **changes})


async def get(node: Node, path: str) -> tuple[int, Any]:
    async with httpx.AsyncClient() as client:
        response = await client.get(node.http_url + path)
    return response.status_code, response.json()


async def acknowledged(database: Database) -> list[str]:
    async with database.connection() as conn:
        return [row["by_name"] for row in await conn.fetch("select by_name from operator_events")]


async def test_it_tells_people_takes_their_answers_and_says_whom_it_cannot_reach(site: Site, tmp_path: Path) -> None:
    site.now_ms = now_ms()
    site.services.slack.go_away(10_000)
    await site.alert("firing")
    async with running(settings_of(site, tmp_path), ["notifier"], Loaded()) as node:
        await until(lambda: site.services.pagerduty.actions() == ["trigger"])
        body, headers = pagerduty_webhook("incident.acknowledged", site.services.pagerduty.events[0]["dedup_key"])

        async def known() -> bool:  # its receipt may be written a moment after the event
            async with httpx.AsyncClient() as client:
                answer = await client.post(f"{node.http_url}/hooks/pagerduty", content=body, headers=headers)
            assert answer.status_code == 200
            return await acknowledged(site.database) != []

        await until(known)
        assert await acknowledged(site.database) == ["pagerduty:PXPGF42 (Ada Lovelace)"]
        status, answer = await get(node, "/ready")
        assert status == 200
        assert answer["checks"]["notifier"]["ok"]
        assert answer["checks"]["notifier"]["reason"].startswith("warning; ops: 1 undelivered (chat.postMessage: ")


async def test_without_receivers_it_says_once_that_nobody_is_told_and_leaves_the_notices(
    site: Site, tmp_path: Path
) -> None:
    await site.alert("firing")
    settings = settings_of(site, tmp_path).model_copy(update={"notify": Settings().notify})
    with structlog.testing.capture_logs() as logs:
        async with running(settings, ["notifier"], Loaded()) as node:
            status, answer = await get(node, "/ready")
    assert (status, answer["checks"]["notifier"]) == (200, {"ok": True, "reason": NOBODY})
    assert [line["reason"] for line in logs if line["event"] == "notify.nobody"] == [NOBODY]
    [row] = await site.rows("select count(*) as n from notices where routed_ms is null")
    assert row["n"] == 3


def test_a_runbook_that_names_a_stranger_keeps_it_from_starting(tmp_path: Path) -> None:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "book.yml").write_text(RUNBOOKS)
    tree = {
        "rules": {"paths": [str(tmp_path)]},
        "notify": {"receivers": {"ops": {"pagerduty": {"routing_key": "x"}}}},
    }
    with structlog.testing.capture_logs() as logs:
        assert run(Settings.model_validate(tree), ["notifier"]) == CANNOT_START
    problems = [line["problem"] for line in logs if line["event"] == "rules.problem"]
    assert len(problems) == 4
    assert f"{tmp_path}/runbooks/book.yml:7:23: error: nobody is called 'on-call'" in problems[0]


@pytest.mark.parametrize("state", ["waiting", "given_up"])
def test_a_trouble_reads_as_a_sentence(state: str) -> None:
    one = deliveries.Trouble("ops", int(state == "waiting"), int(state == "given_up"), 0, "HTTP 503")
    assert str(one) == f"ops: 1 {'undelivered' if state == 'waiting' else 'given up'} (HTTP 503)"
