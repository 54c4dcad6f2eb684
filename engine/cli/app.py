"""The `sentinel` command. Exit codes: 0 done, 1 the answer is no, 2 could not be asked, 130 interrupted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from engine.cli.output import fail

_COMMANDS = {
    "run": "admin.run",
    "check": "rules.check",
    "test": "test.run_tests",
    "incidents": "incidents.incidents",
    "incident": "incidents.incident",
    "report": "incidents.report",
    "approvals": "decide.approvals",
    "approve": "decide.approve",
    "deny": "decide.deny",
    "acknowledge": "decide.acknowledge",
    "close": "decide.close",
    "note": "decide.note",
    "merge": "decide.merge",
    "reopen": "decide.reopen",
    "silence": "silences.silence",
    "pause": "decide.pause",
    "resume": "decide.resume",
    "replay": "replay.replay",
    "notify": "notify.notify",
    "permissions": "permissions.permissions",
    "schema": "schema.schema",
    "config": "admin.config",
    "keys": "admin.keys",
    "audit": "admin.audit",
}


class _Commands(Mapping[str, Any]):
    """Every command by its name; its module comes with it when it is asked for, as all of them take half a second."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = _COMMANDS[name].partition(".")
        made = getattr(import_module(f"engine.cli.{module}"), attribute)
        alone = typer.Typer(rich_markup_mode=None)
        if isinstance(made, typer.Typer):
            alone.add_typer(made, name=name)
        else:
            alone.command(name)(made)
        return typer.main.get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Group(TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()  # type: ignore[assignment]  # it is only read


app = typer.Typer(
    cls=_Group,
    help="Aureus Sentinel: watches metrics and logs as they stream by, decides, and repairs.\n\n"
    "Exit codes: 0 done; 1 the answer is no (errors in files, failed tests, a replay that differs, no such incident); "
    "2 it could not be asked (wrong usage or settings, nothing to connect to); 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    del debug  # read by `main`: an error may come before the options are parsed


def main() -> None:
    """The entry point: every error is one clear line, unless `--debug` asks for the traceback."""
    debug = "--debug" in sys.argv[1:]
    try:
        app(prog_name="sentinel")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # the last stop: whatever it is, the user reads a line and gets an exit code
        if debug:
            raise
        fail(error)
