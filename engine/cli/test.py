"""`sentinel test`: the unit tests of runbooks and rules, each file by the runners whose key it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from engine.cli.common import NO, Json, Stop, complain, say, say_json, show_problem
from engine.core.diagnostics import Problem, load_yaml

if TYPE_CHECKING:
    from engine.loading import Loaded

Paths = Annotated[list[Path] | None, typer.Argument(metavar="PATHS", help="Test files and folders; default ./rules.")]


class Ran(Struct):
    """What running some tests gave; a case may fail in several ways."""

    cases: int = 0
    failed: int = 0
    problems: list[Problem] = []

    def add(self, other: Ran) -> None:
        """Add what other tests gave."""
        self.cases += other.cases
        self.failed += other.failed
        self.problems = [*self.problems, *other.problems]


Runner = Callable[[str, str, "Loaded"], Ran]


def run_tests(paths: Paths = None, json: Json = False) -> None:
    """Run the unit tests of runbooks and rules; exit 1 if a case fails or there is none."""
    started_s = time.monotonic()
    total = Ran()
    for rules, files in _by_rules(paths or [Path("rules")]):
        total.add(_run(rules, files))
    problems = sorted(total.problems)
    if json:
        verdict = {"ok": not problems, "cases": total.cases, "failed": total.failed, "problems": problems}
        say_json(verdict)
    else:
        for problem in problems:
            complain(show_problem(problem))
        took_s = time.monotonic() - started_s
        say(f"{total.cases} cases: {total.cases - total.failed} passed, {total.failed} failed ({took_s:.1f} s)")
    if problems:
        raise typer.Exit(NO)
    if not total.cases:
        raise Stop("there is no test to run; tests are .yml files in a folder called `tests` beside the rules", NO)


def _by_rules(paths: Iterable[Path]) -> Iterator[tuple[Path, list[Path] | None]]:
    """The folder whose rules are tested, and the test files named (None: all below the folder)."""
    for path in paths:
        folder = path if path.is_dir() else path.parent
        rules = folder.parent if folder.name == "tests" else folder
        if path.is_dir():
            yield rules, None if rules == folder else sorted(path.glob("*.y*ml"))
        else:
            yield rules, [path]


def _run(rules: Path, files: list[Path] | None) -> Ran:
    from engine.loading import load  # brings the rule languages, which other commands start faster without

    loaded = load([rules])
    total = Ran(problems=loaded.errors)
    for file in loaded.tests if files is None else files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            total.add(Ran(problems=[Problem(str(file), 1, 1, f"cannot be read: {error}")]))
            continue
        total.add(_run_file(text, str(file), loaded))
    return total


def _run_file(text: str, file: str, loaded: Loaded) -> Ran:
    documents, problems = load_yaml(text, file)
    if problems:
        return Ran(problems=problems)
    keys = {key for document in documents if isinstance(document.data, dict) for key in document.data}
    total = Ran()
    for key in sorted(keys & _RUNNERS.keys()):
        total.add(_RUNNERS[key](text, file, loaded))
    if not keys & _RUNNERS.keys():
        known = ", ".join(f"`{key}`" for key in _RUNNERS)
        total.add(Ran(problems=[Problem(file, 1, 1, f"holds no test: it has none of the keys {known}")]))
    return total


def _run_runbooks(text: str, file: str, loaded: Loaded) -> Ran:
    from engine.actions import load_actions
    from engine.response.runbooktest import run_all

    documents, _ = load_yaml(text, file)
    count = sum(len(document.data.get("runbook_tests") or ()) for document in documents)
    failures, _ = run_all(text, file, loaded.runbooks, actions=load_actions())
    problems = [Problem(one.file, one.line, one.column, f"{one.case}: {one.message}") for one in failures]
    return Ran(count, len({failure.case for failure in failures}), problems)


def _run_rules(text: str, file: str, _: Loaded) -> Ran:
    from engine.languages import LANGUAGES
    from engine.loading import load
    from engine.ruletest import read_tests
    from engine.ruletest import run_tests as run_rule_tests

    found, problems = read_tests(text, file)
    if found is None:
        return Ran(problems=problems)
    rules = load(_rule_files(Path(file), found.rule_files))
    if problems or rules.errors:
        return Ran(problems=[*problems, *rules.errors])
    results = run_rule_tests(found, rules.groups, LANGUAGES)
    failed = [one for one in results if not one.passed]
    differences = [Problem(one.file, one.line, one.column, f"{one.test}: {one.what}\n{one.diff}") for one in failed]
    return Ran(len(results), len(failed), differences)


def _rule_files(test_file: Path, patterns: Iterable[str]) -> list[Path]:
    """The rule files a test names, relative to it; a pattern may match several, one that matches none is kept."""
    return [
        path
        for pattern in patterns
        for path in (sorted(test_file.parent.glob(pattern)) or [test_file.parent / pattern])
    ]


_RUNNERS: dict[str, Runner] = {"tests": _run_rules, "runbook_tests": _run_runbooks}
