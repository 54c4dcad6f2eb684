"""Asks the world the questions of `investigate` steps: read-only, within a time, within a size. One file per source.

Whatever goes wrong is an answer too (`Evidence.ok` false with the reason), never an exception and never an empty list:
not knowing is not the same as there being nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import assert_never

import httpx
import msgspec

from engine.actions import HttpHost
from engine.edge.database import masked
from engine.edge.investigate._found import Found, InvestigationError
from engine.edge.investigate.http import get
from engine.edge.investigate.kubernetes import Cluster, read_cluster
from engine.edge.investigate.logql import Loki, query_loki
from engine.edge.investigate.postgres import query_postgres
from engine.edge.investigate.promql import query_prometheus
from engine.response.model import (
    Evidence,
    HttpGet,
    Investigate,
    KubernetesRead,
    LogqlQuery,
    PostgresQuery,
    PromqlQuery,
)
from engine.response.words import cleaned, span, without_nul

__all__ = ["Cluster", "InvestigationError", "Investigator", "Loki"]

_MAX_BYTES = 256 * 1024


class Investigator:
    """Answers questions. `databases` are URLs of roles that can only read, `query_url` is the base of a Prometheus."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        databases: Mapping[str, str],
        hosts: Mapping[str, HttpHost],
        query_url: str,
        loki: Loki | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self._http = http
        self._databases = databases
        self._hosts = hosts
        self._query_url = query_url
        self._loki = loki
        self._cluster = cluster

    async def find(self, asked: Investigate, now_ms: int) -> Evidence:
        """The answer, within the question's time limit."""
        try:
            async with asyncio.timeout(asked.timeout_ms / 1000):
                found = await self._ask(asked, now_ms)
            rows, more = found.rows[: asked.max_rows], found.truncated or len(found.rows) > asked.max_rows
            evidence = Evidence(True, now_ms, rows, found.status, found.body, truncated=more)
            if len(msgspec.json.encode(evidence)) > _MAX_BYTES:
                raise InvestigationError(f"the answer is longer than {_MAX_BYTES // 1024} KiB")
            return cleaned(evidence)
        except TimeoutError:
            why = f"no answer within {span(asked.timeout_ms)}"
        except InvestigationError as error:
            why = str(error)
        except Exception as error:  # drivers and decoders raise what they like; not knowing must never hang an incident
            why = masked(f"{type(error).__name__}: {error}")
        return Evidence(False, now_ms, error=without_nul(why))

    async def _ask(self, asked: Investigate, now_ms: int) -> Found:
        query = asked.query
        if isinstance(query, PostgresQuery):
            return await query_postgres(self._databases, query, asked)
        if isinstance(query, PromqlQuery):
            return await query_prometheus(self._http, self._query_url, query)
        if isinstance(query, LogqlQuery):
            return await query_loki(self._loki, query, min(query.limit, asked.max_rows), now_ms)
        if isinstance(query, KubernetesRead):
            return await read_cluster(self._cluster, query, asked.max_rows)
        if isinstance(query, HttpGet):
            return await get(self._http, self._hosts, query)
        assert_never(query)
