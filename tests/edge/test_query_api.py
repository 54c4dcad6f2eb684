"""Answers in Prometheus's format, over loopback HTTP, from the windows of running rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.core.messages import RuleInput
from engine.core.step import Shard
from engine.edge.query_api import QueryApi
from tests.core.builders import batch, one_rule

Ask = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Ask]:
    shard, empty = Shard(one_rule("x > 50")), Shard(one_rule("y > 1"))
    points = [
        (f"x{{user={user}}}", t_ms, t_ms / 1000 * rate) for user, rate in (("a", 1), ("b", 3)) for t_ms in (0, 30_000)
    ]
    shard.step(RuleInput(0, batch("s", 1, 30_001, sorted(points, key=lambda point: point[1]))))
    app = web.Application()
    app.add_routes(QueryApi({0: shard, 1: empty}).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(client: Ask, method: str, **parameters: str) -> tuple[int, Any]:
    options = {"params": parameters} if method == "GET" else {"data": parameters}
    async with client.request(method, "/api/v1/query", **options) as response:  # type: ignore[arg-type]  # one of the two
        return response.status, await response.json()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_vector_at_the_newest_complete_time(client: Ask, method: str) -> None:
    status, answer = await ask(client, method, query="x")
    assert (status, answer["status"], answer["data"]["resultType"]) == (200, "success", "vector")
    assert answer["data"]["result"] == [
        {"metric": {"__name__": "x", "user": "a"}, "value": [30.0, "30"]},
        {"metric": {"__name__": "x", "user": "b"}, "value": [30.0, "90"]},
    ]


async def test_a_scalar(client: Ask) -> None:
    assert (await ask(client, "GET", query="1 + 1"))[1]["data"] == {"resultType": "scalar", "result": [30.0, "2"]}


async def test_nothing_found_is_an_empty_vector(client: Ask) -> None:
    status, answer = await ask(client, "GET", query="x > 1000")
    assert (status, answer["data"]["result"]) == (200, [])


@pytest.mark.parametrize(
    ("parameters", "status", "kind", "says"),
    [
        ({}, 400, "bad_data", "parameter query is missing"),
        ({"query": ""}, 400, "bad_data", "parameter query is missing"),
        ({"query": "x", "time": "5"}, 400, "bad_data", "time is not supported"),
        ({"query": "sum("}, 400, "bad_data", "1:"),
        ({"query": "z"}, 422, "execution", "no rule keeps"),
        ({"query": "rate(x[2m])"}, 200, "", ""),  # an instant selector is kept for five minutes, so there is enough
        ({"query": "rate(x[1h])"}, 422, "execution", "looks back"),
        ({"query": "y"}, 422, "execution", "no rule keeps"),  # a rule reads it, but nothing has come yet
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    client: Ask, parameters: dict[str, str], status: int, kind: str, says: str
) -> None:
    code, answer = await ask(client, "GET", **parameters)
    assert (code, answer.get("errorType", "")) == (status, kind)
    assert says in answer.get("error", "")
