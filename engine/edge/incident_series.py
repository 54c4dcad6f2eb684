"""Keeps what an alert's metric was around each incident, for the plot of its report.

Asked is a Prometheus (`responder.query_url`) or the evaluator's own windows, which forget soon: therefore again and
again while the incident goes on and for a while after it, and what is new is added to what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import httpx
import msgspec
import structlog

from engine.core.rules import AlertRule, RuleGroup
from engine.edge.database import DATABASE_LOST, Database
from engine.edge.investigate._found import InvestigationError
from engine.edge.investigate.promql import answered
from engine.promql.evaluate import PromQLExpression
from engine.promql.threshold import Comparison, comparison_of
from engine.response.model import AlertSeen
from engine.response.series import AROUND_MS, LONGEST_MS, STEP_MS, MetricSeries, Point, fitting, merged

log = structlog.get_logger(__name__)

_EVERY_S = 30.0
_AT_ONCE = 20
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class _Wanted:
    """An incident whose metric is to be asked for, and what is known of it already."""

    incident: int
    alert: AlertSeen
    opened_ms: int
    resolved_ms: int | None
    points: list[Point]


class SeriesKeeper:
    """Asks and keeps. `rules` are those of the loaded groups; `now_ms` is the wall clock."""

    def __init__(self, database: Database, http: httpx.AsyncClient, query_url: str, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._http = http
        self._query_url = query_url.rstrip("/")
        self._now_ms = now_ms
        self._rules: dict[str, list[AlertRule]] = {}

    def load(self, groups: Sequence[RuleGroup]) -> None:
        """Take the rules, also anew."""
        rules = [rule for group in groups for rule in group.rules if isinstance(rule, AlertRule)]
        self._rules = {}
        for rule in rules:
            self._rules.setdefault(f"{rule.group}/{rule.name}", []).append(rule)

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Gather for as long as the process runs."""
        while True:
            try:
                await self.gather()
            except DATABASE_LOST as error:  # in the middle of it; the next time finds what is missing
                log.warning("responder.tick_cut_off", reason=str(error) or type(error).__name__)
            await sleep(_EVERY_S)

    async def gather(self) -> int:
        """Ask for every incident that is open or ended lately; how many were asked for."""
        wanted = await self._database.run(_wanted)
        for one in wanted:
            series = await self._series(one)
            await self._database.run(partial(self._write, one=one, series=series))
        return len(wanted)

    async def _series(self, one: _Wanted) -> MetricSeries:
        found = self._comparison(one.alert)
        if found is None:
            return MetricSeries("", one.points, error="its rule is not loaded here, or is no PromQL")
        from_ms = one.points[-1][0] + STEP_MS if one.points else one.alert.fired_ms - AROUND_MS
        now_ms = self._now_ms()
        to_ms = now_ms if one.resolved_ms is None else min(now_ms, one.resolved_ms + AROUND_MS)
        try:
            points = await self._ask(found.query, from_ms, to_ms, one.alert.labels)
        except (InvestigationError, httpx.HTTPError, TypeError, ValueError, KeyError) as error:
            why = str(error) or type(error).__name__
            return MetricSeries(found.query, one.points, found.op, found.threshold, why)
        return MetricSeries(found.query, merged(one.points, points), found.op, found.threshold)

    def _comparison(self, alert: AlertSeen) -> Comparison | None:
        """What the alert's rule compares; of several of one name, the one whose own labels the alert has."""
        rules = [rule for rule in self._rules.get(alert.rule, []) if isinstance(rule.expression, PromQLExpression)]
        fits = [r for r in rules if all(alert.labels.get(n, t.source) == t.source for n, t in r.labels.items())]
        return comparison_of((fits or rules)[0].expression.text) if rules else None

    async def _ask(self, query: str, from_ms: int, to_ms: int, labels: Mapping[str, str]) -> list[Point]:
        from_ms = -(-from_ms // STEP_MS) * STEP_MS
        if to_ms < from_ms:
            return []
        asked = {"query": query, "start": f"{from_ms / 1000}", "end": f"{to_ms / 1000}", "step": f"{STEP_MS // 1000}"}
        url = f"{self._query_url}/api/v1/query_range"
        data = answered(await self._http.get(url, params=asked, timeout=_TIMEOUT_S), "a Prometheus")
        return fitting([(item["metric"], _points(item["values"])) for item in data["result"]], labels)

    async def _write(self, conn: asyncpg.Connection, one: _Wanted, series: MetricSeries) -> None:
        now_ms = self._now_ms()
        over = one.resolved_ms is not None and now_ms >= one.resolved_ms + AROUND_MS
        await conn.execute(
            "insert into incident_series (incident, query, op, threshold, gathered_ms, complete, error, points) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (incident) do update set query = excluded.query, "
            "op = excluded.op, threshold = excluded.threshold, gathered_ms = excluded.gathered_ms, "
            "complete = excluded.complete, error = excluded.error, points = excluded.points",
            one.incident,
            series.query,
            series.op,
            series.threshold,
            now_ms,
            over or now_ms - one.opened_ms > LONGEST_MS,
            series.error,
            series.points,
        )


async def read_series(conn: asyncpg.Connection, incident: int) -> MetricSeries | None:
    """What is kept of an incident's metric."""
    row = await conn.fetchrow(
        "select query, points, op, threshold, error from incident_series where incident = $1", incident
    )
    return msgspec.convert(dict(row), MetricSeries) if row is not None else None


async def _wanted(conn: asyncpg.Connection) -> list[_Wanted]:
    """Incidents whose metric is not kept to its end, those that were asked for longest ago first."""
    rows = await conn.fetch(
        "select i.id, i.opened_ms, i.resolved_ms, i.state->'alerts'->(i.state->>'trigger') as alert, s.points "
        "from incidents i left join incident_series s on s.incident = i.id where s.complete is not true "
        "or (i.status = 'open' and s.gathered_ms - i.opened_ms < $2) "  # opened again
        "order by s.gathered_ms nulls first, i.id desc limit $1",
        _AT_ONCE,
        LONGEST_MS,
    )
    return [
        _Wanted(
            row["id"],
            msgspec.convert(row["alert"], AlertSeen),
            row["opened_ms"],
            row["resolved_ms"],
            msgspec.convert(row["points"] or [], list[Point]),
        )
        for row in rows
    ]


def _points(values: Sequence[Sequence[Any]]) -> list[Point]:
    """Prometheus's pairs of seconds and text; what is no number is left out."""
    pairs = [(round(float(at_s) * 1000), float(text)) for at_s, text in values]
    return [(t_ms, value) for t_ms, value in pairs if math.isfinite(value)]
