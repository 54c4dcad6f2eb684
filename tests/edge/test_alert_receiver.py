"""The receiver of alerts over real loopback HTTP, with a log in memory in the broker's place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from engine.core.messages import Transition, decode_transition
from engine.edge.alert_receiver import AlertReceiver
from engine.edge.publisher import ConnectorMetrics
from engine.edge.settings_sources import AlertmanagerReceiver
from engine.edge.telemetry import Telemetry

NOW = 1_700_000_000_000
MINUTE = 60_000


class Site:
    """A receiver, what it said, and its clock."""

    def __init__(self) -> None:
        self.now_ms = NOW
        self.said: list[tuple[str, bytes, Transition]] = []
        self.is_away = False
        self.registry = CollectorRegistry()
        telemetry = Telemetry(process_metrics=False)
        self.receiver = AlertReceiver(
            AlertmanagerReceiver(resolve_timeout_s=240),
            self._send,
            lambda: self.now_ms,
            ConnectorMetrics(self.registry),
            telemetry.transitions,
        )
        app = web.Application()
        app.add_routes(self.receiver.routes())
        self.server = TestServer(app)
        self.session = aiohttp.ClientSession()

    async def _send(self, topic: str, key: bytes, value: bytes) -> None:
        if self.is_away:
            raise ConnectionError("broker away")
        self.said.append((topic, key, decode_transition(value)))

    async def post(self, *alerts: Any) -> tuple[int, Any]:
        body = json.dumps(alerts)
        async with self.session.post(self.server.make_url("/api/v2/alerts"), data=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    def states(self) -> list[tuple[str, str]]:
        return [(one.state, one.cause) for _, _, one in self.said]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.server.start_server()
    yield made
    await made.session.close()
    await made.server.close()


def fires(name: str = "A", ends_ms: int | None = None) -> dict[str, Any]:
    alert: dict[str, Any] = {"labels": {"alertname": name, "job": "x"}}
    if ends_ms is not None:
        alert["endsAt"] = datetime.fromtimestamp(ends_ms / 1_000, UTC).isoformat()
    return alert


async def test_a_posted_alert_is_on_the_topic_when_it_is_answered(site: Site):
    assert await site.post(fires()) == (200, None)
    ((topic, key, transition),) = site.said
    assert (topic, key.decode()) == ("alerts", transition.fingerprint)
    assert (transition.alertname, transition.state, transition.received_ms) == ("A", "firing", NOW)


async def test_it_ends_when_its_sender_says_so_or_falls_silent(site: Site):
    await site.post(fires("A"), fires("B"))
    site.now_ms += MINUTE
    await site.post(fires("A"), fires("B", ends_ms=site.now_ms))
    assert site.states() == [("firing", "condition"), ("firing", "condition"), ("resolved", "cleared")]
    site.now_ms += 4 * MINUTE - 1
    await site.receiver.expire_once()
    assert len(site.said) == 3
    site.now_ms += 1
    await site.receiver.expire_once()
    assert site.states()[3:] == [("resolved", "no_data")]


async def test_what_the_broker_does_not_take_is_answered_with_503_and_said_at_the_next_post(site: Site):
    site.is_away = True
    assert (await site.post(fires()))[0] == 503
    site.is_away = False
    assert (await site.post(fires()))[0] == 200
    assert site.states() == [("firing", "condition")]


async def test_an_end_that_the_broker_does_not_take_is_said_later(site: Site):
    await site.post(fires())
    site.now_ms += 4 * MINUTE
    site.is_away = True
    assert not await site.receiver.expire_once()
    site.is_away = False
    assert await site.receiver.expire_once()
    assert site.states() == [("firing", "condition"), ("resolved", "no_data")]


async def test_a_post_that_holds_an_alert_twice_says_it_once(site: Site):
    await site.post(fires(), fires())
    assert site.states() == [("firing", "condition")]


async def test_bad_alerts_are_answered_with_the_reason_and_the_good_ones_taken(site: Site):
    assert await site.post({"labels": {}}, fires()) == (400, "alert 0: at least one label pair required")
    assert site.states() == [("firing", "condition")]
    dropped = {"stage": "connector", "reason": "invalid_alert"}
    assert site.registry.get_sample_value("sentinel_dropped_total", dropped) == 1
    status, reason = await site.post("no alert")
    assert status == 400
    assert reason.startswith("bad_alerts: the body is not a list of alerts")
