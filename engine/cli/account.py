"""Commands that look at many incidents: account, stats."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from engine.cli.common import Config, Set, settings, with_store
from engine.cli.output import Json, Stop, say, say_json, say_table, table
from engine.console.pages import span
from engine.core import duration
from engine.edge.clock import now_ms
from engine.edge.console_store import PostgresStore
from engine.response.account import render_account
from engine.response.stats import Stats, stats_of


def account(
    day: Annotated[str, typer.Option("--day", metavar="DAY", help="Such as 2026-11-24, in UTC; default today.")] = "",
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Print what a day came to: what was done, what would have been done, what people did."""
    try:
        wanted = dt.date.fromisoformat(day) if day else dt.datetime.fromtimestamp(now_ms() / 1000, dt.UTC).date()
    except ValueError as error:
        raise Stop(f"not a day: {day!r} (write it like 2026-11-24)") from error
    current = settings(config, set_).settings
    from engine.edge.roles import policy  # Faust takes a second to import: only here

    found = with_store(current, lambda db: PostgresStore(db, now_ms, policy(current.responder)).account(wanted))
    if json:
        say_json(found)
    else:
        typer.echo(render_account(found), nl=False)


def stats(
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="Opened within this time.")] = "30d",
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Print mean times to acknowledge and to resolve, by runbook and severity."""
    try:
        since_ms = duration.parse_ms(since)
    except ValueError as error:
        raise Stop(str(error)) from error
    now = now_ms()
    found = with_store(
        settings(config, set_).settings, lambda db: PostgresStore(db, now_ms).lifetimes(now - since_ms, now + 1)
    )
    counted = stats_of(found, now)
    if json:
        say_json(counted)
        return
    shown = table("RUNBOOK", "SEVERITY", "INCIDENTS", "OPEN", "ACKNOWLEDGED", "BY ITSELF", "MTTA", "MTTR", "LONGEST")
    for one in counted:
        shown.add_row(*_row(one))
    say_table(shown)
    waiting = counted[0].open_unacknowledged
    if waiting:
        oldest = span(counted[0].oldest_open_ms or 0)
        say(f"{waiting} open and not acknowledged, not in any mean; the oldest open one for {oldest}")


def _row(one: Stats) -> tuple[str, ...]:
    times = (span(ms) if ms is not None else "" for ms in (one.mtta_ms, one.mttr_ms, one.longest_ms))
    counts = (one.incidents, one.open, one.acknowledged, one.by_itself)
    return one.runbook or "all", one.severity, *(str(count) for count in counts), *times
