"""The instant vector of a PromQL query, and of what answers in Prometheus's format.

Reference: https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from engine.edge.investigate._found import Found, InvestigationError, Rows
from engine.response.model import PromqlQuery


async def query_prometheus(http: httpx.AsyncClient, base_url: str, query: PromqlQuery) -> Found:
    """The vector of a query, now."""
    if not base_url:
        raise InvestigationError("no responder.query_url is set")
    url = f"{base_url.rstrip('/')}/api/v1/query"
    response = await http.get(url, params={"query": query.query})
    return Found(vector_rows(answered(response, "a Prometheus")))


def answered(response: httpx.Response, whose: str) -> Mapping[str, Any]:
    """The `data` of an answer. Raises `InvestigationError` for a failure and for what is no such answer."""
    try:
        answer = response.json()
        if answer["status"] != "success":
            raise InvestigationError(f"{answer.get('errorType', 'error')}: {answer.get('error', '')}")
        data: Mapping[str, Any] = answer["data"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvestigationError(f"HTTP {response.status_code} and not the answer of {whose}") from error
    return data


def vector_rows(data: Mapping[str, Any]) -> Rows:
    """The rows of an instant vector, or the one of a scalar. Raises `InvestigationError` for another type."""
    try:
        kind, result = data["resultType"], data["result"]
        if kind not in ("vector", "scalar"):
            raise InvestigationError(f"the query gives a {kind}, not an instant vector")
        items = [{"metric": {}, "value": result}] if kind == "scalar" else result
        return [{"labels": item["metric"], "value": _number(item["value"])} for item in items]
    except (ValueError, KeyError, TypeError) as error:
        raise InvestigationError("the answer is no instant vector") from error


def _number(value: Sequence[object]) -> float | None:
    """The number of a sample; None for NaN and infinities, which compare with nothing."""
    number = float(str(value[1]))
    return number if math.isfinite(number) else None
