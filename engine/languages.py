"""The rule languages, by the names of their folders.

A language is a package beside this file with a function `compile(text) -> Expression`. Its rule files stand in a folder
named after it or after the program they come from (`rules/promql/*.yml`, `/etc/loki/rules/*.yml`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from engine import promql
from engine.core.diagnostics import Problem
from engine.core.expression import Expression
from engine.core.rules import Compile, RuleGroup, parse_rules


def _logql(text: str) -> Expression:
    """LogQL's `compile`. It comes with its grammar when it is first used: most tests of rules go without."""
    from engine import logql

    return logql.compile(text)


LANGUAGES: dict[str, Compile] = {"promql": promql.compile, "logql": _logql}
_FOLDERS = {"promql": "promql", "prometheus": "promql", "logql": "logql", "loki": "logql"}


def language_of(path: Path) -> str:
    """The language of a rule file: by its nearest ancestor folder that says it, else PromQL, as most are."""
    return next((_FOLDERS[part] for part in reversed(path.parts[:-1]) if part in _FOLDERS), "promql")


def with_step(step_ms: int) -> dict[str, Compile]:
    """The languages, subqueries that name no step going by this one: a rule test's evaluation interval, say."""
    return {**LANGUAGES, "promql": partial(promql.compile, step_ms=step_ms)}


def load_rules(paths: Iterable[Path], languages: dict[str, Compile]) -> tuple[list[RuleGroup], list[Problem]]:
    """The groups of rule files as a rule test names them, each once, and every problem in them."""
    groups: list[RuleGroup] = []
    problems: list[Problem] = []
    for path in dict.fromkeys(paths):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(str(path), 1, 1, f"cannot be read: {error}"))
            continue
        found, wrong = parse_rules(text, str(path), languages[language_of(path)])
        groups += found
        problems += wrong
    return groups, problems
