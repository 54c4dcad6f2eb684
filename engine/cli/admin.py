"""Commands about the installation: run, config, keys, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import Config, Set, settings, with_store
from engine.cli.output import NO, Json, Stop, say, say_json, say_table, table
from engine.edge import audit as audit_rows
from engine.edge import keys as key_files
from engine.edge.database import Database
from engine.edge.logging import configure
from engine.edge.settings_view import entries
from engine.flow import ROLES, RoleName
from engine.response import signing

keys = typer.Typer(help="Signing keys of commands.", no_args_is_help=True)
audit = typer.Typer(help="The audit chain.", no_args_is_help=True)


def run(
    role: Annotated[
        list[str] | None, typer.Option("--role", help=f"Host only these roles: {', '.join(ROLES)}; default all.")
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Stands for http.listen.")] = None,
    state_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Stands for state_dir.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="Stands for log.level.")] = None,
    mode: Annotated[str | None, typer.Option(metavar="MODE", help="Stands for responder.mode.")] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Run Sentinel: every role in one process, or those named."""
    roles = parse_roles(role or [])
    loaded = settings(config, set_, listen=listen, state_dir=state_dir, log_level=log_level, mode=mode)
    configure(loaded.settings.log, loaded.settings.instance)
    from engine.edge.run import run as run_roles  # Faust takes a second to import: only here

    raise typer.Exit(run_roles(loaded.settings, roles))


def parse_roles(given: list[str]) -> frozenset[RoleName]:
    """Roles from `--role a,b --role c`; none given means all. Raises `Stop` for an unknown one."""
    named = {role.strip() for text in given for role in text.split(",") if role.strip()}
    unknown = sorted(named - set(ROLES))
    if unknown:
        raise Stop(f"unknown role {', '.join(unknown)}; known are {', '.join(ROLES)}")
    return frozenset(role for role in ROLES if role in named or not named)


def config(json: Json = False, config: Config = None, set_: Set = None) -> None:
    """Print every setting in force, where it came from, secrets masked."""
    found = entries(settings(config, set_))
    if json:
        say_json(found)
        return
    shown = table("KEY", "VALUE", "FROM")
    for entry in found:
        shown.add_row(entry.key, _plain(entry.value), entry.origin)
    say_table(shown)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return '""' if value in ("", None) else "{}" if value == {} else str(value)


@keys.command("generate")
def keys_generate(
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the two files to.")] = Path(),
    json: Json = False,
) -> None:
    """Make an Ed25519 key pair: one file for the responder, one for the executors."""
    private, public = folder / "signing.pem", folder / "signing.pub.pem"
    for file in (private, public):
        if file.exists():
            raise Stop(f"{file} is there already; move it away first, executors may still trust it", NO)
    key = key_files.signing_key(folder)
    name = signing.key_id(key.public_key())
    if json:
        say_json({"key_id": name, "private_key_file": str(private), "public_key_file": str(public)})
        return
    say(f"key {name}")
    say(f"  {private}  for the responder: responder.private_key_file; keep it secret")
    say(f"  {public}  for executors: executor.public_keys")


@audit.command("verify")
def audit_verify(json: Json = False, config: Config = None, set_: Set = None) -> None:
    """Check the whole chain of decisions; exit 1 at the first row that does not hold."""

    async def work(database: Database) -> tuple[int, str]:
        async with database.connection() as conn:
            broken = await audit_rows.verify(conn)
            count = await conn.fetchval("select count(*) from audit")
        return count, str(broken) if broken is not None else ""

    count, problem = with_store(settings(config, set_).settings, work)
    if json:
        say_json({"rows": count, "ok": not problem, "problem": problem})
    elif not problem:
        say(f"the audit chain holds: {count} rows")
    if problem:
        raise Stop(f"the audit chain is broken at {problem}", NO)
