"""Prometheus's query API over what the evaluator's windows hold, so that Grafana can use Sentinel as a data source.

Queries run on the evaluator's own loop, where windows do not change under a step. So that rules are not held up, one
query is worked on at a time, in slices of a few milliseconds, and for at most half of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp import web
from msgspec import Raw

from engine import __version__, promql
from engine.core.expression import ExpressionError
from engine.core.group import Group
from engine.core.labels import Labels, MatcherSet
from engine.core.query import find_series
from engine.core.step import Shard
from engine.edge.prometheus_http import (
    FIRST_MS,
    LAST_MS,
    ApiError,
    Parameters,
    bad_parameter,
    cut,
    point,
    route,
    seconds,
    success,
)
from engine.promql.evaluate import InstantSelector, PromQLExpression, RangeSelector, Shift, Subquery, Text
from engine.promql.query import Points, RangeQuery, instant, samples
from engine.vector import format as fmt
from engine.vector.values import InstantVector, sorted_vector

T = TypeVar("T")

MOST_POINTS = 11_000
SLICE_S = 0.005
TIMEOUT_MS = 120_000
API_VERSION = "3.0.0"
"""The Prometheus whose API this is. Grafana asks for it to know what it may ask."""


class QueryApi:
    """The routes under `/api/v1` that read windows."""

    def __init__(self, shards: Mapping[int, Shard], now_ms: Callable[[], int]) -> None:
        self._shards = shards
        self._now_ms = now_ms
        self._turn = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """All of them, those that may be long as POST as well."""
        both = ("GET", "POST")
        return [
            *route(both, "/api/v1/query", self._query),
            *route(both, "/api/v1/query_range", self._query_range),
            *route(both, "/api/v1/series", self._series),
            *route(both, "/api/v1/labels", self._labels),
            *route(("GET",), "/api/v1/label/{name}/values", self._label_values),
            *route(("GET",), "/api/v1/metadata", _metadata),
            *route(("GET",), "/api/v1/status/buildinfo", _build_info),
        ]

    def _groups(self) -> Iterable[Group]:
        return [group for shard in self._shards.values() for group in shard.groups]

    async def _query(self, _: web.Request, parameters: Parameters) -> web.Response:
        at_ms, limit = parameters.time_ms("time", self._now_ms()), parameters.limit()
        expression = _expression(parameters)
        async with self._one_at_a_time(parameters):
            began_s = time.perf_counter()
            at_ms, value, notes = instant(self._groups(), expression, at_ms)
            await asyncio.sleep(time.perf_counter() - began_s)
            if isinstance(value, float):
                return success({"resultType": "scalar", "result": point(at_ms, value)}, notes)
            if isinstance(value, str):
                return success({"resultType": "string", "result": [seconds(at_ms), value]}, notes)
            is_vector = isinstance(value, InstantVector)
            rows = _vector_rows(at_ms, value) if isinstance(value, InstantVector) else _matrix_rows(samples(value))
            result, truncated = cut(await _in_slices(rows), limit)
        kind = "vector" if is_vector else "matrix"
        return success({"resultType": kind, "result": result}, notes, truncated=truncated)

    async def _query_range(self, _: web.Request, parameters: Parameters) -> web.Response:
        start_ms, end_ms, step_ms = _steps(parameters)
        limit, expression = parameters.limit(), _expression(parameters)
        if isinstance(expression.root, Text | RangeSelector | Subquery):
            raise bad_parameter("query", "a range query needs an instant vector or a scalar")
        async with self._one_at_a_time(parameters):
            query = RangeQuery(self._groups(), expression, start_ms, end_ms, step_ms)
            await _in_slices(query.steps())
            found, truncated = cut(query.result(), limit)
            data = {"resultType": "matrix", "result": await _in_slices(_matrix_rows(found))}
        return success(data, query.notes, truncated=truncated)

    @asynccontextmanager
    async def _one_at_a_time(self, parameters: Parameters) -> AsyncIterator[None]:
        timeout_ms = min(parameters.duration_ms("timeout", TIMEOUT_MS), TIMEOUT_MS)
        try:
            async with asyncio.timeout(timeout_ms / 1000), self._turn:
                yield
        except TimeoutError as error:
            raise ApiError(503, "timeout", "query timed out in expression evaluation") from error

    async def _series(self, _: web.Request, parameters: Parameters) -> web.Response:
        if not parameters.all("match[]"):
            raise ApiError(400, "bad_data", "no match[] parameter provided")
        found, truncated = cut(self._found(parameters), parameters.limit())
        return success(found, truncated=truncated)

    async def _labels(self, _: web.Request, parameters: Parameters) -> web.Response:
        names = sorted({name for labels in self._found(parameters) for name in labels})
        found, truncated = cut(names, parameters.limit())
        return success(found, truncated=truncated)

    async def _label_values(self, request: web.Request, parameters: Parameters) -> web.Response:
        name = request.match_info["name"]
        values = sorted({labels[name] for labels in self._found(parameters) if name in labels})
        found, truncated = cut(values, parameters.limit())
        return success(found, truncated=truncated)

    def _found(self, parameters: Parameters) -> list[Labels]:
        start_ms, end_ms = parameters.time_ms("start", FIRST_MS), parameters.time_ms("end", LAST_MS)
        if end_ms < start_ms:
            raise bad_parameter("end", "end timestamp must not be before start time")
        wanted = [_matchers(text) for text in parameters.all("match[]")]
        return find_series(self._groups(), wanted, start_ms, end_ms)


async def _in_slices(work: Iterator[T]) -> list[T]:
    """Everything the iterator gives; after each slice of time others have the loop for as long."""
    found = []
    began_s = time.perf_counter()
    for one in work:
        found.append(one)
        took_s = time.perf_counter() - began_s
        if took_s >= SLICE_S:
            await asyncio.sleep(took_s)
            began_s = time.perf_counter()
    return found


def _expression(parameters: Parameters) -> PromQLExpression:
    if parameters.text("lookback_delta"):
        raise bad_parameter("lookback_delta", "it is always 5m here")
    text = parameters.text("query")
    if not text.strip():
        raise bad_parameter("query", "it is missing")
    return promql.compile(text, any_type=True)


def _steps(parameters: Parameters) -> tuple[int, int, int]:
    """Start, end and step of a range query."""
    start_ms, end_ms = parameters.time_ms("start"), parameters.time_ms("end")
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    step_ms = parameters.duration_ms("step")
    if step_ms <= 0:
        raise bad_parameter("step", "it must be at least a millisecond")
    if (end_ms - start_ms) // step_ms > MOST_POINTS:
        raise ApiError(
            400, "bad_data", f"exceeded maximum resolution of {MOST_POINTS:,} points per timeseries: take a longer step"
        )
    return start_ms, end_ms, step_ms


def _matchers(text: str) -> MatcherSet:
    """What a `match[]` selects: an instant selector without `offset` or `@`."""
    try:
        expression = promql.compile(text, any_type=True)
    except ExpressionError as error:
        raise bad_parameter("match[]", f"{error.line}:{error.column}: parse error: {error.message}") from error
    root = expression.root
    if not isinstance(root, InstantSelector) or root.shift != Shift():
        raise bad_parameter("match[]", f"{text} is not a series selector")
    return expression.selectors[0].matches


def _vector_rows(at_ms: int, value: InstantVector) -> Iterator[dict[str, Any]]:
    vector = sorted_vector(value)
    for labels, number in zip(vector.labels, vector.values.tolist(), strict=True):
        yield {"metric": labels, "value": point(at_ms, number)}


def _matrix_rows(found: Iterable[Points]) -> Iterator[dict[str, Any]]:
    stamps: dict[int, Raw] = {}  # the series of a range query share their times
    for points in found:
        for t_ms in points.t_ms:
            if t_ms not in stamps:
                stamps[t_ms] = seconds(t_ms)
        pairs = zip(points.t_ms, points.values, strict=True)
        yield {"metric": points.labels, "values": [(stamps[t_ms], fmt.json_number(value)) for t_ms, value in pairs]}


async def _metadata(_: web.Request, __: Parameters) -> web.Response:
    """Types and help texts do not travel with remote write's samples: none is known."""
    return success({})


async def _build_info(_: web.Request, __: Parameters) -> web.Response:
    unknown = dict.fromkeys(("branch", "buildUser", "buildDate", "goVersion"), "")
    return success({"version": API_VERSION, "revision": f"aureus-sentinel {__version__}", **unknown})
