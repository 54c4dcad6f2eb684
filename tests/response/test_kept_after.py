"""What is kept of incidents afterwards, on a real PostgreSQL: the metric's values, the account of a day, the times."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.console.model import Said
from engine.core.messages import RuleInput
from engine.core.step import Shard
from engine.edge import accounts, incidents
from engine.edge.console_store import PostgresStore
from engine.edge.incident_series import SeriesKeeper
from engine.edge.incident_stats import StatsExporter
from engine.edge.query_api import QueryApi
from engine.edge.telemetry import Telemetry
from engine.response.guardrails import ModeRule, Policy
from engine.response.series import AROUND_MS
from tests.core.builders import batch, one_rule
from tests.response.conftest import START_MS, alert
from tests.response.grouped import ELSEWHERE, SLOW, grouped_runbooks
from tests.response.test_responder import World, world  # noqa: F401  # a fixture

OBSERVING = Policy(modes=(ModeRule("observe", "*"),))
STEP_MS = 15_000
DAY_MS = 86_400_000


@pytest.fixture
def grouped(world: World) -> World:  # noqa: F811  # the fixture
    world.runbooks = grouped_runbooks()
    return world


def store(grouped: World) -> PostgresStore:
    return PostgresStore(grouped.database, lambda: grouped.now_ms)


# The metric -----------------------------------------------------------------------------------------------------------


class Windows:
    """An evaluator's windows behind the real query API: the latency of two services, one of which becomes slow."""

    def __init__(self) -> None:
        self.groups = one_rule("latency_seconds > 0.5 and max_over_time(latency_seconds[1h]) > 0")
        self.shard = Shard(self.groups)
        self.seq = 0

    def feed(self, from_ms: int, to_ms: int, bridge: float) -> None:
        self.seq += 1
        points = [
            (f"latency_seconds{{service={service}}}", t_ms, value)
            for t_ms in range(from_ms, to_ms, STEP_MS)
            for service, value in (("bridge", bridge), ("openclaw", 0.1))
        ]
        self.shard.step(RuleInput(0, batch("s", self.seq, to_ms, points)))


@pytest_asyncio.fixture
async def windows(grouped: World) -> AsyncIterator[tuple[Windows, SeriesKeeper]]:
    made = Windows()
    app = web.Application()
    app.add_routes(QueryApi({0: made.shard}, lambda: grouped.now_ms).routes())
    async with TestServer(app) as server, httpx.AsyncClient() as http:
        keeper = SeriesKeeper(grouped.database, http, str(server.make_url("")), lambda: grouped.now_ms)
        keeper.load(made.groups)
        yield made, keeper


