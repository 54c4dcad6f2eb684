"""Commands by which people decide: approvals, approve, deny, acknowledge, close, note, pause, resume.

What a person says yes or no to is what was printed: the decision carries the hash of that text.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine.cli.common import By, Config, Set, settings, with_store
from engine.cli.output import NO, Json, Stop, say, say_json
from engine.console.model import (
    Approval,
    Decision,
    DecisionRefusedError,
    OperatorKind,
    OperatorRefusedError,
    Said,
)
from engine.console.pages import clock_time, compact, span
from engine.edge.clock import now_ms
from engine.edge.console_store import PostgresStore
from engine.edge.database import Database
from engine.edge.settings import Settings

CommandId = Annotated[str, typer.Argument(metavar="ID", help="The command, as `sentinel approvals` shows it.")]
Number = Annotated[int, typer.Argument(metavar="N", help="Number of the incident.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the audit.")]
Hash = Annotated[
    str,
    typer.Option("--sha256", metavar="HASH", help="Decide only if the command's hash starts so; 8 digits or more."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]
_HASH_MIN = 8


def approvals(json: Json = False, config: Config = None, set_: Set = None) -> None:
    """List commands that wait for a person: the question, the whole command, its hash."""
    found = with_store(settings(config, set_).settings, lambda db: PostgresStore(db, now_ms).approvals())
    if json:
        say_json(found)
        return
    if not found:
        say("nothing waits for approval")
    for index, waiting in enumerate(found):
        if index:
            say()
        say_approval(waiting)


def say_approval(waiting: Approval) -> None:
    """Print everything that a person should know of a command before deciding about it."""
    say(f"{waiting.command}  incident {waiting.incident}, sha256 {waiting.short_hash}")
    if waiting.question:
        say(f"  {waiting.question}")
    say(f"  {waiting.action} on {waiting.target}")
    say(f"  {compact(waiting.params)}")
    if waiting.so_far:
        say(f"  four eyes: {waiting.so_far}")
    left = span(waiting.expires_ms - now_ms())
    say(f"  until {clock_time(waiting.expires_ms)} ({left}):")
    say(f"  sentinel approve {waiting.command} --by NAME --sha256 {waiting.short_hash}     (or deny)")


def approve(
    command: CommandId,
    by: By,
    sha256: Hash = "",
    reason: Reason = "",
    yes: Yes = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Approve a command that waits; it is then run, or where two must agree once another person has approved it."""
    _decide(command, Decision(True, by, sha256, reason), settings(config, set_).settings, ask=not yes)


