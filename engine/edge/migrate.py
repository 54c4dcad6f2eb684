"""Brings the schema of a database to what this program needs.

Migrations are the `*.sql` files in `engine/edge/migrations`, in name order. Each runs once, in one transaction, and is
recorded with its checksum: a file that was changed after it ran somewhere would mean that two databases with the same
version differ, so that is an error and not a guess.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import asyncpg

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x5E47_13E1  # any constant of ours: only one process migrates at a time

_TABLE = """
create table if not exists schema_migrations (
    name       text primary key,
    checksum   text not null,
    applied_at timestamptz not null default now()
)"""


class MigrationError(Exception):
    """The database's schema and this program do not fit; names the migration and what to do."""


async def migrate(conn: asyncpg.Connection, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing; returns the names applied. Raises `MigrationError`; a failed file changed nothing."""
    files = _read(folder)
    await conn.execute("select pg_advisory_lock($1)", _LOCK)
    try:
        await conn.execute(_TABLE)
        rows = await conn.fetch("select name, checksum from schema_migrations")
        recorded = {row["name"]: row["checksum"] for row in rows}
        _compare(files, recorded)
        missing = [name for name in files if name not in recorded]
        for name in missing:
            await _apply(conn, name, files[name])
        return missing
    finally:
        await conn.execute("select pg_advisory_unlock($1)", _LOCK)


def _read(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.sql"))}


def _compare(files: dict[str, str], recorded: dict[str, str]) -> None:
    for name, checksum in recorded.items():
        if name not in files:
            raise MigrationError(
                f"the database has migration {name}, which this program does not know: it was made by a newer "
                "program; run that one, or use another database (setting database.url)"
            )
        if _checksum(files[name]) != checksum:
            raise MigrationError(
                f"migration {name} was changed after it ran on this database; restore the file and put the change "
                "into a new migration"
            )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def _apply(conn: asyncpg.Connection, name: str, text: str) -> None:
    try:
        async with conn.transaction():
            await conn.execute(text)
            await conn.execute("insert into schema_migrations (name, checksum) values ($1, $2)", name, _checksum(text))
    except asyncpg.PostgresError as error:
        raise MigrationError(f"migration {name} failed and was rolled back: {error}") from error