async def test_the_values_of_the_alerts_own_series_are_kept_until_a_quarter_of_an_hour_after_its_end(
    grouped: World, windows: tuple[Windows, SeriesKeeper]
) -> None:
    made, keeper = windows
    made.feed(START_MS - AROUND_MS, START_MS, 0.2)
    firing = alert("firing", START_MS, SLOW, rule="g/A")
    async with grouped.responder() as responder:
        await responder.on_transition(firing)
        made.feed(START_MS, START_MS + 600_000, 0.9)
        grouped.now_ms = START_MS + 600_000
        assert await keeper.gather() == 1
        await store(grouped).operator(1, "close", Said("ada", "mended"), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
    made.feed(START_MS + 600_000, START_MS + 600_000 + AROUND_MS + STEP_MS, 0.3)
    grouped.now_ms += AROUND_MS
    assert await keeper.gather() == 1
    assert await keeper.gather() == 0, "it is complete"
    async with grouped.database.connection() as conn:
        record = await incidents.record(conn, 1)
    assert record is not None
    series = record.series
    assert series is not None
    assert (series.query, series.op, series.threshold, series.error) == (
        "latency_seconds",
        ">",
        0.5,
        "",
    )
    times = [t for t, _ in series.points]
    assert times == sorted(set(times))
    assert times[-1] - times[0] >= 600_000 + AROUND_MS
    assert series.worst()[1] == 0.9
    assert min(value for _, value in series.points) == 0.2, "of this service, not of the other"
    page = await store(grouped).report_page(1)
    assert page is not None
    assert "<polyline" in page


async def test_a_source_that_does_not_answer_is_named_and_asked_again(grouped: World) -> None:
    made = Windows()
    async with grouped.responder() as responder, httpx.AsyncClient() as http:
        await responder.on_transition(alert("firing", START_MS, SLOW, rule="g/A"))
        keeper = SeriesKeeper(grouped.database, http, "http://127.0.0.1:9", lambda: grouped.now_ms)
        assert await keeper.gather() == 1
        keeper.load(made.groups)
        assert await keeper.gather() == 1
    page = await store(grouped).report_page(1)
    assert page is not None
    assert "No values of the alert&#39;s metric are kept: " in page


# The account ----------------------------------------------------------------------------------------------------------


async def test_the_day_that_is_over_is_accounted_for_once_and_told_to_whom_the_settings_name(grouped: World) -> None:
    async with grouped.responder(OBSERVING) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
        await store(grouped).operator(1, "note", Said("ada", "restarted it"), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
    tomorrow_ms = (START_MS // DAY_MS + 1) * DAY_MS + 1
    day = dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC).date()
    for expected in ([day], []):
        assert await accounts.write_missing(grouped.database, tomorrow_ms, OBSERVING, "team") == expected
    found = await store(grouped).account(day)
    [latency] = found.runbooks
    assert [one.refused for one in latency.would] == ["", "cooldown"], "both would act on the same target"
    assert latency.people == ["08:00:00 ada, incident 1: restarted it"]
    async with grouped.database.connection() as conn:
        kept = await conn.fetchval("select markdown from daily_accounts where day = $1", day)
        told = await conn.fetch("select kind, told, text from notices where id like 'account-%'")
    assert "a guardrail would have refused it: cooldown" in kept
    [(kind, to, text)] = [tuple(row) for row in told]
    assert (kind, to) == ("notify", ["team"])
    assert text.startswith("2 incidents; 2 commands would have been given")
    assert grouped.topic == []


async def test_days_that_passed_while_nothing_ran_are_accounted_for_when_it_runs_again(grouped: World) -> None:
    async with grouped.responder(OBSERVING) as responder:
        await responder.on_tick(grouped.now_ms)
    day = dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC).date()
    written = await accounts.write_missing(grouped.database, START_MS + 3 * DAY_MS, OBSERVING, "")
    assert written == [day + dt.timedelta(days=n) for n in range(3)]
    late = await accounts.write_missing(grouped.database, START_MS + 30 * DAY_MS, OBSERVING, "")
    assert len(late) == 7


# The times ------------------------------------------------------------------------------------------------------------


async def test_times_come_from_the_rows_and_are_exported_for_prometheus(grouped: World) -> None:
    telemetry = Telemetry(process_metrics=False)
    exporter = StatsExporter(grouped.database, telemetry, lambda: grouped.now_ms)
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
        grouped.now_ms += 60_000
        await store(grouped).operator(1, "acknowledge", Said("ada"), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
        grouped.now_ms += 60_000
        await store(grouped).operator(1, "close", Said("ada", "mended"), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
    for _ in range(2):
        await exporter.export()
    value = telemetry.registry.get_sample_value
    labels = {"runbook": "HighLatency", "severity": "critical"}
    assert value("sentinel_incidents_open", labels) == 1
    assert value("sentinel_incidents_unacknowledged", labels) == 1
    assert value("sentinel_incident_acknowledge_seconds_sum", labels) == 60
    assert value("sentinel_incident_resolve_seconds_count", labels) == 1, "each once"
    first, second = await store(grouped).lifetimes(START_MS, grouped.now_ms)
    assert (first.acknowledge_ms, first.resolve_ms) == (60_000, 120_000)
    assert (second.acknowledge_ms, second.resolve_ms) == (None, None)
    assert json.loads(json.dumps([first.by_itself, second.by_itself])) == [False, False]


async def test_a_merged_incident_is_counted_with_the_one_it_was_merged_into(grouped: World) -> None:
    async with grouped.responder(Policy()) as responder:
        await responder.on_transition(alert("firing", START_MS, SLOW))
        await responder.on_transition(alert("firing", START_MS + 10, ELSEWHERE))
        await store(grouped).operator(2, "merge", Said("ada", into=1), grouped.now_ms)
        await responder.on_tick(grouped.now_ms)
    assert [one.id for one in await store(grouped).lifetimes(0, grouped.now_ms + 1)] == [1]
