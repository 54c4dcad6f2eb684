"""`GET /api/v1/query` in Prometheus's format, over what the evaluator's windows hold."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from engine import promql
from engine.core.alert import format_value
from engine.core.expression import EvaluationError, ExpressionError
from engine.core.query import instant_query
from engine.core.step import Shard


class QueryApi:
    """Instant queries at the newest complete time."""

    def __init__(self, shards: Mapping[int, Shard]) -> None:
        self._shards = shards

    def routes(self) -> list[web.RouteDef]:
        """The query route, as GET and POST."""
        return [web.get("/api/v1/query", self._query), web.post("/api/v1/query", self._query)]

    async def _query(self, request: web.Request) -> web.Response:
        form = request.query if request.method == "GET" else await request.post()
        text = form.get("query")
        if not isinstance(text, str) or not text:
            return _error(400, "bad_data", "parameter query is missing")
        if "time" in form:
            return _error(400, "bad_data", "parameter time is not supported: answers are for the newest complete time")
        try:
            at_ms, vector = instant_query(self._shards.values(), promql.compile(text))
        except ExpressionError as error:
            return _error(400, "bad_data", f"{error.line}:{error.column}: {error.message}")
        except EvaluationError as error:
            return _error(422, "execution", str(error))
        at_s = at_ms / 1000
        if vector.is_scalar:
            data = {"resultType": "scalar", "result": [at_s, format_value(float(vector.values[0]))]}
            return web.json_response({"status": "success", "data": data})
        result = [
            {"metric": labels, "value": [at_s, format_value(value)]}
            for labels, value in zip(vector.labels, vector.values.tolist(), strict=True)
        ]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


def _error(status: int, kind: str, text: str) -> web.Response:
    return web.json_response({"status": "error", "errorType": kind, "error": text}, status=status)
