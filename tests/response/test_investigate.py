"""Questions to a real PostgreSQL and a real HTTP server: an answer, or the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from engine.actions import HttpHost
from engine.edge.investigate import Investigator
from engine.response.model import Evidence, HttpGet, Investigate, PostgresQuery, PromqlQuery

Ask = Callable[..., "asyncio.Future[Evidence]"]


class Service:
    """Speaks a little of Prometheus's API, and answers what it was asked."""

    def __init__(self) -> None:
        self.answer: object = {}
        self.seen: list[str] = []

    async def query(self, request: web.Request) -> web.Response:
        self.seen.append(request.query["query"])
        return web.json_response(self.answer)

    async def echo(self, request: web.Request) -> web.Response:
        return web.json_response({"token": request.headers.get("Authorization")}, status=418)

    async def moved(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/echo"}, text="elsewhere")

    async def huge(self, request: web.Request) -> web.Response:
        return web.Response(text="x" * 300_000)

    async def deep(self, request: web.Request) -> web.Response:
        return web.Response(text="[" * 100_000 + "]" * 100_000)

    async def nul(self, request: web.Request) -> web.Response:
        return web.json_response({"a\x00": ["b\x00", {"c": "\x00"}]})

    async def slow(self, request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError


@pytest_asyncio.fixture
async def service() -> AsyncIterator[tuple[Service, str]]:
    service = Service()
    app = web.Application()
    app.router.add_get("/api/v1/query", service.query)
    for path in ("echo", "moved", "huge", "slow", "deep", "nul"):
        app.router.add_get(f"/{path}", getattr(service, path))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield service, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture
async def ask(service: tuple[Service, str], postgres_url: str) -> AsyncIterator[Ask]:
    async with httpx.AsyncClient() as client:
        investigator = Investigator(
            client,
            databases={"main": postgres_url, "away": "postgresql://someone:secret@127.0.0.1:9/x"},
            hosts={
                "here": HttpHost(service[1], "token"),
                "closed": HttpHost("http://127.0.0.1:9"),
                "broken": HttpHost("http://x:y"),
            },
            query_url=service[1],
        )

        async def find(
            query: PostgresQuery | PromqlQuery | HttpGet, max_rows: int = 10, timeout_ms: int = 5_000
        ) -> Evidence:
            return await investigator.find(Investigate(1, 1, "step", query, timeout_ms, max_rows), 5)

        yield find  # type: ignore[misc]  # a coroutine function; the alias spares every test the long type


async def test_rows_come_as_json_has_them(ask: Ask) -> None:
    query = (
        "select $1::text as who, 1::numeric as whole, 1.5::numeric as part, 'NaN'::float8 as nan, "
        "timestamptz '2026-01-01 00:00:00+00' as at, null as nothing, true as yes, array[1, 2] as list"
    )
    found = await ask(PostgresQuery("main", query, ["'; drop table x; --"]))
    [row] = found.rows
    assert (row["who"], row["whole"], row["part"], row["nan"]) == ("'; drop table x; --", 1, 1.5, None)
    assert (row["nothing"], row["yes"], row["list"]) == (None, True, [1, 2])
    assert str(row["at"]).startswith("2026-01-01T")


async def test_too_many_rows_are_cut_off_and_it_says_so(ask: Ask) -> None:
    found = await ask(PostgresQuery("main", "select generate_series(1, 100) as n", []), max_rows=3)
    assert (len(found.rows), found.truncated) == (3, True)
    whole = await ask(PostgresQuery("main", "select generate_series(1, 3) as n", []), max_rows=3)
    assert (len(whole.rows), whole.truncated) == (3, False)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (PostgresQuery("main", "create table x (a int)", []), "read-only"),
        (PostgresQuery("main", "select 1; select 2", []), "cannot insert multiple commands"),
        (PostgresQuery("main", "select nonsense", []), "nonsense"),
        (PostgresQuery("main", "select $1::int", ["not a number"]), "invalid input for query argument $1"),
        (PostgresQuery("main", "select pg_sleep(60)", []), "within 300ms"),
        (PostgresQuery("main", "select repeat('x', 300000) as x", []), "longer than 256 KiB"),
        (PostgresQuery("away", "select 1", []), "Connect"),
        (PostgresQuery("nowhere", "select 1", []), "no database 'nowhere' in responder.databases"),
        (HttpGet("nowhere", "/"), "no host 'nowhere' in responder.hosts"),
        (HttpGet("closed", "/"), "ConnectError"),
        (HttpGet("here", "/huge"), "longer than 256 KiB"),
        (HttpGet("here", "/slow"), "within 300ms"),
        (PostgresQuery("main", "select $1::bigint", [2**70]), "$1"),
        (HttpGet("here", "/deep"), "RecursionError"),
        (HttpGet("broken", "/"), "InvalidURL"),
        (PromqlQuery("up"), "not the answer of a Prometheus"),
    ],
)
async def test_what_cannot_be_found_out_is_not_an_empty_answer(
    query: PostgresQuery | PromqlQuery | HttpGet, error: str, ask: Ask
) -> None:
    found = await ask(query, timeout_ms=300)
    assert (found.ok, found.rows) == (False, [])
    assert error in found.error or "cancel" in found.error
    assert "secret" not in found.error


async def test_promql_gives_labels_and_numbers(ask: Ask, service: tuple[Service, str]) -> None:
    service[0].answer = {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [{"metric": {"channel": "web"}, "value": [1, "2.5"]}, {"metric": {}, "value": [1, "NaN"]}],
        },
    }
    found = await ask(PromqlQuery("sum by (channel) (x)"))
    assert found.rows == [{"labels": {"channel": "web"}, "value": 2.5}, {"labels": {}, "value": None}]
    assert service[0].seen == ["sum by (channel) (x)"]


async def test_a_query_that_prometheus_refuses_says_why(ask: Ask, service: tuple[Service, str]) -> None:
    service[0].answer = {"status": "error", "errorType": "bad_data", "error": "parse error"}
    found = await ask(PromqlQuery("up{"))
    assert (found.ok, found.error) == (False, "bad_data: parse error")


async def test_a_get_gives_status_and_body_and_never_follows_elsewhere(ask: Ask) -> None:
    found = await ask(HttpGet("here", "/echo"))
    assert (found.status, found.body) == (418, {"token": "Bearer token"})
    moved = await ask(HttpGet("here", "/moved"))
    assert (moved.status, moved.body) == (302, "elsewhere")


async def test_nul_characters_are_replaced_in_whatever_is_found(ask: Ask, service: tuple[Service, str]) -> None:
    assert (await ask(HttpGet("here", "/nul"))).body == {"a\ufffd": ["b\ufffd", {"c": "\ufffd"}]}
    metric = {"metric": {"pod": "a\x00"}, "value": [1, "2"]}
    service[0].answer = {"status": "success", "data": {"resultType": "vector", "result": [metric]}}
    assert (await ask(PromqlQuery("x"))).rows == [{"labels": {"pod": "a\ufffd"}, "value": 2.0}]
    service[0].answer = {"status": "error", "errorType": "bad", "error": "a\x00"}
    assert (await ask(PromqlQuery("x"))).error == "bad: a\ufffd"
