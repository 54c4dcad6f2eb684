"""What commands share that work with settings and the database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer

from engine.cli.output import Stop, show_problem
from engine.edge import runtime
from engine.edge.database import Database, DatabaseError, open_database
from engine.edge.embedded_postgres import EmbeddedPostgresError
from engine.edge.settings import Settings
from engine.edge.settings_load import Loaded, SettingsError, load, parse_set

T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings file (default: ./sentinel.yml if there)."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key, e.g. kafka.url=...; repeatable.")
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; kept in the audit.")]


def settings(config: Path | None, sets: Iterable[str] | None, **named: str | None) -> Loaded:
    """The settings in force for a command; `named` are flags that stand for one key (`http_listen` for http.listen).

    Raises `Stop` with everything that is wrong with them.
    """
    flags = [parse_set(text) for text in sets or ()]
    flags += [(f"--{flag.replace('_', '-')}", _NAMED[flag], text) for flag, text in named.items() if text is not None]
    try:
        return load(config, flags, os.environ)
    except SettingsError as error:
        shown = [*(show_problem(problem) for problem in error.problems), *error.messages]
        raise Stop("\n".join(["the settings cannot be used:", *shown])) from error


_NAMED = {"listen": "http.listen", "state_dir": "state_dir", "mode": "responder.mode", "log_level": "log.level"}


@asynccontextmanager
async def open_store(current: Settings) -> AsyncIterator[Database]:
    """The database: the one of the settings, else that of the running process, else the embedded one at rest."""
    url = current.database.url
    if not url:
        running = runtime.find(current.state_dir)
        url = running.database_url if running else ""
    if not url and not (current.state_dir / "postgres").is_dir():
        raise Stop(
            f"nothing runs with the state folder {current.state_dir} and it holds no database; start `sentinel run`, "
            "or name the database: --set database.url=postgresql://..."
        )
    try:
        async with open_database(url, current.state_dir, migrations=not url, pool_size=2) as database:
            yield database
    except asyncpg.UndefinedTableError as error:
        raise Stop(f"the database has no Sentinel tables ({error}); `sentinel run` makes them at its start") from error
    except (DatabaseError, EmbeddedPostgresError) as error:
        raise Stop(str(error)) from error


def with_store(current: Settings, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Run asynchronous work on the opened database."""

    async def _run() -> T:
        async with open_store(current) as database:
            return await work(database)

    return asyncio.run(_run())
