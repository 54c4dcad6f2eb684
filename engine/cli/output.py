"""What every command says and how it ends: output for people and for programs, errors in one clear line.

Exit codes: 0 done; 1 the answer is no (a file has errors, a test failed, a replay differs, there is no such
incident); 2 it could not be asked (wrong usage or settings, nothing to connect to); 130 interrupted.

Nothing here needs settings or a database: commands that do without start at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.core.diagnostics import Problem
from engine.core.masking import mask_text

NO = 1
CANNOT = 2
_LONGEST_LINE = 160


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Stop(Exception):  # noqa: N818  # it ends a command, which is not always an error
    """End the command with a message on standard error and an exit code."""

    def __init__(self, message: str, code: int = CANNOT) -> None:
        super().__init__(message)
        self.code = code


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
    line, column = _shortened(lines[problem.line - 1], problem.column)
    number = str(problem.line)
    # Tabs stay tabs in the padding, so that the caret stands right whatever a tab is worth.
    padding = "".join("\t" if sign == "\t" else " " for sign in line[: column - 1])
    margin = " " * len(number)
    return f"{text}\n {number} | {line}\n {margin} | {padding}^"


def _shortened(line: str, column: int) -> tuple[str, int]:
    """A long line cut down to what is around a column, and where the column is in it."""
    if len(line) <= _LONGEST_LINE:
        return line, column
    start = max(0, column - 1 - _LONGEST_LINE // 2)
    head, tail = "…" if start else "", "…" if start + _LONGEST_LINE < len(line) else ""
    return head + line[start : start + _LONGEST_LINE] + tail, column - start + len(head)


def explain(error: Exception) -> tuple[str, int]:
    """The message and exit code for an error that a command did not handle itself."""
    if isinstance(error, Stop):
        return f"sentinel: {error}", error.code
    text = str(error).strip() or type(error).__name__
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"sentinel: {kind}{text} (--debug shows where)", CANNOT


def fail(error: Exception) -> NoReturn:
    """End the process for an error, in its own words."""
    message, code = explain(error)
    complain(message)
    raise SystemExit(code)
