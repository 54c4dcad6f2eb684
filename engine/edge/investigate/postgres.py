"""Rows of a read-only query of PostgreSQL."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Mapping

import asyncpg

from engine.edge.investigate._found import Found, InvestigationError
from engine.response.model import Investigate, PostgresQuery

_CONNECT_TIMEOUT_S = 5.0


async def query_postgres(databases: Mapping[str, str], query: PostgresQuery, asked: Investigate) -> Found:
    """The rows of a query, one more than asked for if there are more."""
    url = databases.get(query.database)
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
    return Found([{name: _plain(value) for name, value in row.items()} for row in rows])


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
