"""`sentinel schema`: the JSON Schema of files that people write, for their editors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from engine.cli.output import say_json


class What(StrEnum):
    """The files that have a schema."""

    runbooks = "runbooks"


def schema(what: Annotated[What, typer.Argument(help="Which files.")]) -> None:
    """Print the JSON Schema of runbook files; docs/runbook.schema.json is this."""
    from engine.actions import load_actions
    from engine.response.runbook_schema import schema as of_runbooks

    del what  # there is one
    say_json(of_runbooks(load_actions()))
