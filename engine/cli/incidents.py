"""Commands that read incidents and decide about them: incidents, incident, report, approvals, approve, deny, pause."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import (
    NO,
    By,
    Config,
    Json,
    Set,
    Stop,
    say,
    say_json,
    say_table,
    settings,
    table,
    with_store,
)
from engine.console.model import Decision, DecisionRefusedError, Incident, IncidentDetail
from engine.console.pages import clock_time, compact, place, span
from engine.edge.console_store import PostgresStore
from engine.edge.database import Database
from engine.edge.settings import Settings

Number = Annotated[int, typer.Argument(metavar="N", help="Number of the incident.")]


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def incidents(
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most incidents shown.")] = 100,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """List incidents, newest first."""
    current = settings(config, set_).settings
    found = with_store(current, lambda db: PostgresStore(db, now_ms).incidents(open_only=open_only, limit=limit))
    if json:
        say_json(found)
        return
    if not found:
        say("no open incident" if open_only else "no incident")
        return
    shown = table("N", "PRIORITY", "STATE", "AGE", "LASTED", "INCIDENT", "WHERE")
    now = now_ms()
    for incident in found:
        shown.add_row(*_row(incident, now))
    say_table(shown)


def _row(incident: Incident, now: int) -> tuple[str, ...]:
    lasted = "" if incident.is_open else span(incident.closed_ms - incident.opened_ms)
    age = span(now - incident.opened_ms)
    where = place(incident.labels)
    return str(incident.id), incident.priority, incident.state, age, lasted, incident.title, where


def incident(number: Number, json: Json = False, config: Config = None, set_: Set = None) -> None:
    """Show one incident: its timeline, commands, what waits for a person."""
    detail = _detail(number, settings(config, set_).settings)
    if json:
        say_json(detail)
        return
    head = detail.incident
    say(f"#{head.id} {head.title}")
    say(f"{head.priority}  {head.state}  {head.severity}  {place(head.labels)}")
    say(f"rule {head.rule}, opened {clock_time(head.opened_ms)}")
    if not head.is_open:
        say(f"closed {clock_time(head.closed_ms)} after {span(head.closed_ms - head.opened_ms)}")
    _say_timeline(detail)
    _say_commands(detail)
    for waiting in detail.approvals:
        say(f"\nwaits for a person: {waiting.action} on {waiting.target} {compact(waiting.params)}")
        say(f"  sentinel approve {waiting.command} --by NAME     (or deny; until {clock_time(waiting.expires_ms)})")


def _say_timeline(detail: IncidentDetail) -> None:
    say("\nTimeline")
    shown = table("", "", "")
    shown.show_header = False
    for entry in detail.timeline:
        shown.add_row(f"  {clock_time(entry.at_ms)}", entry.kind, entry.text)
    say_table(shown)


def _say_commands(detail: IncidentDetail) -> None:
    if not detail.commands:
        return
    say("\nCommands")
    shown = table("  STEP", "ACTION", "TARGET", "OUTCOME", "WHY")
    for command in detail.commands:
        shown.add_row(f"  {command.step}", command.action, command.target, command.status, command.reason)
    say_table(shown)


def _detail(number: int, current: Settings) -> IncidentDetail:
    detail = with_store(current, lambda db: PostgresStore(db, now_ms).incident(number))
    if detail is None:
        raise Stop(f"there is no incident {number}; `sentinel incidents` lists them", NO)
    return detail


def report(
    number: Number,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Print the incident report in Markdown, written from the stored rows."""
    text = with_store(settings(config, set_).settings, lambda db: PostgresStore(db, now_ms).report(number))
    if text is None:
        raise Stop(f"there is no incident {number}; `sentinel incidents` lists them", NO)
    if output is not None:
        output.write_text(text, encoding="utf-8")
        say(f"written to {output}")
    elif json:
        say_json({"incident": number, "markdown": text})
    else:
        typer.echo(text, nl=not text.endswith("\n"))


def approvals(json: Json = False, config: Config = None, set_: Set = None) -> None:
    """List commands that wait for a person."""
    found = with_store(settings(config, set_).settings, lambda db: PostgresStore(db, now_ms).approvals())
    if json:
        say_json(found)
        return
    if not found:
        say("nothing waits for approval")
        return
    shown = table("ID", "INCIDENT", "ACTION", "TARGET", "EXPIRES IN", "PARAMETERS")
    for waiting in found:
        left = span(waiting.expires_ms - now_ms())
        number = str(waiting.incident)
        shown.add_row(waiting.command, number, waiting.action, waiting.target, left, compact(waiting.params))
    say_table(shown)


CommandId = Annotated[str, typer.Argument(metavar="ID", help="The command, as `sentinel approvals` shows it.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the audit.")]


def approve(command: CommandId, by: By, reason: Reason = "", config: Config = None, set_: Set = None) -> None:
    """Approve a command that waits; it is then run."""
    _decide(command, by, reason, settings(config, set_).settings, approve=True)


def deny(command: CommandId, by: By, reason: Reason = "", config: Config = None, set_: Set = None) -> None:
    """Deny a command that waits; it is never run."""
    _decide(command, by, reason, settings(config, set_).settings, approve=False)


def _decide(command: str, by: str, reason: str, current: Settings, *, approve: bool) -> None:
    if not by.strip():
        raise Stop("--by must be a name")

    async def work(database: Database) -> str:
        store = PostgresStore(database, now_ms)
        # What is approved is what is stored now: the hash names it, should it be exchanged in between.
        waiting = {found.command: found for found in await store.approvals()}
        sha256 = waiting[command].body_sha256 if command in waiting else ""
        await store.decide(command, Decision(approve, by.strip(), sha256, reason), now_ms())
        return sha256

    try:
        sha256 = with_store(current, work)
    except DecisionRefusedError as error:
        raise Stop(f"not decided: {error}", NO) from error
    say(f"{'approved' if approve else 'denied'} by {by.strip()}: command {command} (sha256 {sha256[:16]})")


def pause(by: By, config: Config = None, set_: Set = None) -> None:
    """Stop every command, everywhere, at once; detection goes on."""
    _set_pause(True, by, settings(config, set_).settings)


def resume(by: By, config: Config = None, set_: Set = None) -> None:
    """Let commands run again."""
    _set_pause(False, by, settings(config, set_).settings)


def _set_pause(paused: bool, by: str, current: Settings) -> None:
    if not by.strip():
        raise Stop("--by must be a name")
    with_store(current, lambda db: PostgresStore(db, now_ms).set_pause(paused=paused, by=by.strip(), now_ms=now_ms()))
    say(f"{'paused' if paused else 'resumed'} by {by.strip()}")
