"""Reading rule and runbook files from disk: every file of the given paths, and every problem in them at once.

Below a folder, `runbooks/` holds runbooks, `tests/` unit tests, and every other file in .yml or .yaml is a rule file
whose language its folder tells (`languages`). A file that is named itself is looked at as well, wherever it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine import promql
from engine.actions import load_actions
from engine.core.diagnostics import Problem
from engine.core.expression import ExpressionError
from engine.core.recording import circles
from engine.core.rules import DEFAULT_INTERVAL_MS, RuleGroup, parse_rules
from engine.languages import LANGUAGES, language_of
from engine.response.reader import QueryKind
from engine.response.runbook import Runbook, read_runbooks
from engine.response.runbook_escalation import Defaults, with_defaults

_SUFFIXES = (".yml", ".yaml")


@dataclass
class Loaded:
    """What was found. `texts` are the files as they were read, by namespace: a bundle takes them along."""

    groups: list[RuleGroup] = field(default_factory=list)
    runbooks: list[Runbook] = field(default_factory=list)
    defaults: list[Defaults] = field(default_factory=list)
    tests: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """The problems that forbid to run."""
        return [problem for problem in self.problems if problem.severity == "error"]


def load(paths: Iterable[Path], keep: Sequence[str] = ()) -> Loaded:
    """Load everything below the paths. A path that does not exist, or holds no file, is a problem like any other.

    `keep` are PromQL selectors, such as `up[1h]`, whose data is held for queries though no rule reads it.
    """
    loaded = Loaded()
    for root in paths:
        found = list(_files(root))
        if not found:
            what = "there is no rule file below it" if root.exists() else "there is no such file or folder"
            loaded.problems.append(Problem(str(root), 1, 1, what))
        for path in found:
            namespace = path.relative_to(root).as_posix() if root.is_dir() else path.name
            _load_file(loaded, path, namespace=path.as_posix() if namespace in loaded.texts else namespace)
    _complete(loaded)
    loaded.problems += [*_repeated_runbooks(loaded.runbooks), *_circles(loaded.groups)]
    _keep(loaded, keep)
    return loaded


def fingerprint(paths: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when a file below the paths does: every file with its inode, size and time of change."""
    found = []
    for root in paths:
        for path in _files(root):
            with contextlib.suppress(OSError):  # gone in this moment: it will be missed the next time
                stat = path.stat()
                found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def load_texts(texts: dict[str, str]) -> Loaded:
    """Load files that are already in memory, by namespace (from a bundle)."""
    loaded = Loaded()
    for namespace, text in sorted(texts.items()):
        _load_text(loaded, Path(namespace), text, namespace)
    _complete(loaded)
    return loaded


def check_query(kind: QueryKind, text: str) -> None:
    """Parse a query of a runbook, as its language's rules are. Raises `ExpressionError`."""
    if kind == "lines":
        from engine.logql.log_query import compile_log_query  # with its grammar, only where it is needed

        compile_log_query(text)
    else:
        LANGUAGES[kind](text)


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    elif root.is_dir():
        yield from sorted(path for path in root.rglob("*") if path.suffix in _SUFFIXES and path.is_file())


def _load_file(loaded: Loaded, path: Path, namespace: str) -> None:
    if path.parent.name == "tests":
        loaded.tests.append(path)
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        loaded.problems.append(Problem(str(path), 1, 1, f"cannot be read: {error}"))
        return
    _load_text(loaded, path, text, namespace)


def _load_text(loaded: Loaded, path: Path, text: str, namespace: str) -> None:
    loaded.texts[namespace] = text
    if _is_runbook(path, text):
        found = read_runbooks(text, str(path), actions=load_actions(), check_query=check_query)
        loaded.runbooks += found.runbooks
        loaded.defaults += found.defaults
        problems = found.problems
    else:
        groups, problems = parse_rules(text, str(path), LANGUAGES[language_of(path)], namespace=namespace)
        loaded.groups += groups
    loaded.problems += problems


def _is_runbook(path: Path, text: str) -> bool:
    heads = ("runbooks:", "defaults:")
    return path.parent.name == "runbooks" or any(line.startswith(heads) for line in text.splitlines())


def _complete(loaded: Loaded) -> None:
    """All files are read: runbooks without an escalation get the default one."""
    loaded.runbooks, problems = with_defaults(loaded.runbooks, loaded.defaults)
    loaded.problems += problems


def _keep(loaded: Loaded, selectors: Sequence[str]) -> None:
    kept = []
    for text in selectors:
        try:
            kept.append(promql.compile(text, any_type=True))
        except ExpressionError as error:
            loaded.problems.append(Problem("rules.keep", error.line, error.column, f"{error.message} in {text!r}"))
    if kept:
        loaded.groups.append(RuleGroup("rules.keep", "rules.keep", DEFAULT_INTERVAL_MS, 0, (), kept=tuple(kept)))


def _circles(groups: Sequence[RuleGroup]) -> Iterator[Problem]:
    for group, others in circles(groups):
        text = f"group {group.name!r} and {', '.join(others)} read what each other record: none waits for the other"
        yield Problem(group.file, 1, 1, text, "warning")


def _repeated_runbooks(runbooks: Iterable[Runbook]) -> Iterator[Problem]:
    first: dict[str, Runbook] = {}
    for runbook in runbooks:
        if runbook.name in first:
            other = first[runbook.name].file
            yield Problem(runbook.file, 1, 1, f"runbook {runbook.name!r} stands in {other} already")
        first.setdefault(runbook.name, runbook)
