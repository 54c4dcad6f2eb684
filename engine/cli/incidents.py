"""Commands that read incidents: incidents, incident, report. `engine.cli.decide` has those that change something."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import Config, Set, settings, with_store
from engine.cli.decide import say_approval
from engine.cli.output import NO, Json, Stop, say, say_json, say_table, table
from engine.console.model import Incident, IncidentDetail
from engine.console.pages import clock_time, place, span
from engine.console.views import evidence_summary, row_in_words
from engine.edge.clock import now_ms
from engine.edge.console_store import PostgresStore
from engine.edge.database import Database
from engine.edge.settings import Settings

_ROWS_SHOWN = 5
"""How many rows of one piece of evidence are shown: enough to decide by at a terminal."""

Number = Annotated[int, typer.Argument(metavar="N", help="Number of the incident.")]


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
    """Show one incident: who has it, what was found and done, who was told, what it waits for."""
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
    if detail.acknowledged_by:
        at = f", {clock_time(detail.acknowledged_ms)}" if detail.acknowledged_ms else ""
        say(f"acknowledged by {detail.acknowledged_by}{at}")
    if detail.waits_for:
        until = f", until {clock_time(detail.waits_until_ms)}" if detail.waits_until_ms else ""
        say(f"waits for {detail.waits_for}{until}")
    if detail.merged_into is not None:
        say(f"merged into incident {detail.merged_into}")
    for alert in detail.joined:
        say(f"joined: {alert.name}, {alert.standing}")
    _say_timeline(detail)
    _say_evidence(detail)
    _say_commands(detail)
    _say_notices(detail)
    for waiting in detail.approvals:
        say()
        say_approval(waiting)


def _say_timeline(detail: IncidentDetail) -> None:
    say("\nTimeline")
    shown = table("", "", "")
    shown.show_header = False
    for entry in detail.timeline:
        shown.add_row(f"  {clock_time(entry.at_ms)}", entry.kind, entry.text)
    say_table(shown)


def _say_evidence(detail: IncidentDetail) -> None:
    if not detail.evidence:
        return
    say("\nEvidence")
    shown = table("", "", "")
    shown.show_header = False
    for item in detail.evidence:
        shown.add_row(f"  {clock_time(item.at_ms)}", item.name, evidence_summary(item))
        for row in item.rows[:_ROWS_SHOWN] if len(item.rows) > 1 else ():
            shown.add_row("", "", row_in_words(item.columns, row))
        if len(item.rows) > _ROWS_SHOWN:
            shown.add_row(
                "", "", f"and {len(item.rows) - _ROWS_SHOWN} more; `sentinel report {detail.incident.id}` has them"
            )
    say_table(shown)


def _say_notices(detail: IncidentDetail) -> None:
    if not detail.notices:
        return
    say("\nNotices")
    shown = table("", "", "", "")
    shown.show_header = False
    for notice in detail.notices:
        shown.add_row(f"  {clock_time(notice.at_ms)}", notice.kind, ", ".join(notice.told), notice.text)
        for one in notice.deliveries:
            shown.add_row("", "", "", str(one))
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
    html: Annotated[bool, typer.Option("--html", help="As a page by itself, with a plot of the metric.")] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Print the incident report in Markdown or HTML, written from the stored rows."""

    async def work(database: Database) -> str | None:
        store = PostgresStore(database, now_ms)
        return await (store.report_page(number) if html else store.report(number))

    text = with_store(settings(config, set_).settings, work)
    if text is None:
        raise Stop(f"there is no incident {number}; `sentinel incidents` lists them", NO)
    if output is not None:
        output.write_text(text, encoding="utf-8")
        say(f"written to {output}")
    elif json:
        say_json({"incident": number, "html" if html else "markdown": text})
    else:
        typer.echo(text, nl=not text.endswith("\n"))
