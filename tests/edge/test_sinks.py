"""The role `sinks` on a real topic; the receivers here are loopback services that answer as the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors.remote_write import decode
from engine.core.batching import Samples
from engine.core.messages import Transition, decode_dead_letter, encode
from engine.edge.node import Node, running
from engine.edge.settings import Settings
from engine.flow import ALERTS, DEAD_LETTER, RECORDED
from engine.loading import load_texts
from tests.core.builders import Point, batch
from tests.e2e.shop import ready
from tests.edge.conftest import Site
from tests.sinks.test_alertmanager import transition
from tests.waiting import until

LOADED = load_texts({})


@dataclass
class Service:
    """A service that keeps what it took; `answer` decides on a request, by its body, with a status and headers."""

    url: str = ""
    answer: Callable[[Any], tuple[int, dict[str, str]]] = lambda _: (200, {})
    requests: list[Any] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@asynccontextmanager
async def service(path: str, read: Callable[[bytes, Any], Any]) -> AsyncIterator[Service]:
    kept = Service()

    async def take(request: web.Request) -> web.Response:
        body = read(await request.read(), request.headers)
        kept.headers.append(dict(request.headers))
        kept.requests.append(body)
        status, headers = kept.answer(body)
        if status < 300:
            kept.taken += body
        return web.Response(status=status, headers=headers, text="because of the test")

    app = web.Application()
    app.router.add_post(path, take)
    async with TestServer(app) as server:
        kept.url = str(server.make_url("/")).rstrip("/")
        yield kept


def alertmanager() -> Any:
    return service("/api/v2/alerts", lambda body, _: msgspec.json.decode(body))


def remote_write() -> Any:
    def read(body: bytes, headers: Any) -> list[tuple[bytes, int, float]]:
        events = decode(body, headers, 0).events
        assert isinstance(events, Samples)
        return list(zip(map(bytes, events.series), events.t_ms.tolist(), events.values.tolist(), strict=True))

    return service("/write", read)


@asynccontextmanager
async def sinks(site: Site, **settings: Any) -> AsyncIterator[Node]:
    tree = site.settings.model_dump(mode="json") | {"sinks": settings}
    async with running(Settings.model_validate(tree), ["sinks"], LOADED) as node:
        await ready(node)
        yield node


async def say(site: Site, *transitions: Transition) -> None:
    for one in transitions:
        await site.put(ALERTS, encode(one), key=one.fingerprint.encode())


def names(alerts: list[Any]) -> list[str]:
    return [alert["labels"]["alertname"] for alert in alerts]


def value_of(node: Node, name: str, **labels: str) -> float:
    return node.telemetry.registry.get_sample_value(name, labels) or 0.0


async def test_without_anything_configured_the_role_is_ready_and_does_nothing(site: Site) -> None:
    async with sinks(site) as node:
        assert node.parts == {}


async def test_alerts_are_sent_with_labels_and_times_and_repeated(site: Site) -> None:
    async with alertmanager() as am, sinks(site, alertmanagers=[{"url": am.url}], resend_interval_s=0.2):
        await say(site, transition("A", "pending", 500), transition("A", "firing", 1_000))
        await until(lambda: len(am.taken) >= 3)
        assert set(names(am.taken)) == {"A"}
        assert am.taken[0]["startsAt"] == "1970-01-01T00:00:01.000Z"
        assert am.taken[0]["endsAt"] < am.taken[2]["endsAt"]
        assert am.taken[0]["generatorURL"].startswith("http://127.0.0.1:")
        await say(site, transition("A", "resolved", 2_000, "no_data"))
        await until(lambda: am.taken[-1]["endsAt"] == "1970-01-01T00:00:02.000Z")
        assert am.taken[-1]["annotations"]["end_cause"] == "no_data"


async def test_a_restart_sends_what_fires_and_nothing_else(site: Site) -> None:
    await say(site, *(transition(name, "firing", 1_000) for name in "ABC"))
    await say(site, transition("B", "resolved", 2_000, "cleared"))
    for _ in range(2):
        async with alertmanager() as am, sinks(site, alertmanagers=[{"url": am.url}]):
            await until(lambda am=am: len(am.taken) == 2)
            assert sorted(names(am.taken)) == ["A", "C"]


async def test_one_that_is_away_holds_up_nobody_and_is_told_the_truth_when_it_is_back(site: Site) -> None:
    async with alertmanager() as here, alertmanager() as away:
        away.answer = lambda _: (503, {})
        urls = [{"url": away.url}, {"url": here.url}]
        async with sinks(site, alertmanagers=urls) as node:
            await say(site, transition("A", "firing", 1_000), transition("B", "firing", 1_000))
            await until(lambda: sorted(names(here.taken)) == ["A", "B"])
            await say(site, transition("A", "resolved", 2_000, "cleared"))
            await until(lambda: len(here.taken) == 3)
            assert away.requests
            away.answer = lambda _: (200, {})
            await until(lambda: len(away.taken) == 2)
            assert {alert["labels"]["alertname"]: alert["endsAt"] < "1971" for alert in away.taken} == {
                "A": True,
                "B": False,
            }
            code = {"sink": "alertmanager", "target": f"{away.url}/api/v2/alerts", "code": "503"}
            assert value_of(node, "sentinel_sink_requests_total", **code) >= 1


async def test_a_refused_alert_is_counted_and_not_sent_again_at_once(site: Site) -> None:
    async with alertmanager() as am, sinks(site, alertmanagers=[{"url": am.url}]) as node:
        am.answer = lambda body: (400 if "A" in names(body) else 200, {})
        await say(site, transition("A", "firing", 1_000))
        await until(lambda: value_of(node, "sentinel_drops_total", stage="alertmanager", reason="refused") == 1)
        await say(site, transition("B", "firing", 1_000))
        await until(lambda: names(am.taken) == ["B"])
        assert [names(body) for body in am.requests] == [["A"], ["B"]]


@pytest.mark.parametrize(
    ("own", "header", "value"),
    [
        ({"username": "me", "password": "secret"}, "Authorization", "Basic bWU6c2VjcmV0"),
        ({"token": "t0ken"}, "Authorization", "Bearer t0ken"),
        ({"headers": {"X-Scope-OrgID": "tenant"}}, "X-Scope-OrgID", "tenant"),
    ],
)
async def test_a_sink_makes_itself_known(site: Site, own: dict[str, Any], header: str, value: str) -> None:
    async with alertmanager() as am, sinks(site, alertmanagers=[{"url": am.url, **own}]):
        await say(site, transition("A", "firing", 1_000))
        await until(lambda: am.headers)
        assert am.headers[0][header] == value


async def record(site: Site, *points: Point, source: str = "rules/g") -> None:
    await site.put(RECORDED, encode(batch(source, 1, 0, points)), key=source.encode())


def points(samples: list[tuple[bytes, int, float]]) -> list[tuple[int, float]]:
    return [(t_ms, value) for _, t_ms, value in samples]


async def test_recorded_samples_arrive_in_order_and_what_was_taken_is_not_sent_again(site: Site) -> None:
    async with remote_write() as receiver:
        target = [{"url": f"{receiver.url}/write", "max_samples": 2}]
        async with sinks(site, remote_write=target):
            await record(site, ("x", 1, 1.0), ("x", 2, 2.0), ("y", 1, 5.0))
            await until(lambda: len(receiver.taken) == 3)
        await record(site, ("x", 3, 3.0))
        async with sinks(site, remote_write=target):
            await until(lambda: len(receiver.taken) == 4)
        assert points([one for one in receiver.taken if b'"x"' in one[0]]) == [(1, 1.0), (2, 2.0), (3, 3.0)]
        assert all(len(body) <= 2 for body in receiver.requests)


async def test_while_a_receiver_is_away_nothing_is_lost_and_it_is_left_alone_as_long_as_it_asks(site: Site) -> None:
    async with remote_write() as receiver:
        target = [{"url": f"{receiver.url}/write"}]
        answers = iter([503, 429, 200])
        receiver.answer = lambda _: (next(answers, 200), {"Retry-After": "1"})
        async with sinks(site, remote_write=target):
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            await record(site, ("x", 1, 1.0))
            await until(lambda: receiver.taken)
            assert loop.time() - began_s >= 2
        assert [points(body) for body in receiver.requests] == [[(1, 1.0)]] * 3


async def test_what_was_not_taken_before_the_end_is_sent_after_the_next_start(site: Site) -> None:
    async with remote_write() as receiver:
        target = [{"url": f"{receiver.url}/write"}]
        receiver.answer = lambda _: (503, {})
        async with sinks(site, remote_write=target):
            await record(site, ("x", 1, 1.0))
            await until(lambda: receiver.requests)
        receiver.answer = lambda _: (204, {})
        async with sinks(site, remote_write=target):
            await until(lambda: points(receiver.taken) == [(1, 1.0)])


async def test_the_good_samples_of_a_refused_request_are_saved_and_the_bad_one_counted(site: Site) -> None:
    async with remote_write() as receiver:
        receiver.answer = lambda body: (400 if any(value == 13 for _, value in points(body)) else 200, {})
        async with sinks(site, remote_write=[{"url": f"{receiver.url}/write"}]) as node:
            await record(site, *(("x", t_ms, float(t_ms)) for t_ms in range(1, 31)))
            await until(lambda: len(receiver.taken) == 29)
            assert points(receiver.taken) == [(t_ms, float(t_ms)) for t_ms in range(1, 31) if t_ms != 13]
            assert value_of(node, "sentinel_drops_total", stage="remote_write", reason="refused") == 1


async def test_a_receiver_that_refuses_everything_costs_a_bounded_number_of_requests(site: Site) -> None:
    async with remote_write() as receiver:
        receiver.answer = lambda _: (400, {})
        async with sinks(site, remote_write=[{"url": f"{receiver.url}/write"}]) as node:
            await record(site, *(("x", t_ms, 0.0) for t_ms in range(1, 1_001)))
            await until(lambda: value_of(node, "sentinel_drops_total", stage="remote_write", reason="refused") == 1_000)
            assert len(receiver.requests) == 129


async def test_what_was_recorded_twice_is_sent_once_and_what_is_no_batch_is_put_aside(site: Site) -> None:
    async with remote_write() as receiver, sinks(site, remote_write=[{"url": f"{receiver.url}/write"}]) as node:
        await record(site, ("x", 1, 1.0), ("x", 2, 2.0))
        await site.put(RECORDED, b"{", key=b"rules/g")
        await record(site, ("x", 1, 1.0), ("x", 2, 2.0), ("x", 3, 3.0))
        await until(lambda: len(receiver.taken) >= 3)
        assert points(receiver.taken) == [(1, 1.0), (2, 2.0), (3, 3.0)]
        assert value_of(node, "sentinel_drops_total", stage="remote_write", reason="repeated") == 2

        async def letters() -> list[bytes]:
            return await site.read(DEAD_LETTER)

        [letter] = map(decode_dead_letter, await until(letters))
        assert (letter.topic, letter.value) == ("recorded", b"{")
