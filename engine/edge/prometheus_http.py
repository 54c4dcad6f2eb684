"""Prometheus's HTTP API as a format: parameters in, JSON answers out. Which path answers what is not known here.

Reference: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw
from multidict import MultiDict

from engine.core import duration
from engine.core.expression import EvaluationError, ExpressionError
from engine.vector import format as fmt

FIRST_MS, LAST_MS = -(2**53), 2**53
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOTES = {"warn": ("warnings", "PromQL warning: "), "info": ("infos", "PromQL info: ")}

Notes = Mapping[tuple[str, str], None]


class ApiError(Exception):
    """A request that cannot be answered: HTTP status, Prometheus's `errorType`, and what was wrong."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def bad_parameter(name: str, problem: object) -> ApiError:
    """The error for a parameter that cannot be used."""
    return ApiError(400, "bad_data", f'invalid parameter "{name}": {problem}')


class Parameters:
    """The parameters of a request, from its address and, if it is a POST, its form."""

    def __init__(self, values: MultiDict[str]) -> None:
        self._values = values

    @classmethod
    async def of(cls, request: web.Request) -> Parameters:
        """Read them. Fields that are files are passed over."""
        values: MultiDict[str] = MultiDict(request.query)
        if request.method == "POST":
            values.extend((name, text) for name, text in (await request.post()).items() if isinstance(text, str))
        return cls(values)

    def text(self, name: str) -> str:
        """The first value, or ""."""
        return self._values.get(name, "")

    def all(self, name: str) -> list[str]:
        """Every value."""
        return self._values.getall(name, [])

    def time_ms(self, name: str, default_ms: int | None = None) -> int:
        """A time: seconds since 1970, or RFC 3339. Raises `ApiError`, also where there is none and no default."""
        text = self.text(name)
        if not text and default_ms is not None:
            return default_ms
        found = _time_ms(text)
        if found is None:
            raise bad_parameter(name, f'cannot parse "{text}" to a valid timestamp')
        return found

    def duration_ms(self, name: str, default_ms: int | None = None) -> int:
        """A duration: seconds, or as in PromQL. Raises `ApiError`, also where there is none and no default."""
        text = self.text(name)
        if not text and default_ms is not None:
            return default_ms
        try:
            found = float(text) * 1000 if _NUMBER.fullmatch(text) else duration.parse_ms(text)
        except ValueError as error:
            raise bad_parameter(name, f'cannot parse "{text}" to a valid duration') from error
        if abs(found) > LAST_MS:
            raise bad_parameter(name, f'"{text}" is too long a duration')
        return math.floor(found)

    def limit(self) -> int:
        """How many results at most; 0: all. Raises `ApiError`."""
        text = self.text("limit") or "0"
        if not text.isascii() or not text.isdecimal():
            raise bad_parameter("limit", f'"{text}" is not a whole number from 0 on')
        return int(text)


def _time_ms(text: str) -> int | None:
    if _NUMBER.fullmatch(text):
        found = float(text) * 1000
        return round(found) if abs(found) <= LAST_MS else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or "T" not in text:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def point(t_ms: int, value: float) -> list[Any]:
    """A sample: time in seconds as a number, value as a string."""
    return [seconds(t_ms), fmt.json_number(value)]


def seconds(t_ms: int) -> Raw:
    """A time in seconds, exactly as Prometheus prints it."""
    return Raw(fmt.json_seconds(t_ms).encode())


def rfc3339(t_ms: int) -> str:
    """A time as Go prints it: RFC 3339 in UTC, without zeros at the end of the fraction."""
    whole, part = divmod(t_ms, 1000)
    fraction = f".{part:03d}".rstrip("0") if part else ""
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def success(data: object, notes: Notes | None = None, *, truncated: bool = False) -> web.Response:
    """The answer with its data, and its warnings and infos if there are any."""
    body: dict[str, Any] = {"status": "success", "data": data}
    for severity, text in notes or {}:
        field, prefix = _NOTES[severity]
        body.setdefault(field, []).append(prefix + text)
    if truncated:
        body.setdefault("warnings", []).append("results truncated due to limit")
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


def cut(found: list[Any], limit: int) -> tuple[list[Any], bool]:
    """The first `limit` results (0: all), and whether there were more."""
    return (found[:limit], True) if 0 < limit < len(found) else (found, False)


Answer = Callable[[web.Request, Parameters], Awaitable[web.Response]]


def route(methods: Iterable[str], path: str, answer: Answer) -> list[web.RouteDef]:
    """The routes of one path: what `answer` returns, or its `ApiError` in Prometheus's format."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await answer(request, await Parameters.of(request))
        except ApiError as error:
            return _failure(error)
        except ExpressionError as error:
            return _failure(bad_parameter("query", f"{error.line}:{error.column}: parse error: {error.message}"))
        except EvaluationError as error:
            return _failure(ApiError(422, "execution", str(error)))

    return [web.route(method, path, handle) for method in methods]


def _failure(error: ApiError) -> web.Response:
    body = {"status": "error", "errorType": error.kind, "error": str(error)}
    return web.json_response(body, status=error.status)
