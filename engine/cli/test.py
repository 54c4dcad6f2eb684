"""`sentinel test`: the unit tests of runbooks and rules, each file by the runners whose key it has."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import re2
import typer
from msgspec import Struct

from engine.cli.output import NO, Json, Stop, complain, say, say_json, say_table, show_problem, table
from engine.core.diagnostics import Document, Problem, load_yaml

if TYPE_CHECKING:
    from engine.loading import Loaded
    from engine.response.coverage import CoveredWay
    from engine.response.runbooktest import Course
    from engine.ruletest import CaseResult, TestFile

Paths = Annotated[list[Path] | None, typer.Argument(metavar="PATHS", help="Test files and folders; default ./rules.")]
Run = Annotated[
    list[str] | None,
    typer.Option("--run", metavar="REGEX", help="Only rule tests with a matching name, no runbook tests; repeatable."),
]
Coverage = Annotated[
    bool, typer.Option("--coverage", help="Print every way of the runbooks and the cases that took it.")
]
Least = Annotated[
    int | None,
    typer.Option("--min-coverage", metavar="PERCENT", min=0, max=100, help="Fail if fewer ways of runbooks are taken."),
]


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


@dataclass
class Session:
    """What one call of the command works with: the rule tests wanted, rules by folder, how runbook tests went."""

    wanted: re2._Regexp | None
    folders: dict[Path, Loaded] = field(default_factory=dict)
    courses: list[Course] = field(default_factory=list)

    def rules(self, folder: Path) -> Loaded:
        """All rules and runbooks below a folder."""
        from engine.loading import load  # brings the rule languages, which other commands start faster without

        if folder not in self.folders:
            self.folders[folder] = load([folder])
        return self.folders[folder]

    def ways(self) -> list[CoveredWay]:
        """Every way that the loaded runbooks name, and how many cases took it."""
        from engine.response.coverage import coverage

        runbooks = {(one.file, one.name): one for rules in self.folders.values() for one in rules.runbooks}
        return coverage(runbooks.values(), self.courses)


Runner = Callable[[list[Document], Path, Session], Ran]


def run_tests(
    paths: Paths = None, run: Run = None, coverage: Coverage = False, least: Least = None, json: Json = False
) -> None:
    """Run the unit tests of rules (promtool's files, too) and runbooks; exit 1 if a case fails or there is none."""
    started_s = time.monotonic()
    session = Session(_pattern(run or []))
    total = Ran()
    for file in _files(paths or [Path("rules")], session):
        total.add(_run_file(file, session))
    for rules in session.folders.values():
        total.problems = [*total.problems, *rules.errors]
    ways = session.ways() if session.courses or coverage or least is not None else []
    total.problems = [*total.problems, *_untaken(ways, least)]
    problems = sorted(total.problems)
    ok = all(problem.severity != "error" for problem in problems)
    if json:
        say_json({"ok": ok, "cases": total.cases, "failed": total.failed, "problems": problems, "ways": ways})
    else:
        for problem in problems:
            complain(show_problem(problem))
        if coverage:
            _say_ways(ways)
        took_s = time.monotonic() - started_s
        say(f"{total.cases} cases: {total.cases - total.failed} passed, {total.failed} failed ({took_s:.1f} s)")
        if ways:
            say(f"{sum(way.cases > 0 for way in ways)} of {len(ways)} ways of runbooks taken")
    if not ok:
        raise typer.Exit(NO)
    if not total.cases:
        raise Stop(_nothing(session), NO)


def _untaken(ways: list[CoveredWay], least: int | None) -> Iterator[Problem]:
    """The ways that no case took: errors where that is more than allowed."""
    from engine.response.coverage import share

    found = share(ways)
    severity: Literal["error", "warning"] = "error" if least is not None and found < least else "warning"
    for way in ways:
        if not way.cases:
            message = f"{way.runbook}: no case takes `{way.way}` of step {way.step}"
            yield Problem(way.file, way.line, way.column, message, severity)


def _say_ways(ways: list[CoveredWay]) -> None:
    shown = table("RUNBOOK", "STEP", "WAY", "CASES", "PLACE")
    for way in ways:
        shown.add_row(way.runbook, way.step, way.way, str(way.cases), f"{way.file}:{way.line}")
    say_table(shown)


def _pattern(run: list[str]) -> re2._Regexp | None:
    try:
        return re2.compile("|".join(f"(?:{one})" for one in run)) if run else None
    except re2.error as error:
        raise Stop(f"--run is not a regular expression: {error}") from error


def _nothing(session: Session) -> str:
    if session.wanted:
        return "there is no rule test with such a name"
    return "there is no test to run; tests are .yml files in a folder called `tests` beside the rules"


def _files(paths: Iterable[Path], session: Session) -> Iterator[Path]:
    """The test files: those that are named, and those below a folder."""
    for path in paths:
        if not path.is_dir():
            yield path
        elif path.name == "tests":
            yield from sorted(path.glob("*.y*ml"))
        else:
            yield from session.rules(path).tests


def _run_file(file: Path, session: Session) -> Ran:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Ran(problems=[Problem(str(file), 1, 1, f"cannot be read: {error}")])
    documents, problems = load_yaml(text, str(file))
    if problems:
        return Ran(problems=problems)
    keys = {key for document in documents if isinstance(document.data, dict) for key in document.data}
    if not keys & _RUNNERS.keys():
        known = ", ".join(f"`{key}`" for key in _RUNNERS)
        return Ran(problems=[Problem(str(file), 1, 1, f"holds no test: it has none of the keys {known}")])
    total = Ran()
    for key in sorted(keys & _RUNNERS.keys()):
        total.add(_RUNNERS[key](documents, file, session))
    return total


def _run_runbooks(documents: list[Document], file: Path, session: Session) -> Ran:
    from engine.actions import load_actions
    from engine.response.runbooktest import run_all

    if session.wanted:
        return Ran()
    rules = session.rules(file.parent.parent if file.parent.name == "tests" else file.parent)
    count = sum(len(document.data.get("runbook_tests") or ()) for document in documents)
    failures, courses = run_all(file.read_text(encoding="utf-8"), str(file), rules.runbooks, actions=load_actions())
    session.courses += courses.values()
    problems = [Problem(one.file, one.line, one.column, f"{one.case}: {one.message}") for one in failures]
    return Ran(count, len({failure.case for failure in failures}), problems)


def _run_rules(documents: list[Document], file: Path, session: Session) -> Ran:
    from engine.languages import load_rules, with_step
    from engine.ruletest import read_document
    from engine.ruletest import run_tests as run_rule_tests

    found, problems = read_document(documents[0])
    if found is None:
        return Ran(problems=problems)
    if session.wanted:
        found = replace(found, tests=tuple(test for test in found.tests if session.wanted.search(test.name)))
    files, warnings = _rule_files(file, found)
    languages = with_step(found.evaluation_interval_ms)
    groups, wrong = load_rules(files, languages)
    warnings += wrong
    if any(problem.severity == "error" for problem in wrong):
        return Ran(problems=warnings)
    results = run_rule_tests(found, groups, languages)
    said = [problem for result in results if (problem := _said(result))]
    return Ran(len(results), sum(not result.passed for result in results), [*warnings, *said])


def _said(result: CaseResult) -> Problem | None:
    head = f"{result.test}: {result.what}"
    place = (result.file, result.line, result.column)
    if not result.passed:
        return Problem(*place, f"{head}\n{result.diff}")
    return Problem(*place, f"{head}: {result.warning}", "warning") if result.warning else None


def _rule_files(test_file: Path, found: TestFile) -> tuple[list[Path], list[Problem]]:
    """The rule files a test file names, relative to it; a pattern without a match is a warning, as in promtool."""
    files: list[Path] = []
    warnings = []
    for one in found.rule_files:
        matching = sorted(glob.glob(str(test_file.parent / one.pattern)))
        files += map(Path, matching)
        if not matching:
            message = f"no rule file matches {one.pattern!r}"
            warnings.append(Problem(found.file, one.line, one.column, message, "warning"))
    return files, warnings


_RUNNERS: dict[str, Runner] = {"tests": _run_rules, "runbook_tests": _run_runbooks}
