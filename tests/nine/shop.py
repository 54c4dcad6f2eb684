"""The watched PostgreSQL: the seed's databases and tables, and the roles of those who use, read and repair them."""

from __future__ import annotations

import asyncpg

from engine.edge.database import url_of

APP, READER, EXECUTOR = "aureus", "sentinel_reader", "sentinel_executor"
MAX_CONNECTIONS = 120
UNSUSPICIOUS, LEAKED = 90, 106  # connections of a service: below the threshold, and above it
SETTINGS = {
    "max_connections": str(MAX_CONNECTIONS),
    "superuser_reserved_connections": "3",
    "track_activities": "on",
    "pg_stat_statements.track": "all",
}
_ROLES = f"""
create extension pg_stat_statements;
create role {APP} login createdb;
create role {READER} login connection limit 20;
alter role {READER} set default_transaction_read_only = on;
create role {EXECUTOR} login connection limit 10;
"""
_TABLES = {
    "aureus_os": """
        create table policy_violations (
            id bigserial primary key, policy_id text not null, source_user text not null,
            source_channel text not null, created_at timestamptz not null default now());
    """,
    "bridge": """
        create table audit_log (
            id bigserial primary key, action text not null, result text not null, reason text not null default '',
            key_id text not null default '', source text not null default '',
            "timestamp" timestamptz not null default now());
    """,
}
DATABASES = ("postgres", *_TABLES)


async def build(admin_url: str) -> None:
    """Roles, databases and tables; those of Sentinel may do nothing yet, not even connect."""
    server = await asyncpg.connect(admin_url)
    await server.execute(_ROLES)
    for name, tables in _TABLES.items():
        await server.execute(f"create database {name} owner {APP}")
        await server.execute(f"revoke connect on database {name} from public")
        within = await asyncpg.connect(url_of(admin_url, name))
        await within.execute(tables)
        await within.execute(f"grant all on all tables in schema public to {APP}")
        await within.close()
    await server.close()


def url_as(admin_url: str, role: str, database: str) -> str:
    """The URL of a database for a role."""
    return url_of(admin_url, database).replace("postgres@", f"{role}@")


async def grant(admin_url: str, printed: str) -> None:
    """Run what `sentinel permissions --format sql` printed, each part in its database, as `psql` would."""
    for part in printed.split("-- database ")[1:]:
        name, _, statements = part.partition("\n")
        conn = await asyncpg.connect(url_of(admin_url, name.strip()))
        await conn.execute(statements)
        await conn.close()
