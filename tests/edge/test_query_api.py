"""Answers in Prometheus's format, over loopback HTTP, from the windows of running rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine import promql
from engine.core.messages import RuleInput, encode
from engine.core.router import Router
from engine.core.rules import RuleGroup
from engine.core.step import Shard
from engine.edge.node import running
from engine.edge.query_api import QueryApi
from engine.flow import RULE_INPUTS
from engine.loading import load_texts
from tests.core.builders import batch, one_rule
from tests.e2e.shop import ready
from tests.edge.conftest import Site
from tests.waiting import until

Ask = TestClient[web.Request, web.Application]
NOW_MS = 3_600_000


@pytest.fixture
async def client() -> AsyncIterator[Ask]:
    """`x` of two users at 0 and at 30.5 s, complete up to there; and a shard to which nothing has come."""
    shard, empty = Shard(one_rule("max_over_time(x[1h]) > 50")), Shard(one_rule("y > 1"))
    points = [
        (f"x{{user={user}}}", t_ms, t_ms / 1000 * rate) for user, rate in (("a", 1), ("b", 4)) for t_ms in (0, 30_500)
    ]
    shard.step(RuleInput(0, batch("s", 1, 30_501, sorted(points, key=lambda point: point[1]))))
    app = web.Application()
    app.add_routes(QueryApi({0: shard, 1: empty}, lambda: NOW_MS).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


Pairs = Sequence[tuple[str, str]]


async def ask(client: Ask, path: str, parameters: Pairs = (), method: str = "GET") -> tuple[int, Any]:
    options: dict[str, Any] = {"params" if method == "GET" else "data": list(parameters)}
    async with client.request(method, f"/api/v1/{path}", **options) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_vector_at_the_newest_complete_time(client: Ask, method: str) -> None:
    status, answer = await ask(client, "query", [("query", "x")], method)
    assert status == 200
    assert answer == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"__name__": "x", "user": "a"}, "value": [30.5, "30.5"]},
                {"metric": {"__name__": "x", "user": "b"}, "value": [30.5, "122"]},
            ],
        },
    }


@pytest.mark.parametrize(
    ("query", "at", "kind", "result"),
    [
        ("1 + 1", "", "scalar", [3600, "2"]),
        ("1 + 1", "5.25", "scalar", [5.25, "2"]),
        ("1e21", "0", "scalar", [0, "1e+21"]),
        ("-Inf", "0", "scalar", [0, "-Inf"]),
        ('"a\\"b"', "1970-01-01T00:00:02.5Z", "string", [2.5, 'a"b']),
        ("x > 1000", "", "vector", []),
        ("x{user='a'}", "10", "vector", [{"metric": {"__name__": "x", "user": "a"}, "value": [10, "0"]}]),
        (
            "x{user='a'}[1m]",
            "2026-01-01T01:00:00+01:00",  # later than what is complete
            "matrix",
            [{"metric": {"__name__": "x", "user": "a"}, "values": [[0, "0"], [30.5, "30.5"]]}],
        ),
    ],
)
async def test_an_instant_query_of_every_type(client: Ask, query: str, at: str, kind: str, result: Any) -> None:
    status, answer = await ask(client, "query", [("query", query), ("time", at), ("timeout", "30s")])
    assert (status, answer["data"]) == (200, {"resultType": kind, "result": result})


async def test_times_are_printed_as_prometheus_prints_them(client: Ask) -> None:
    async with client.get("/api/v1/query", params={"query": "x{user='a'}"}) as response:
        assert '"value":[30.500,"30.5"]' in await response.text()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_range_query_gives_the_steps_that_are_complete(client: Ask, method: str) -> None:
    parameters = [("query", "sum(x)"), ("start", "10"), ("end", "100"), ("step", "10")]
    status, answer = await ask(client, "query_range", parameters, method)
    assert (status, answer["data"]["resultType"]) == (200, "matrix")
    assert answer["data"]["result"] == [{"metric": {}, "values": [[10, "0"], [20, "0"], [30, "0"]]}]


async def test_notes_of_the_evaluation_are_warnings_and_infos(client: Ask) -> None:
    _, answer = await ask(client, "query", [("query", "quantile(2, rate(x[1m]))")])
    assert answer["warnings"] == ["PromQL warning: quantile value should be between 0 and 1, got 2"]
    assert answer["infos"][0].startswith("PromQL info: metric might not be a counter")


async def test_steps_that_are_not_held_are_left_out_with_a_warning(client: Ask) -> None:
    parameters = [("query", "x"), ("start", "-3600"), ("end", "-3300"), ("step", "100")]
    status, answer = await ask(client, "query_range", parameters)
    assert (status, answer["data"]["result"]) == (200, [])
    [warning] = answer["warnings"]
    assert warning.startswith("PromQL warning: the oldest steps are left out")


async def test_a_query_that_takes_too_long_is_given_up_and_the_next_one_answered(client: Ask) -> None:
    long = [("query", "max_over_time(x[5s:10ms])"), ("start", "0"), ("end", "30"), ("step", "0.01")]
    status, answer = await ask(client, "query_range", [*long, ("timeout", "20ms")])
    assert (status, answer["errorType"]) == (503, "timeout")
    assert (await ask(client, "query", [("query", "1")]))[0] == 200


async def test_a_long_query_leaves_half_of_the_time_to_others(client: Ask) -> None:
    long = [("query", "max_over_time(x[5s:10ms])"), ("start", "0"), ("end", "30"), ("step", "3")]
    asked = asyncio.create_task(ask(client, "query_range", long))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1
    assert asked.result()[0] == 200
    assert turns > 1_000  # between two steps there is room for many


RANGE = [("start", "0"), ("end", "60"), ("step", "1m")]


@pytest.mark.parametrize(
    ("path", "parameters", "status", "kind", "says"),
    [
        ("query", [], 400, "bad_data", 'invalid parameter "query": it is missing'),
        ("query", [("query", "")], 400, "bad_data", 'invalid parameter "query"'),
        ("query", [("query", "sum(")], 400, "bad_data", 'invalid parameter "query": 1:'),
        ("query", [("query", "x"), ("time", "noon")], 400, "bad_data", 'cannot parse "noon" to a valid timestamp'),
        ("query", [("query", "x"), ("time", "nan")], 400, "bad_data", "valid timestamp"),
        ("query", [("query", "x"), ("time", "2026-01-01")], 400, "bad_data", "valid timestamp"),
        ("query", [("query", "x"), ("timeout", "soon")], 400, "bad_data", 'cannot parse "soon" to a valid duration'),
        ("query", [("query", "x"), ("limit", "-1")], 400, "bad_data", 'invalid parameter "limit"'),
        ("query", [("query", "x"), ("lookback_delta", "1m")], 400, "bad_data", "always 5m"),
        ("query", [("query", "z")], 422, "execution", "no window holds z; add z[5m] to the setting rules.keep"),
        ("query", [("query", "rate(x[2h])")], 422, "execution", "x is kept for 1h and this query looks back 2h"),
        ("query", [("query", "y")], 422, "execution", "no window holds y"),  # a rule reads it, but nothing has come
        ("query", [("query", "x + on () group_left x")], 422, "execution", "many-to-many"),
        ("query_range", [("query", "x")], 400, "bad_data", 'invalid parameter "start"'),
        ("query_range", [*RANGE, ("query", "x[1m]")], 400, "bad_data", "instant vector or a scalar"),
        ("query_range", [("start", "5"), ("end", "4"), ("step", "1")], 400, "bad_data", "before start"),
        ("query_range", [("start", "0"), ("end", "4"), ("step", "0")], 400, "bad_data", 'invalid parameter "step"'),
        ("query_range", [("start", "0"), ("end", "11001"), ("step", "1")], 400, "bad_data", "11,000 points"),
        ("series", [], 400, "bad_data", "no match[] parameter"),
        ("series", [("match[]", "sum(x)")], 400, "bad_data", "not a series selector"),
        ("series", [("match[]", "x offset 1m")], 400, "bad_data", "not a series selector"),
        ("labels", [("match[]", "{}")], 400, "bad_data", 'invalid parameter "match[]": 1:1: parse error'),
        ("labels", [("start", "2"), ("end", "1")], 400, "bad_data", "before start"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    client: Ask, path: str, parameters: Pairs, status: int, kind: str, says: str
) -> None:
    code, answer = await ask(client, path, parameters)
    assert (code, answer["status"], answer["errorType"]) == (status, "error", kind)
    assert says in answer["error"]


@pytest.mark.parametrize(
    ("path", "parameters", "data"),
    [
        ("series", [("match[]", 'x{user="b"}')], [{"__name__": "x", "user": "b"}]),
        ("series", [("match[]", "x"), ("end", "-1")], []),
        ("labels", [], ["__name__", "user"]),
        ("labels", [("match[]", "nothing")], []),
        ("label/user/values", [], ["a", "b"]),
        ("label/user/values", [("match[]", 'x{user=~"b|c"}')], ["b"]),
        ("label/__name__/values", [("start", "0"), ("end", "1")], ["x"]),
        ("label/other/values", [], []),
        ("metadata", [], {}),
    ],
)
async def test_what_is_there(client: Ask, path: str, parameters: Pairs, data: Any) -> None:
    assert await ask(client, path, parameters) == (200, {"status": "success", "data": data})


@pytest.mark.parametrize(
    "path", ["query?query=x", "query_range?query=x&start=0&end=1&step=1", "series?match[]=x", "label/user/values"]
)
async def test_a_limit_cuts_and_says_so(client: Ask, path: str) -> None:
    async with client.get(f"/api/v1/{path}{'&' if '?' in path else '?'}limit=1") as response:
        answer = await response.json()
    data = answer["data"]
    assert len(data["result"] if isinstance(data, dict) else data) == 1
    assert answer["warnings"] == ["results truncated due to limit"]


async def test_grafana_is_told_which_api_it_may_use(client: Ask) -> None:
    _, answer = await ask(client, "status/buildinfo")
    assert answer["data"]["version"] == "3.0.0"
    assert "aureus-sentinel" in answer["data"]["revision"]


RULES = """
groups:
  - name: shop
    interval: 1s
    rules:
      - {record: "double:x", expr: 2 * x}
      - {alert: High, expr: "double:x > 5"}
