"""Reading the parts of a runbook file: every part either gives its value or says what is wrong and where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from engine.core import duration
from engine.core.diagnostics import Document, Path, Problem
from engine.core.expression import ExpressionError
from engine.response.binding import Bound
from engine.response.conditions import Condition, Text, TextError, condition, template
from engine.response.steps import Actions, Named

QueryKind = Literal["promql", "logql", "lines"]
CheckQuery = Callable[[QueryKind, str], None]
"""Parses a query, of `lines` a log query in LogQL. Raises `ExpressionError`."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass
class Reader:
    """One document being read, and what was found wrong with it so far. No `check_query`: queries are not parsed."""

    document: Document
    actions: Actions
    check_query: CheckQuery | None = None
    problems: list[Problem] = field(default_factory=list)
    names: list[Named] = field(default_factory=list)

    def refuse(self, path: Path, message: str, *, key: bool = False) -> None:
        """Note a problem."""
        self.problems.append(self.document.problem(path, message, key=key))

    def mapping(self, path: Path, item: object, what: str, known: Iterable[str]) -> Mapping[str, object]:
        """A mapping of known keys; unknown ones are refused."""
        if not isinstance(item, dict):
            self.refuse(path, f"{what} is a mapping")
            return {}
        names = sorted(known)
        for key in item:
            if key not in names:
                self.refuse((*path, key), f"unknown key {key!r} in {what}; known: {', '.join(names)}", key=True)
        return item

    def string(self, path: Path, item: object, what: str) -> str:
        """A text that must be there; "" when it is not."""
        if not isinstance(item, str) or not item.strip():
            self.refuse(path, f"{what} is a text that is not empty")
            return ""
        return item

    def optional(self, path: Path, data: Mapping[str, object], key: str) -> str | None:
        """The text under a key, None where the key is not there."""
        return self.string((*path, key), data[key], f"`{key}`") if key in data else None

    def strings(self, path: Path, item: object, what: str) -> tuple[str, ...]:
        """A list of texts (one text is a list of one)."""
        if isinstance(item, str):
            item = [item]
        if not isinstance(item, list):
            self.refuse(path, f"{what} is a text or a list of texts")
            return ()
        return tuple(self.string((*path, i), part, what) for i, part in enumerate(item))

    def receivers(self, path: Path, item: object) -> tuple[str, ...]:
        """Whom to tell: names of receivers or e-mail addresses, kept with their places in `names`."""
        found = self.strings(path, item, "`to`")
        for i, name in enumerate(found):
            line, column = self.document.at((*path, i) if isinstance(item, list) else path)
            self.names.append(Named(name, line, column))
        return found

    def duration_ms(self, path: Path, item: object, default_ms: int) -> int:
        """A duration as in rule files, `default_ms` when it is not given."""
        if item is None:
            return default_ms
        try:
            return duration.parse_ms(str(item))
        except ValueError as error:
            self.refuse(path, str(error))
            return default_ms

    def count(self, path: Path, item: object, default: int, most: int = 1_000_000) -> int:
        """A whole number from 1, `default` when it is not given."""
        if item is None:
            return default
        if not isinstance(item, int) or isinstance(item, bool) or not 1 <= item <= most:
            self.refuse(path, f"is a whole number from 1 to {most}, not {item!r}")
            return default
        return item

    def text(self, path: Path, item: object, what: str) -> Text:
        """A Jinja text."""
        raw = self.string(path, item, what)
        try:
            return template(raw)
        except TextError as error:
            self.refuse_inside(path, error.message, (error.line, error.column))
            return Text("")

    def object_name(self, path: Path, target: Text, what: str, kinds: Sequence[str]) -> None:
        """Refuse a text that cannot come to name an object, `NAMESPACE/KIND/NAME`, as far as can be seen unfilled."""
        parts = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "{", target.text, flags=re.DOTALL).split("/")
        if not target.is_literal and len(parts) < 3:
            return
        if len(parts) != 3 or ("{" not in parts[1] and parts[1] not in kinds):
            self.refuse(path, f"{what} is NAMESPACE/KIND/NAME of kind {' or '.join(kinds)}: {target.text!r}")

    def condition(self, path: Path, item: object, what: str) -> Condition | None:
        """A CEL expression; YAML's own true, false and numbers are taken as such."""
        if isinstance(item, bool):
            item = str(item).lower()
        elif isinstance(item, int | float):
            item = repr(item)
        raw = self.string(path, item, what)
        if not raw:
            return None
        try:
            return condition(raw)
        except TextError as error:
            self.refuse_inside(path, error.message, (error.line, error.column))
            return None

    def query(self, path: Path, kind: QueryKind, query: Bound) -> None:
        """Parse a query with an example in each of its places."""
        if self.check_query is None:
            return
        try:
            self.check_query(kind, query.example())
        except ExpressionError as error:
            self.refuse_inside(path, error.message, (error.line, error.column))

    def refuse_inside(self, path: Path, message: str, at: tuple[int, int]) -> None:
        """Note a problem at a line and column (from 1) of the text that stands at the path."""
        line, column = self.document.inside(path, *at)
        self.problems.append(Problem(self.document.file, line, column, message))
