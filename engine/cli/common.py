"""What every command shares: options, settings, the database, output, and errors in one clear line.

Exit codes: 0 done; 1 the answer is no (a file has errors, a test failed, a replay differs, there is no such
incident); 2 it could not be asked (wrong usage or settings, nothing to connect to); 130 interrupted.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.core.diagnostics import Problem
from engine.core.masking import mask_text
from engine.edge import runtime
from engine.edge.database import Database, DatabaseError, open_database
from engine.edge.embedded_postgres import EmbeddedPostgresError
from engine.edge.settings import Settings
from engine.edge.settings_load import Loaded, SettingsError, load, parse_set

T = TypeVar("T")

NO = 1
CANNOT = 2

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings file (default: ./sentinel.yml if there)."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key, e.g. kafka.url=...; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; kept in the audit.")]


class Stop(Exception):  # noqa: N818  # it ends a command, which is not always an error
    """End the command with a message on standard error and an exit code."""

    def __init__(self, message: str, code: int = CANNOT) -> None:
        super().__init__(message)
        self.code = code


def settings(config: Path | None, sets: Iterable[str] | None, **named: str | None) -> Loaded:
    """The settings in force for a command; `named` are flags that stand for one key (`http_listen` for http.listen)."""
    flags = [parse_set(text) for text in sets or ()]
    flags += [(f"--{flag.replace('_', '-')}", _NAMED[flag], text) for flag, text in named.items() if text is not None]
    return load(config, flags, os.environ)


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


def say(text: str | Text = "") -> None:
    """Print text for a person (markup is not interpreted: it may come from outside)."""
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(text)


def say_table(table: Table) -> None:
    """Print a table; as wide as its content when not on a terminal, so that nothing is cut off in a pipe."""
    Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 240).print(table)


def table(*columns: str) -> Table:
    """An empty table in the house style."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def say_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def complain(text: str) -> None:
    """Print a line on standard error, with secrets masked."""
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False).print(mask_text(text))


def show_problem(problem: Problem, source: str | None = None) -> str:
    """A problem as a compiler shows it: `file:line:column`, the line of the source, a caret under the place."""
    text = str(problem)
    if source is None:
        try:
            source = Path(problem.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return text
    lines = source.splitlines()
    if not 1 <= problem.line <= len(lines):
        return text
    line = lines[problem.line - 1]
    number = str(problem.line)
    # Tabs stay tabs in the padding, so that the caret stands right whatever a tab is worth.
    padding = "".join("\t" if sign == "\t" else " " for sign in line[: problem.column - 1])
    margin = " " * len(number)
    return f"{text}\n {number} | {line}\n {margin} | {padding}^"


def explain(error: Exception) -> tuple[str, int]:
    """The message and exit code for an error that a command did not handle itself."""
    if isinstance(error, Stop):
        return f"sentinel: {error}", error.code
    if isinstance(error, SettingsError):
        shown = [*(show_problem(problem) for problem in error.problems), *error.messages]
        return "\n".join(["sentinel: the settings cannot be used:", *shown]), CANNOT
    text = str(error).strip() or type(error).__name__
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"sentinel: {kind}{text} (--debug shows where)", CANNOT


def fail(error: Exception) -> NoReturn:
    """End the process for an error, in its own words."""
    message, code = explain(error)
    complain(message)
    raise SystemExit(code)
