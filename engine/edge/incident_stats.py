"""Times to acknowledge and to resolve, from the rows of incidents and of the audit; and as Prometheus's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import asyncpg
import structlog
from prometheus_client import Gauge

from engine.edge.database import DATABASE_LOST, Database
from engine.edge.telemetry import Telemetry
from engine.response.stats import Lifetime

log = structlog.get_logger(__name__)

_EVERY_S = 15.0


async def lifetimes(conn: asyncpg.Connection, from_ms: int, to_ms: int, *, changed_since_ms: int = 0) -> list[Lifetime]:
    """Incidents opened in a span of time (its end left out), those left out that were merged into another.

    With `changed_since_ms` only those that are open or have changed since then.
    """
    rows = await conn.fetch(
        "select i.id, i.runbook, i.severity, i.opened_ms, "
        "(select min((a.data->>'happened_ms')::bigint) from audit a "
        " where a.incident = i.id and a.kind = 'incident.acknowledged') as acknowledged_ms, "
        "case when i.status <> 'open' then coalesce(i.resolved_ms, i.updated_ms) end as ended_ms, "
        "(i.state->>'resolution' like 'cleared%' "
        " and not exists (select 1 from commands c where c.incident = i.id)) as by_itself "
        "from incidents i where i.opened_ms >= $1 and i.opened_ms < $2 and i.state->>'merged_into' is null "
        "and (i.status = 'open' or i.updated_ms >= $3) order by i.id",
        from_ms,
        to_ms,
        changed_since_ms,
    )
    return [Lifetime(**{**dict(row), "by_itself": bool(row["by_itself"])}) for row in rows]


class StatsExporter:
    """Keeps the metrics of incidents up to date from the database, so that they are the same after a restart."""

    def __init__(self, database: Database, telemetry: Telemetry, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._telemetry = telemetry
        self._now_ms = now_ms
        self._seen_ms = 0  # what had happened before this process started was counted by another

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Export for as long as the process runs."""
        self._seen_ms = self._now_ms()
        while True:
            try:
                await self.export()
            except DATABASE_LOST as error:  # the next time finds what is missing
                log.warning("responder.tick_cut_off", reason=str(error) or type(error).__name__)
            await sleep(_EVERY_S)

    async def export(self) -> None:
        """Read, and set the gauges; observe what was acknowledged or ended since the last time."""
        now_ms = self._now_ms()

        async def work(conn: asyncpg.Connection) -> list[Lifetime]:
            return await lifetimes(conn, 0, now_ms + 1, changed_since_ms=self._seen_ms)

        found = await self._database.run(work)
        telemetry, since_ms = self._telemetry, self._seen_ms
        still = [one for one in found if one.ended_ms is None]
        _set(telemetry.incidents_open, Counter((one.runbook, one.severity) for one in still))
        waiting = [one for one in still if one.acknowledged_ms is None]
        _set(telemetry.incidents_unacknowledged, Counter((one.runbook, one.severity) for one in waiting))
        for one in found:
            if one.acknowledge_ms is not None and since_ms < (one.acknowledged_ms or 0) <= now_ms:
                telemetry.acknowledge.labels(one.runbook, one.severity).observe(one.acknowledge_ms / 1000)
            if one.resolve_ms is not None and since_ms < (one.ended_ms or 0) <= now_ms:
                telemetry.resolve.labels(one.runbook, one.severity).observe(one.resolve_ms / 1000)
        self._seen_ms = now_ms


def _set(gauge: Gauge, counts: Mapping[tuple[str, str], int]) -> None:
    """What is no longer there must not keep its last number."""
    gauge.clear()
    for labels, count in counts.items():
        gauge.labels(*labels).set(count)