def deny(
    command: CommandId,
    by: By,
    sha256: Hash = "",
    reason: Reason = "",
    yes: Yes = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Deny a command that waits; it is never run."""
    _decide(command, Decision(False, by, sha256, reason), settings(config, set_).settings, ask=not yes)


def _decide(command: str, wish: Decision, current: Settings, *, ask: bool) -> None:
    by = _name(wish.by)
    asked = with_store(current, lambda db: PostgresStore(db, now_ms).approval(command))
    if asked is None:
        raise Stop(f"no command {command} waits for approval; `sentinel approvals` lists them", NO)
    given = wish.body_sha256.lower()
    if given and len(given) < _HASH_MIN:
        raise Stop(f"--sha256 must have {_HASH_MIN} digits or more")
    if not asked.body_sha256.startswith(given):
        raise Stop(f"not decided: the command's sha256 is {asked.body_sha256}; look at it again", NO)
    word = "approve" if wish.approve else "deny"
    if ask and sys.stdin.isatty():
        say_approval(asked)
        if not typer.confirm(f"{word}?"):
            raise Stop("not decided", NO)
    # What is decided about is what was shown: the hash names it, should it be exchanged in between.
    decision = Decision(wish.approve, by, asked.body_sha256, wish.reason)

    async def work(database: Database) -> Approval:
        return await PostgresStore(database, now_ms).decide(command, decision, now_ms())

    try:
        decided = with_store(current, work)
    except DecisionRefusedError as error:
        raise Stop(f"not decided: {error}", NO) from error
    say(f"{'approved' if wish.approve else 'denied'} by {by}: {decided.action} on {decided.target}")
    say(f"  {compact(decided.params)}")
    if decided.state == "waiting":
        say(f"  {decided.so_far}: nothing is done before another person agrees")
    say(f"  command {command}, sha256 {decided.body_sha256}")


def acknowledge(number: Number, by: By, config: Config = None, set_: Set = None) -> None:
    """Say that you look after an incident; nobody else is called then."""
    _operator(number, "acknowledge", Said(by), settings(config, set_).settings)
    say(f"incident {number}: acknowledged by {by.strip()}")


def close(
    number: Number,
    by: By,
    reason: Annotated[str, typer.Option("--reason", help="Why it is over; kept in the audit.")],
    config: Config = None,
    set_: Set = None,
) -> None:
    """Close an incident by hand; what it was about to do is not done."""
    _operator(number, "close", Said(by, reason), settings(config, set_).settings)
    say(f"incident {number}: closed by {by.strip()}: {reason.strip()}")


def note(
    number: Number,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What others should know.")],
    by: By,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Add a note to the timeline of an incident."""
    _operator(number, "note", Said(by, text), settings(config, set_).settings)
    say(f"incident {number}: note by {by.strip()}")


def merge(
    number: Number,
    into: Annotated[int, typer.Option("--into", metavar="N", help="The open incident that goes on with its alerts.")],
    by: By,
    reason: Reason = "",
    config: Config = None,
    set_: Set = None,
) -> None:
    """Merge an incident into another one: it is closed, its alerts join, what it was about to do is not done."""
    _operator(number, "merge", Said(by, reason, into), settings(config, set_).settings)
    say(f"incident {number}: merged into incident {into} by {by.strip()}")


def reopen(
    number: Number,
    by: By,
    reason: Annotated[str, typer.Option("--reason", help="Why it is not over; kept in the audit.")],
    config: Config = None,
    set_: Set = None,
) -> None:
    """Open an incident again; it is yours, and nothing is done by itself until its alert fires anew."""
    _operator(number, "reopen", Said(by, reason), settings(config, set_).settings)
    say(f"incident {number}: opened again by {by.strip()}: {reason.strip()}")


def _operator(number: int, kind: OperatorKind, said: Said, current: Settings) -> None:
    meant = Said(_name(said.by), said.text.strip(), said.into)
    if kind in ("close", "note", "reopen") and not meant.text:
        raise Stop("the note is empty" if kind == "note" else "--reason must say why")
    try:
        with_store(current, lambda db: PostgresStore(db, now_ms).operator(number, kind, meant, now_ms()))
    except OperatorRefusedError as error:
        raise Stop(str(error), NO) from error


def pause(by: By, config: Config = None, set_: Set = None) -> None:
    """Stop every command, everywhere, at once; detection goes on."""
    current = settings(config, set_).settings
    _set_pause(True, by, current)
    say(f"paused by {by.strip()}")
    taken = with_store(current, lambda db: PostgresStore(db, now_ms).under_way())
    if not taken:
        say("no command is under way")
    for one in taken:
        doubt = ", its executor may be gone" if one.lapsed else ""
        since = f"for {span(now_ms() - one.since_ms)} by {one.executor}{doubt}"
        say(f"under way: {one.action} on {one.target}, incident {one.incident}, {since}")


def resume(by: By, config: Config = None, set_: Set = None) -> None:
    """Let commands run again. Those refused while paused stay refused."""
    _set_pause(False, by, settings(config, set_).settings)
    say(f"resumed by {by.strip()}; commands that were refused while paused stay refused")


def _set_pause(paused: bool, by: str, current: Settings) -> None:
    name = _name(by)
    with_store(current, lambda db: PostgresStore(db, now_ms).set_pause(paused=paused, by=name, now_ms=now_ms()))


def _name(by: str) -> str:
    if not by.strip():
        raise Stop("--by must be a name")
    return by.strip()
