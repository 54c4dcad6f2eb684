"""Asks the world the questions of `investigate` steps: read-only, within a time, within a size.

Whatever goes wrong is an answer too (`Evidence.ok` false with the reason), never an exception and never an empty list:
not knowing is not the same as there being nothing.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import math
from collections.abc import Mapping, Sequence

import asyncpg
import httpx
import msgspec

from engine.actions import HttpHost
from engine.edge.database import masked
from engine.response.model import Evidence, HttpGet, Investigate, PostgresQuery, PromqlQuery
from engine.response.words import cleaned, span, without_nul

_MAX_BYTES = 256 * 1024
_CONNECT_TIMEOUT_S = 5.0


class InvestigationError(Exception):
    """A question cannot be answered; the message is what the timeline says."""


class Investigator:
    """Answers questions. `databases` are URLs of roles that can only read, `query_url` is the base of a Prometheus."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        databases: Mapping[str, str],
        hosts: Mapping[str, HttpHost],
        query_url: str,
    ) -> None:
        self._http = http
        self._databases = databases
        self._hosts = hosts
        self._query_url = query_url.rstrip("/")

    async def find(self, asked: Investigate, now_ms: int) -> Evidence:
        """The answer, within the question's time limit."""
        try:
            async with asyncio.timeout(asked.timeout_ms / 1000):
                found = await self._ask(asked, now_ms)
            if len(msgspec.json.encode(found)) > _MAX_BYTES:
                raise InvestigationError(f"the answer is longer than {_MAX_BYTES // 1024} KiB")
            return cleaned(found)
        except TimeoutError:
            why = f"no answer within {span(asked.timeout_ms)}"
        except InvestigationError as error:
            why = str(error)
        except Exception as error:  # drivers and decoders raise what they like; not knowing must never hang an incident
            why = masked(f"{type(error).__name__}: {error}")
        return Evidence(False, now_ms, error=without_nul(why))

    async def _ask(self, asked: Investigate, now_ms: int) -> Evidence:
        query = asked.query
        if isinstance(query, PostgresQuery):
            return await self._postgres(query, asked, now_ms)
        if isinstance(query, HttpGet):
            return await self._get(query, now_ms)
        return await self._promql(query, asked.max_rows, now_ms)

    async def _postgres(self, query: PostgresQuery, asked: Investigate, now_ms: int) -> Evidence:
        url = self._databases.get(query.database)
        if url is None:
            raise InvestigationError(f"no database {query.database!r} in responder.databases")
        settings = {"statement_timeout": str(asked.timeout_ms), "default_transaction_read_only": "on"}
        conn = await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S, server_settings=settings)
        try:
            async with conn.transaction(readonly=True):
                cursor = await conn.cursor(query.query, *query.params)
                rows = await cursor.fetch(asked.max_rows + 1)
        except (TypeError, ValueError) as error:
            raise InvestigationError(f"a parameter does not fit the query: {error}") from error
        finally:
            conn.terminate()  # nothing to finish in a read-only transaction, and a close could wait for a slow server
        kept = [{name: _plain(value) for name, value in row.items()} for row in rows[: asked.max_rows]]
        return Evidence(True, now_ms, kept, truncated=len(rows) > asked.max_rows)

    async def _promql(self, query: PromqlQuery, max_rows: int, now_ms: int) -> Evidence:
        if not self._query_url:
            raise InvestigationError("no responder.query_url is set")
        response = await self._http.get(f"{self._query_url}/api/v1/query", params={"query": query.query})
        try:
            answer = response.json()
            if answer["status"] != "success":
                raise InvestigationError(f"{answer.get('errorType', 'error')}: {answer.get('error', '')}")
            data = answer["data"]
            items = [{"metric": {}, "value": data["result"]}] if data["resultType"] == "scalar" else data["result"]
            rows: list[dict[str, object]] = [
                {"labels": item["metric"], "value": _number(item["value"])} for item in items[:max_rows]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InvestigationError(f"HTTP {response.status_code} and not the answer of a Prometheus") from error
        return Evidence(True, now_ms, rows, truncated=len(items) > max_rows)

    async def _get(self, query: HttpGet, now_ms: int) -> Evidence:
        host = self._hosts.get(query.host)
        if host is None:
            raise InvestigationError(f"no host {query.host!r} in responder.hosts")
        headers = {"Authorization": f"Bearer {host.token}"} if host.token else {}
        url = f"{host.base_url.rstrip('/')}{query.path}"
        response = await self._http.get(url, headers=headers, follow_redirects=False)
        try:
            body: object = response.json()
        except ValueError:
            body = response.text
        return Evidence(True, now_ms, status=response.status_code, body=body)


def _number(value: Sequence[object]) -> float | None:
    """The number of a sample; None for NaN and infinities, which compare with nothing."""
    number = float(str(value[1]))
    return number if math.isfinite(number) else None


def _plain(value: object) -> object:
    """A value of a row as JSON has it."""
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