"""


async def test_an_evaluator_answers_from_what_came_on_its_topic_and_from_what_it_recorded(site: Site) -> None:
    loaded = load_texts({"promql/shop.yml": RULES})
    kept = tuple(promql.compile(text, any_type=True) for text in ("ALERTS[10m]", "x[10m]"))
    loaded.groups.append(RuleGroup("keep", "keep", 1000, 0, (), kept=kept))
    router = Router(loaded.groups, site.settings.rules.shards)
    async with running(site.settings, ["evaluator"], loaded) as node, httpx.AsyncClient(base_url=node.http_url) as http:
        await ready(node)
        for second in range(1, 6):
            points = [(f"x{{user={user}}}", second * 1000, height) for user, height in (("a", 1.0), ("b", 4.0))]
            for message in router.route(batch("s", second, second * 1000 + 1, points)):
                await site.put(RULE_INPUTS, encode(message), key=str(message.shard).encode())

        async def answer(path: str, **parameters: str) -> Any:
            data = (await http.get(f"/api/v1/{path}", params=parameters)).json().get("data")
            return data["result"] if data and "result" in data else data

        async def recorded() -> Any:
            found = await answer("query", query='double:x{user="b"}')
            return found and found[0]["value"] == [5, "8"]

        await until(recorded)
        [firing] = await answer("query", query="sum by (user) (ALERTS{alertstate='firing'})")
        assert firing == {"metric": {"user": "b"}, "value": [5, "1"]}
        [steps] = await answer("query_range", query='x{user="a"}', start="3", end="60", step="1")
        assert steps["values"] == [[3, "1"], [4, "1"], [5, "1"]]
        [alert] = (await answer("alerts"))["alerts"]
        assert (alert["labels"], alert["state"]) == ({"alertname": "High", "user": "b"}, "firing")
        [group] = (await answer("rules"))["groups"]
        assert [rule["evaluationTime"] > 0 for rule in group["rules"]] == [True, True]
