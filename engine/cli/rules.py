"""`sentinel check`: rule files and runbooks, every problem at its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.common import Config, Set, settings
from engine.cli.output import NO, Json, complain, say, say_json, show_problem
from engine.core.diagnostics import Problem

if TYPE_CHECKING:
    from engine.loading import Loaded

Paths = Annotated[list[Path] | None, typer.Argument(metavar="PATHS", help="Files and folders; default ./rules.")]


def check(paths: Paths = None, json: Json = False, config: Config = None, set_: Set = None) -> None:
    """Check rule files and runbooks; every problem with its place, exit 1 if any is an error.

    With settings, what the runbooks want that these do not allow or name is a warning. Where they say who can be told
    of incidents, a name that is nobody's is an error.
    """
    from engine.loading import load  # brings the rule languages, which other commands start faster without

    loaded = load(paths or [Path("rules")])
    loaded.problems += _not_configured(loaded, config, set_)
    problems = sorted(loaded.problems)
    if json:
        say_json({"ok": not loaded.errors, "problems": problems, "loaded": _counts(loaded)})
    else:
        for problem in problems:
            complain(show_problem(problem))
        say(_summary(loaded, problems))
    if loaded.errors:
        raise typer.Exit(NO)


def _not_configured(loaded: Loaded, config: Path | None, set_: list[str] | None) -> list[Problem]:
    """What the settings lack for the runbooks; nothing where there are no settings but defaults."""
    from engine.actions import load_actions
    from engine.edge.runbook_settings import unconfigured, unknown_receivers

    current = settings(config, set_)
    strangers = unknown_receivers(loaded.runbooks, current.settings.notify)
    if not current.origins:
        return strangers
    return [*strangers, *unconfigured(loaded.runbooks, current.settings, load_actions())]


def _counts(loaded: Loaded) -> dict[str, int]:
    rules = sum(len(group.rules) for group in loaded.groups)
    return {
        "rules": rules,
        "groups": len(loaded.groups),
        "runbooks": len(loaded.runbooks),
        "test_files": len(loaded.tests),
    }


def _summary(loaded: Loaded, problems: list[Problem]) -> str:
    counts = _counts(loaded)
    parts = [
        f"{_plural(counts['rules'], 'rule')} in {_plural(counts['groups'], 'group')}",
        _plural(counts["runbooks"], "runbook"),
        _plural(counts["test_files"], "test file"),
    ]
    errors = len(loaded.errors)
    verdict = f"{_plural(errors, 'error')}, {_plural(len(problems) - errors, 'warning')}"
    return f"{', '.join(parts)}: {verdict}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
