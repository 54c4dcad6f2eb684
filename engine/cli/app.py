"""The `sentinel` command. Exit codes: 0 done, 1 the answer is no, 2 could not be asked, 130 interrupted."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine.cli import admin, decide, incidents, replay, rules, test
from engine.cli.common import fail

app = typer.Typer(
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


for command in (
    admin.run,
    rules.check,
    incidents.incidents,
    incidents.incident,
    incidents.report,
    decide.approvals,
    decide.approve,
    decide.deny,
    decide.acknowledge,
    decide.close,
    decide.note,
    decide.pause,
    decide.resume,
    replay.replay,
    admin.config,
):
    app.command()(command)
app.command("test")(test.run_tests)
app.add_typer(admin.keys, name="keys")
app.add_typer(admin.audit, name="audit")


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
