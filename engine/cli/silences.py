"""Commands about silences: add, list, expire. While one holds for an alert nothing is done and nobody is told."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import asyncpg
import typer

from engine.cli.common import By, Config, Set, settings, with_store
from engine.cli.output import NO, Json, Stop, say, say_json, say_table, table
from engine.console.pages import clock_time, span
from engine.console.silences import alertmanager_silence, parse_time_ms
from engine.core import duration
from engine.core.labels import parse_matcher
from engine.edge import silences as rows
from engine.edge.clock import now_ms
from engine.edge.database import Database
from engine.edge.settings import Settings
from engine.response.silences import Silence, SilenceKind, Window, checked

silence = typer.Typer(help="Leave alerts alone for a while: nothing is done, nobody is told.", no_args_is_help=True)
_LIST_MAX = 500


@silence.command("add")
def silence_add(
    matchers: Annotated[
        list[str], typer.Argument(metavar="MATCHER...", help="As Alertmanager's, all must hold: 'service=\"bridge\"'.")
    ],
    by: By,
    comment: Annotated[str, typer.Option("--comment", help="Why; kept in the audit.")],
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="From now, such as 2h; or later: 2026-12-01T22:00:00Z/3h.")
    ],
    maintenance: Annotated[bool, typer.Option("--maintenance", help="Planned work: so named in the audit.")] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Silence the alerts that fit all matchers."""
    kind: SilenceKind = "maintenance" if maintenance else "silence"
    try:
        starts_ms, ends_ms = _times(for_)
        asked = tuple(parse_matcher(text) for text in matchers)
        wanted = checked(Silence(rows.new_id(), asked, starts_ms, ends_ms, by.strip(), comment.strip(), kind))
    except ValueError as error:
        raise Stop(str(error)) from error

    async def work(database: Database) -> Silence:
        async def keep(conn: asyncpg.Connection) -> Silence:
            return await rows.add(conn, wanted, now_ms())

        return await database.run(keep)

    kept = with_store(settings(config, set_).settings, work)
    say(f"{kept.kind} {kept.id}")
    say(f"  {_matchers(kept)}")
    say(f"  from {clock_time(kept.starts_ms)} until {clock_time(kept.ends_ms)}")


def _times(text: str) -> tuple[int, int]:
    """Start and end: a duration from now on, or START/DURATION. Raises `ValueError`."""
    start, slash, lasts = text.rpartition("/")
    starts_ms = parse_time_ms(start) if slash else now_ms()
    return starts_ms, starts_ms + duration.parse_ms(lasts)


@silence.command("list")
def silence_list(
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """List silences, and the maintenance windows of the settings that hold now."""
    current, now = settings(config, set_).settings, now_ms()

    async def work(database: Database) -> list[Silence]:
        async with database.connection() as conn:
            return await rows.newest(conn, _LIST_MAX) if all_ else list(await rows.not_over(conn, now))

    found = with_store(current, work)
    if json:
        say_json([alertmanager_silence(one, now) for one in found])
        return
    windows = _windows_now(current, now)
    if not found and not windows:
        say("no silence")
        return
    shown = table("ID", "KIND", "STATE", "ENDS", "MATCHERS", "BY", "COMMENT")
    for one in found:
        state, ends = one.state(now), clock_time(one.ends_ms)
        shown.add_row(one.id, one.kind, state, ends, _matchers(one), one.by, one.comment)
    for window, until_ms in windows:
        matchers = " ".join(str(matcher) for matcher in window.matchers)
        shown.add_row("", "window", "active", clock_time(until_ms), matchers, "settings", window.name)
    say_table(shown)


def _windows_now(current: Settings, now: int) -> list[tuple[Window, int]]:
    found = [(window, window.until_ms(now)) for window in (one.window() for one in current.responder.maintenance)]
    return [(window, until_ms) for window, until_ms in found if until_ms is not None]


@silence.command("expire")
def silence_expire(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="As listed, or how it begins.")],
    by: By,
    config: Config = None,
    set_: Set = None,
) -> None:
    """End a silence now; incidents that it held go on."""
    if not by.strip():
        raise Stop("--by must be a name")
    now = now_ms()

    async def work(database: Database) -> Silence | Literal["none", "several"]:
        async def end(conn: asyncpg.Connection) -> Silence | Literal["none", "several"]:
            fitting = [one for one in await rows.not_over(conn, now) if one.id.startswith(silence_id.lower())]
            if len(fitting) != 1:
                return "several" if fitting else "none"
            return await rows.expire(conn, fitting[0].id, by.strip(), now) or "none"

        return cast("Silence | Literal['none', 'several']", await database.run(end))

    ended = with_store(settings(config, set_).settings, work)
    if ended == "several":
        raise Stop(f"several silences begin with {silence_id}; write more of it", NO)
    if ended == "none":
        raise Stop(f"no silence {silence_id} holds or will; `sentinel silence list` lists them", NO)
    say(f"{ended.kind} {ended.id} is over: {_matchers(ended)} ({span(now - ended.starts_ms)} after its start)")


def _matchers(one: Silence) -> str:
    return " ".join(str(matcher) for matcher in one.matchers)
