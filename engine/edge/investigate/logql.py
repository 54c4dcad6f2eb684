"""Lines and vectors from a Loki.

Reference: https://grafana.com/docs/loki/latest/reference/loki-http-api/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from engine.edge.investigate._found import Found, InvestigationError, Rows
from engine.edge.investigate.promql import answered, vector_rows
from engine.response.model import LogqlQuery

_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Loki:
    """A Loki that may be queried; the client carries its credentials."""

    url: str
    client: httpx.AsyncClient = field(repr=False)


async def query_loki(loki: Loki | None, query: LogqlQuery, limit: int, now_ms: int) -> Found:
    """The newest `limit` lines up to now, newest first; of a metric query its vector now."""
    if loki is None:
        raise InvestigationError("no responder.loki is set")
    if not query.is_lines:
        data = await _ask(loki, "query", {"query": query.query, "time": str(now_ms * _NS_PER_MS)})
        return Found(vector_rows(data))
    span = {"start": str((now_ms - query.since_ms) * _NS_PER_MS), "end": str((now_ms + 1) * _NS_PER_MS)}
    form = {"query": query.query, "limit": str(limit + 1), "direction": "backward", **span}
    rows = _lines(await _ask(loki, "query_range", form))
    return Found(rows[:limit], truncated=len(rows) > limit)


async def _ask(loki: Loki, path: str, params: dict[str, str]) -> Any:
    response = await loki.client.get(f"{loki.url.rstrip('/')}/loki/api/v1/{path}", params=params)
    if response.is_error:  # Loki says why in plain text
        told = " ".join(response.text.split())[:300]
        raise InvestigationError(f"HTTP {response.status_code}: {told}")
    return answered(response, "a Loki")


def _lines(data: Any) -> Rows:
    try:
        if data["resultType"] != "streams":
            raise InvestigationError(f"the query gives a {data['resultType']}, not lines")
        found = [
            (int(entry[0]), {"time_ms": int(entry[0]) // _NS_PER_MS, "labels": one["stream"], "line": entry[1]})
            for one in data["result"]
            for entry in one["values"]
        ]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvestigationError("the answer holds no lines") from error
    return [row for _, row in sorted(found, key=lambda one: one[0], reverse=True)]
