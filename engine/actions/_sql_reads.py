"""What a query of an investigation reads, and so what its PostgreSQL role must be allowed. Nothing here connects.

The query is parsed, not searched: names of common table expressions, functions and values are no tables. Source: the
PostgreSQL manual, "Predefined Roles" and "The Cumulative Statistics System".
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.actions._sql import SqlGrant, SqlNote, SqlPrivilege

SqlNeed = SqlGrant | SqlPrivilege | SqlNote

_SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "pg_toast")
_DEFAULT_SCHEMA = "public"  # what is written without a schema is looked for there
# Everybody may read these, but sees of others little more than that they are there.
_STATISTICS = ("pg_stat_activity", "pg_stat_replication", "pg_stat_ssl", "pg_stat_gssapi", "pg_stat_wal_receiver")
_STATISTICS_BEGIN = ("pg_stat_statements", "pg_stat_progress_")


def query_needs(query: str) -> tuple[SqlNeed, ...]:
    """The permissions that a query takes beside those that everybody has, sorted by what is read."""
    try:
        tables = sorted(set(_tables(query)))
    except ValueError:
        return (SqlNote("SELECT on what the query reads: Sentinel could not parse it"),)
    needs: list[SqlNeed] = []
    for schema, table in tables:
        if table in _STATISTICS or table.startswith(_STATISTICS_BEGIN):
            needs.append(SqlGrant("pg_read_all_stats"))
        elif schema not in _SYSTEM_SCHEMAS and (schema or not table.startswith("pg_")):
            path = (schema or _DEFAULT_SCHEMA, table)
            needs += [SqlPrivilege("USAGE", "SCHEMA", path[:1]), SqlPrivilege("SELECT", "TABLE", path)]
    return tuple(dict.fromkeys(needs))


def _tables(query: str) -> Iterator[tuple[str, str]]:
    """Each table or view that a query names, with its schema ("" if none is written). Raises `ValueError`."""
    import sqlglot  # a third of a second, which only those pay who ask for permissions
    from sqlglot.optimizer.scope import traverse_scope

    try:
        scopes = traverse_scope(sqlglot.parse_one(query, dialect="postgres"))
    except sqlglot.errors.SqlglotError as error:
        raise ValueError(str(error)) from error
    for scope in scopes:
        for source in scope.sources.values():
            if isinstance(source, sqlglot.exp.Table) and isinstance(source.this, sqlglot.exp.Identifier):
                schema, table = source.args.get("db"), source.this
                yield _name(schema.this, schema.quoted) if schema else "", _name(table.this, table.quoted)


def _name(text: str, quoted: bool) -> str:
    """A name as PostgreSQL takes it: small letters unless it is quoted."""
    return text if quoted else text.lower()
