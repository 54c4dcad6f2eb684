"""The rules at work and their alerts, in Prometheus's format, over loopback HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.core.messages import RuleInput
from engine.core.step import Shard
from engine.edge.rules_api import RulesApi
from tests.core.builders import batch, groups

RULES = """
groups:
  - name: first
    interval: 10s
    rules:
      - {record: "double:x", expr: 2 * x, labels: {kind: made}}
      - alert: High
        expr: x > 5
        for: 1m
        labels: {severity: "{{ if gt $value 7.0 }}page{{ else }}mail{{ end }}"}
        annotations: {summary: "x is {{ $value }}"}
      - {alert: Broken, expr: x + on () group_left x}
  - name: second
    limit: 3
    rules:
      - {alert: Calm, expr: x > 99, keep_firing_for: 5m}
"""

Ask = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Ask]:
    """Two users at 30.25 s: `a` has 6.5 (mail), `b` 12 (page); and a shard to which nothing has come."""
    shard, empty = Shard(groups(RULES, "a.yml")), Shard(groups(RULES.replace("first", "third"), "b.yml"))
    points = [("x{user=a}", 30_250, 6.5), ("x{user=b}", 30_250, 12.0)]
    shard.step(RuleInput(0, batch("s", 1, 30_251, points)))
    shard.step(RuleInput(0, batch("s", 2, 40_001)))
    keys = {rule.name: rule.key for group in shard.groups for rule in group.rules.rules}
    app = web.Application()
    app.add_routes(RulesApi({1: empty, 0: shard}, {keys["High"]: 0.25, keys["double:x"]: 0.5}).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


async def groups_of(client: Ask, query: str = "") -> list[dict[str, Any]]:
    async with client.get(f"/api/v1/rules{query}") as response:
        answer = await response.json()
    assert (response.status, answer["status"]) == (200, "success")
    found: list[dict[str, Any]] = answer["data"]["groups"]
    return found


ALERT_A = {
    "labels": {"alertname": "High", "severity": "mail", "user": "a"},
    "annotations": {"summary": "x is 6.5"},
    "state": "pending",
    "activeAt": "1970-01-01T00:00:30.25Z",
    "value": "6.5e+00",
}


async def test_a_group_with_its_rules_and_alerts(client: Ask) -> None:
    first = (await groups_of(client))[0]
    rules = first.pop("rules")
    assert first == {
        "name": "first",
        "file": "a.yml",
        "interval": 10,
        "limit": 0,
        "evaluationTime": 0.75,
        "lastEvaluation": "1970-01-01T00:00:40Z",
    }
    assert rules[0] == {
        "name": "double:x",
        "query": "2 * x",
        "labels": {"kind": "made"},
        "health": "ok",
        "evaluationTime": 0.5,
        "lastEvaluation": "1970-01-01T00:00:40Z",
        "type": "recording",
    }
    alerts = rules[1].pop("alerts")
    assert rules[1] == {
        "state": "pending",
        "name": "High",
        "query": "x > 5",
        "duration": 60,
        "keepFiringFor": 0,
        "labels": {"severity": "{{ if gt $value 7.0 }}page{{ else }}mail{{ end }}"},
        "annotations": {"summary": "x is {{ $value }}"},
        "health": "ok",
        "evaluationTime": 0.25,
        "lastEvaluation": "1970-01-01T00:00:40Z",
        "type": "alerting",
    }
    assert alerts[0] == ALERT_A
    assert (alerts[1]["labels"]["severity"], alerts[1]["value"]) == ("page", "1.2e+01")
    assert rules[2]["health"] == "err"
    assert "many-to-many" in rules[2]["lastError"]


async def test_a_group_that_was_never_evaluated_says_that_nothing_is_known(client: Ask) -> None:
    third = (await groups_of(client, "?rule_group[]=third"))[0]
    assert {rule["health"] for rule in third["rules"]} == {"unknown"}
    assert third["lastEvaluation"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "double:x High Broken Calm Calm double:x High Broken"),
        ("?type=record", "double:x double:x"),
        ("?type=alert&file[]=b.yml", "Calm High Broken"),
        ("?rule_name[]=High&rule_name[]=Calm&file[]=a.yml", "High Calm"),
        ("?rule_group[]=second&type=record", ""),
        ("?rule_group[]=none", ""),
    ],
)
async def test_filters_choose_rules_and_leave_out_empty_groups(client: Ask, query: str, names: str) -> None:
    assert [rule["name"] for group in await groups_of(client, query) for rule in group["rules"]] == names.split()


async def test_alerts_can_be_left_out(client: Ask) -> None:
    [group] = await groups_of(client, "?rule_name[]=High&file[]=a.yml&exclude_alerts=true")
    assert (group["rules"][0]["state"], group["rules"][0]["alerts"]) == ("pending", [])


async def test_an_unknown_type_is_refused(client: Ask) -> None:
    async with client.get("/api/v1/rules?type=log") as response:
        answer = await response.json()
    assert (response.status, answer["errorType"]) == (400, "bad_data")


async def test_all_active_alerts(client: Ask) -> None:
    async with client.get("/api/v1/alerts") as response:
        alerts = (await response.json())["data"]["alerts"]
    assert alerts[0] == ALERT_A
    assert [alert["labels"]["user"] for alert in alerts] == ["a", "b"]
